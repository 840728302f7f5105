-- The names of all keys but the sessions' own, which 0.1.0 knows, too.
local function mailbox_of(key)
  return 'sundown:mailbox:' .. string.sub(key, #'sundown:session:' + 1)
end

