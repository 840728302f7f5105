-- Keeps what a batch of sessions hold, except of those that have a newer owner. An error is one
-- session's own: the others are saved all the same.
--
-- KEYS     the sessions: hashes of e (epoch), n (count), t (token of the last claim), f, i
--          (incarnation), p (step), s (state) and m (number of the latest push)
-- ARGV     time to live in ms, then epoch, incarnation, step, count and state of each session
-- returns  { the positions, from 0 and ascending, that have a newer owner },
--          { the positions of those that were not saved, each followed by the error },
--          { the positions of those that have m, each followed by it }

local ttl_ms = ARGV[1]
local NAMES = { 'e', 'n', 'p', 'm' }
local fenced, refused, mail = {}, {}, {}

-- One write for each session, after all that is read of it: it is saved as a whole, or not at all.
local function write(...)
  local reply = redis.pcall(...)
  return type(reply) == 'table' and reply.err or nil
end

for i, key in ipairs(KEYS) do
  local epoch, incarnation, step, count, state = unpack(ARGV, 5 * i - 3, 5 * i + 1)
  local held, failure = fields_of(key, NAMES)
  failure = failure and failure.err
  local held_epoch = held and held.e or 0
  if held_epoch > tonumber(epoch) then
    fenced[#fenced + 1] = i - 1
  else
    if failure then
      -- Nothing of it is known, so nothing of it is written.
    elseif held_epoch < tonumber(epoch) then
      -- The session has expired, or Redis has lost it: the owner's word is all there is. A token
      -- found here belongs to a claim of a lower epoch, which must not get this one by asking again.
      failure = write('HSET', key, 'e', epoch, 'n', count, 't', '', 'f', 2, 'i', incarnation, 'p',
        step, 's', state)
    else
      -- A step that is not later is of a commit that was repeated or came late, and is covered. The
      -- count never goes down, whatever the step: rows of a spill of version 0.1.0 have none.
      local held_count = held.n or 0
      if held_count > tonumber(count) then
        count = held_count
      end
      if (held.p or 0) < tonumber(step) then
        failure = write('HSET', key, 'n', count, 'p', step, 's', state)
      elseif held_count < tonumber(count) then
        failure = write('HSET', key, 'n', count)
      end
    end
    failure = failure or write('PEXPIRE', key, ttl_ms)
    if failure then
      refused[#refused + 1] = i - 1
      refused[#refused + 1] = failure
    elseif held.m then
      redis.pcall('PEXPIRE', mailbox_of(key), ttl_ms)
      mail[#mail + 1] = i - 1
      mail[#mail + 1] = held.m
    end
  end
end

return { fenced, refused, mail }
