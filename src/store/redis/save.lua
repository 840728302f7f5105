-- Keeps the counts of a batch of sessions, except of those that have a newer owner.
--
-- KEYS     the sessions: hashes of e (epoch), n (count), t (token of the last claim) and f
-- ARGV     time to live in ms, then epoch and count of each session
-- returns  the positions, from 0 and ascending, that were refused

local ttl_ms = ARGV[1]
local fenced = {}

for i, key in ipairs(KEYS) do
  local epoch, count = ARGV[2 * i], ARGV[2 * i + 1]
  local held = redis.call('HMGET', key, 'e', 'n')
  local held_epoch = tonumber(held[1]) or 0
  if held_epoch > tonumber(epoch) then
    fenced[#fenced + 1] = i - 1
  else
    if held_epoch < tonumber(epoch) then
      -- The session has expired, or Redis has lost it: the owner's word is all there is. A token
      -- found here belongs to a claim of a lower epoch, which must not get this one by asking again.
      redis.call('HSET', key, 'e', epoch, 'n', count)
      redis.call('HDEL', key, 't')
    elseif (tonumber(held[2]) or 0) < tonumber(count) then
      -- A lower count is a save that was repeated or came late, and is already covered.
      redis.call('HSET', key, 'n', count)
    end
    redis.call('PEXPIRE', key, ttl_ms)
  end
end

return fenced
