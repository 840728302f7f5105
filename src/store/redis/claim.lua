-- Gives a session its next epoch, and says what is known of it.
--
-- KEYS[1]  the session: a hash of e (epoch), n (count) and t (token of the last claim)
-- ARGV     token, time to live in ms, channel, session id
-- returns  { epoch, count, 1 if the session was known before, else 0 }

local key, token, ttl_ms, channel, session = KEYS[1], ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local held = redis.call('HMGET', key, 'e', 'n', 't')
local epoch = tonumber(held[1]) or 0
local count = tonumber(held[2]) or 0

-- The same token again is the same claim, whose answer was lost: it gets the same answer. Nobody
-- else can have claimed in between, or the token would be theirs.
if held[3] ~= token then
  epoch = redis.call('HINCRBY', key, 'e', 1)
  redis.call('HSET', key, 'n', count, 't', token)
  if epoch > 1 then
    -- Only news: the epoch is what protects the session. So a user without rights on the channel,
    -- whose PUBLISH is an error, may claim all the same.
    redis.pcall('PUBLISH', channel, session .. ' ' .. epoch)
  end
end
redis.call('PEXPIRE', key, ttl_ms)

-- The first epoch is the one that found nothing, however often it is asked for.
return { epoch, count, epoch > 1 and 1 or 0 }
