-- Keeps what a batch of sessions hold, as the script that saves does, and carries out what their
-- steps do to mailboxes. A commit is carried out as a whole or not at all: it reads every key that
-- it needs before its first write. It runs without `allow-oom`.
--
-- KEYS     the sessions of the commits, then the one that each push is for. Besides what the script
--          that claims says: m (number of the latest push), b (bytes of the pushes that are kept) and
--          o (what the owner is subscribed to). The pushes that are kept are a list, the oldest
--          first; in front of each stands t or b, for text or binary
-- ARGV     time to live in ms, the node's own name, channel, number of commits; then for each commit
--          epoch, incarnation, step, count, state, the number up to which pushes are confirmed, how
--          many pushes follow, and of each push its step and its body
-- returns  { the positions, from 0 and ascending, that have a newer owner },
--          { the positions of those that were not carried out, each followed by the error },
--          { the positions of sessions that have a push, each followed by the number of the latest },
--          { for each push of all others its number, 0: carried out before, -1: full, -2: unknown }

local ttl_ms, own_name, channel, commits = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local at, target_at = 4, commits
local NAMES = { 'e', 'n', 'p', 'm', 'b', 'o', 'f' }
local fenced, refused, mail, pushed = {}, {}, {}, {}
-- What is known by now of each session, what was written of it among that, and in which order.
local known, written = {}, {}

local function next_arg()
  at = at + 1
  return ARGV[at]
end

local function write(...)
  local reply = redis.pcall(...)
  return type(reply) == 'table' and reply.err or nil
end

local function read(key)
  if known[key] then
    return known[key]
  end
  local held, failure = fields_of(key, NAMES)
  if failure then
    return nil, failure.err
  end
  local mailbox = mailbox_of(key)
  local len = redis.pcall('LLEN', mailbox)
  if type(len) == 'table' then
    return nil, len.err
  end
  local sent = held.m or 0
  local session = {
    key = key, mailbox = mailbox, epoch = held.e, count = held.n or 0,
    step = held.p or 0, sent = sent, owner = held.o or own_name,
    -- A list that the hash does not know of was another session's, which has expired.
    len = sent > 0 and len or 0, is_stale = sent == 0 and len > 0,
  }
  local bytes = held.b or 0
  session.bytes = session.len > 0 and bytes or 0
  -- Until its client has received all that there was, nothing is put behind the hole.
  session.is_lost = sent > 0 and len == 0 and bytes > 0 and not has_expired(held, len)
  known[key] = session
  return session
end

local function confirm(session, number)
  if session.is_lost and number >= session.sent then
    session.is_lost = false
    return write('HSET', session.key, 'b', 0)
  end
  local dropped = math.min(number - (session.sent - session.len), session.len)
  if dropped <= 0 then
    return
  end
  local bytes = 0
  if dropped < session.len then
    bytes = session.bytes
    for _, body in ipairs(redis.call('LRANGE', session.mailbox, 0, dropped - 1)) do
      bytes = bytes - #body + 1
    end
  end
  session.len, session.bytes = session.len - dropped, bytes
  return write('LTRIM', session.mailbox, dropped, -1) or write('HSET', session.key, 'b', bytes)
end

-- What becomes of a push, or nil and an error.
local function push(session, body)
  local bytes = session.bytes + #body - 1
  if not session.epoch or session.is_lost then
    return -2
  elseif session.len >= LEN_MAX or bytes > BYTES_MAX then
    return -1
  end
  local failure = session.is_stale and write('DEL', session.mailbox)
    or write('RPUSH', session.mailbox, body)
    or write('HSET', session.key, 'm', session.sent + 1, 'b', bytes)
  if failure then
    return nil, failure
  end
  session.sent, session.len, session.bytes = session.sent + 1, session.len + 1, bytes
  session.is_stale, session.has_news = false, true
  written[#written + 1] = session
  return session.sent
end

-- What the session holds.
local function keep(session, epoch, incarnation, step, count, state)
  local held_epoch, held_step = session.epoch_before or 0, session.step
  session.step = tonumber(step)
  if held_epoch < session.epoch then
    session.count = tonumber(count)
    return write('HSET', session.key, 'e', epoch, 'n', count, 't', '', 'f', 2, 'i', incarnation, 'p',
      step, 's', state)
  end
  local is_counted = session.count < tonumber(count)
  session.count = math.max(session.count, tonumber(count))
  if held_step < session.step then
    return write('HSET', session.key, 'n', is_counted and count or session.count, 'p', step, 's',
      state)
  end
  session.step = held_step
  return is_counted and write('HSET', session.key, 'n', count) or nil
end

for i = 1, commits do
  local epoch, incarnation, step = next_arg(), next_arg(), next_arg()
  local count, state, confirmed = next_arg(), next_arg(), tonumber(next_arg())
  local session, failure = read(KEYS[i])
  local is_fenced = session and (session.epoch or 0) > tonumber(epoch)
  local is_same = session and session.epoch == tonumber(epoch)
  local pushes = {}
  for n = 1, tonumber(next_arg()) do
    local push_step, body = tonumber(next_arg()), next_arg()
    target_at = target_at + 1
    local target, is_unusable
    if session and not is_fenced and not (is_same and push_step <= session.step) then
      local target_failure
      target, target_failure = read(KEYS[target_at])
      -- Something else is under its name, or in it: that is no session.
      is_unusable = target_failure and (string.find(target_failure, '^WRONGTYPE') ~= nil
        or string.find(target_failure, '^BADRECORD') ~= nil)
      failure = failure or not is_unusable and target_failure or nil
    end
    pushes[n] = { target, body, is_unusable }
  end
  if is_fenced then
    fenced[#fenced + 1] = i - 1
  else
    local outcomes = {}
    if not failure then
      session.epoch_before, session.epoch = session.epoch, tonumber(epoch)
      failure = confirm(session, confirmed)
    end
    for n, entry in ipairs(pushes) do
      if not failure then
        local target, body = entry[1], entry[2]
        outcomes[n] = entry[3] and -2 or 0
        if target then
          outcomes[n], failure = push(target, body)
        end
      end
    end
    failure = failure or keep(session, epoch, incarnation, step, count, state)
    if failure then
      -- Nothing was written, and what is known is not so.
      known = {}
      refused[#refused + 1] = i - 1
      refused[#refused + 1] = failure
    else
      written[#written + 1] = session
      mail[#mail + 1] = i - 1
      mail[#mail + 1] = session
      for _, outcome in ipairs(outcomes) do
        pushed[#pushed + 1] = outcome
      end
    end
  end
end

for _, session in ipairs(written) do
  if not session.is_renewed then
    session.is_renewed = true
    redis.pcall('PEXPIRE', session.key, ttl_ms)
    if session.sent > 0 then
      redis.pcall('PEXPIRE', session.mailbox, ttl_ms)
    end
  end
  if session.has_news and session.owner ~= own_name then
    session.has_news = false
    local id = string.sub(session.key, #'sundown:session:' + 1)
    -- Only news, which a user without rights on the channel does without.
    redis.pcall('PUBLISH', channel .. ':' .. session.owner, id .. ' ' .. session.sent)
  end
end

local with_mail = {}
for n = 1, #mail, 2 do
  if mail[n + 1].sent > 0 then
    with_mail[#with_mail + 1] = mail[n]
    with_mail[#with_mail + 1] = mail[n + 1].sent
  end
end
return { fenced, refused, with_mail, pushed }
