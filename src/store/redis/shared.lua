-- What stands in front of each script: where a session's mailbox is, how its fields are read, and
-- what is said of a session that somebody else has written to. No other key but the sessions' own,
-- which 0.1.0 knows, too, has a name.
local LEN_MAX, BYTES_MAX, STATE_BYTES_MAX = 256, 262144, 65536
local find, TEXTS = string.find, { t = true, s = true, o = true }

local function mailbox_of(key)
  return 'sundown:mailbox:' .. string.sub(key, #'sundown:session:' + 1)
end

local function bad(what)
  return { err = 'BADRECORD ' .. what .. ', which somebody else has written' }
end

-- These fields of a session by their names, without those that there are not; numbers are numbers.
-- Or nil and an error, also if one is no number that a session has: Lua has all of those exactly.
local function fields_of(key, names)
  local held = redis.pcall('HMGET', key, unpack(names))
  if held.err then
    return nil, held
  end
  local fields = {}
  for at = 1, #names do
    local name, value = names[at], held[at]
    if value and not TEXTS[name] then
      value = find(value, '^%d+$') and tonumber(value)
      if not value or value >= 2 ^ 53 then
        return nil, bad('its ' .. name .. ' is no number of a session')
      end
    end
    fields[name] = value or nil
  end
  if fields.s and #fields.s > STATE_BYTES_MAX then
    return nil, bad('its state is longer than 64 KiB')
  end
  return fields
end

-- Whether the list of pushes has expired before its session. Version 0.1.0, whose claims find 0 or 1
-- and ours 2 or 3, renews the session alone.
local function has_expired(held, len)
  return len == 0 and (held.f or 0) < 2
end

-- The pushes that are kept, or nil and an error. If there are fewer bytes of them than are kept,
-- somebody has removed the list, or Redis has evicted it, and what the session has received is not
-- known.
local function kept_of(key, held)
  local mailbox, bytes = mailbox_of(key), held.b or 0
  local len = redis.pcall('LLEN', mailbox)
  if type(len) == 'table' then
    return nil, len
  end
  local kept = len <= LEN_MAX and redis.call('LRANGE', mailbox, 0, -1)
  local left = BYTES_MAX
  for _, body in ipairs(kept or {}) do
    left, bytes = left - #body + 1, bytes - #body + 1
  end
  if not kept or left < 0 then
    return nil, bad('its mailbox holds more than one can')
  elseif bytes > 0 and not has_expired(held, len) then
    return nil, { err = 'LOST pushes that were kept are gone from its mailbox' }
  end
  return kept
end
