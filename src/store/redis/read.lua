-- Gives the pushes to a session.
--
-- KEYS[1]  the session
-- returns  { the number of the latest push, the list of those that are kept }, or the error of a
--          command

local sent = redis.pcall('HGET', KEYS[1], 'm')
if not sent then
  return { 0, {} }
elseif type(sent) == 'table' then
  return sent
end
local kept = redis.pcall('LRANGE', mailbox_of(KEYS[1]), 0, -1)
if kept.err then
  return kept
end
return { tonumber(sent), kept }
