-- Gives the pushes to a session.
--
-- KEYS[1]  the session
-- returns  { the number of the latest push, the list of those that are kept }, or the error of a
--          command

local held = redis.pcall('HMGET', KEYS[1], 'm', 'b')
if held.err then
  return held
elseif not held[1] then
  return { 0, {} }
end
local kept = redis.pcall('LRANGE', mailbox_of(KEYS[1]), 0, -1)
if kept.err then
  return kept
end
return lost(kept, tonumber(held[2]) or 0) or { tonumber(held[1]), kept }
