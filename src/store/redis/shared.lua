-- What stands in front of each script: where a session's mailbox is, and what is said of one that has
-- lost pushes. No other key but the sessions' own, which 0.1.0 knows, too, has a name.
local function mailbox_of(key)
  return 'sundown:mailbox:' .. string.sub(key, #'sundown:session:' + 1)
end

-- An error if there are fewer bytes of pushes than are kept: somebody has removed the list, or Redis
-- has evicted it, and what the session has received is not known.
local function lost(kept, bytes)
  for _, body in ipairs(kept) do
    bytes = bytes - #body + 1
  end
  return bytes > 0 and { err = 'LOST pushes that were kept are gone from its mailbox' } or nil
end
