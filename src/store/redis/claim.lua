-- Gives a session its next epoch, and says what is known of it.
--
-- KEYS[1]  the session: a hash of e (epoch), n (count), t (token of the last claim), f (whether
--          that found anything: 3, or 2 if not; of 0.1.0 1, or 0), i (incarnation), p (step), s
--          (state), m (number of the latest push), b (bytes of the pushes that are kept) and o (what
--          the owner is subscribed to besides the channel). Version 0.1.0 knows only the first four,
--          and leaves the others alone
-- ARGV     token, time to live in ms, channel, session id, the node's own name
-- returns  { epoch, count, 1 if the session was known before, else 0, incarnation, step, state,
--          m, the list of the pushes that are kept }, or the error of a command as it is, so that
--          its code comes first (before Redis 7 a raised one is wrapped)

local key, token, ttl_ms, channel, session = KEYS[1], ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local held, failure = fields_of(key, { 'e', 'n', 't', 'f', 'i', 'p', 's', 'm', 'b' })
if failure then
  return failure
end
local epoch, count, found = held.e or 0, held.n or 0, (held.f or 0) % 2
local incarnation, step = held.i or 0, held.p or 0
local sent, kept = held.m or 0, {}
if sent > 0 then
  kept, failure = kept_of(key, held)
  if failure then
    return failure
  end
end

-- The same token again is the same claim, whose answer was lost: it gets the same epoch, and what is
-- held by now. Nobody else can have claimed in between, or the token would be theirs.
if held.t ~= token then
  found = held.e and 1 or 0
  step = 0
  -- The time in µs is above every epoch that the session ever had, even if Redis does not know it
  -- any more (it has expired, or a crash has lost it or its last claims) and someone still counts
  -- under it: each was such a time, and no claim takes less than 1 µs. The epoch that is held
  -- matters only when the clock has been set back. As a number of Lua, the time is exact (below
  -- 2^53) until the year 2255.
  local time = redis.call('TIME')
  epoch = math.max(epoch + 1, time[1] * 1000000 + time[2])
  if incarnation == 0 then
    incarnation = epoch
  end
  -- In full: Lua would make 1.7953667935015e+15 of it.
  local digits = string.format('%.0f', epoch)
  local begun = string.format('%.0f', incarnation)
  local fields = { 'e', digits, 'n', count, 't', token, 'f', 2 + found, 'i', begun, 'p', 0,
    'o', ARGV[5] }
  if sent > 0 and #kept == 0 then
    -- If they have expired, that was before this claim.
    fields[#fields + 1], fields[#fields + 2] = 'b', 0
  end
  local written = redis.pcall('HSET', key, unpack(fields))
  if type(written) == 'table' and written.err then
    return written
  end
  -- Only news: the epoch is what protects the session. So a user without rights on the channel,
  -- whose PUBLISH is an error, may claim all the same.
  redis.pcall('PUBLISH', channel, session .. ' ' .. digits)
end
redis.call('PEXPIRE', key, ttl_ms)
if sent > 0 then
  redis.call('PEXPIRE', mailbox_of(key), ttl_ms)
end

return { epoch, count, found, incarnation, step, held.s or '', sent, kept }
