-- Gives the pushes to a session.
--
-- KEYS[1]  the session
-- returns  { the number of the latest push, the list of those that are kept }, or the error of a
--          command

local held, failure = fields_of(KEYS[1], { 'm', 'b', 'f' })
if failure then
  return failure
elseif not held.m then
  return { 0, {} }
end
local kept
kept, failure = kept_of(KEYS[1], held)
return failure or { held.m, kept }
