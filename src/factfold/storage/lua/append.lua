-- Appends events if nothing stands against it. Everything is checked before the first write: a script has no rollback.

local position, id, time = head()
local trouble = diverged(position, id)
if trouble then
  return trouble
end
if redis.call('SISMEMBER', VOIDS, APPEND_ID) == 1 then
  return { 'void' }
end
local locked = ask.token and not ask.keep -- by `lock`, and not just by waiting
if ask.token and redis.call('GET', TURN) ~= ask.token then
  return { 'lost' }
end
local which = position > ask.after and touched() or {}
local not_empty = {}
for index, stream in ipairs(ask.empty) do
  if size_of(KEYS[stream]) > 0 then
    not_empty[#not_empty + 1] = index - 1
  end
end
if #which > 0 or #not_empty > 0 then
  -- Who lost decides again under the lock: it has the next turn, or is told to queue for it.
  local answer = told('conflict', position, id, which)
  if locked then
    pass_on()
    answer[#answer + 1] = 'ended'
  elseif is_busy(ask.token) then
    answer[#answer + 1] = 'queue'
  else
    redis.call('DEL', FREE)
    redis.call('SET', TURN, ask.token or ask.next_token, 'PX', ask.keep)
    answer[#answer + 1] = 'yours'
  end
  answer[#answer + 1] = not_empty
  return answer
end
if is_busy(ask.token) then
  return { 'busy' }
end

local denial = denied('HSET', 'APPEND', 'ZADD', 'XADD', 'DEL', 'SET', 'RPUSH', 'PEXPIRE')
if denial then
  return denial
end
local codes, new_codes, code = {}, {}, nil
for index, type in ipairs(ask.event_types) do
  codes[index] = redis.call('HGET', TYPES, type)
  if not codes[index] then
    code = (code or redis.call('HLEN', TYPES)) + 1
    if code > 65535 then
      return { 'refused', 'a namespace has room for 65535 names of event types, and they are used up' }
    end
    codes[index] = struct.pack('>I2', code)
    new_codes[#new_codes + 1] = type
    new_codes[#new_codes + 1] = codes[index]
  end
end
if position == 0 and redis.call('EXISTS', LOG) == 1 then
  return { 'damaged', 'the key "log" holds events, and the key "tail" is gone' }
end

local counts, records, bases, new_names = {}, {}, {}, {}
for _, stream in ipairs(ask.streams) do
  local size = size_of(KEYS[stream])
  if (size + #ask.events) * RECORD > 512 * 1024 * 1024 then
    return { 'refused', 'a stream has room for 67,108,864 events, and they are used up' }
  end
  counts[stream], records[stream], bases[#bases + 1] = size, {}, size
  if size == 0 then
    local name = string.sub(KEYS[stream], ask.prefix + 1)
    if redis.call('ZSCORE', NAMES, name) then -- an error, when it is no sorted set
      return { 'damaged', 'the stream ' .. name .. ' has events, and the key with its index is gone' }
    end
    new_names[#new_names + 1] = 0
    new_names[#new_names + 1] = name
  end
end

local answer = told('appended', position, id, {})
local now = redis.call('TIME')
local recorded = math.max(time, now[1] * 1000000 + now[2])
local packed = cmsgpack.pack(recorded)
local rows = {}
local last = position + #ask.events
for index, event in ipairs(ask.events) do
  local at, versions = position + index, {}
  local record = struct.pack('>I6', at) .. codes[event[1]]
  for number = 2, #event do
    local stream = event[number]
    counts[stream] = counts[stream] + 1
    versions[number - 1] = counts[stream]
    local own = records[stream]
    own[#own + 1] = record
  end
  rows[#rows + 1] = at
  rows[#rows + 1] = ARGV[FIRST_ROW + index - 1] .. cmsgpack.pack(versions) .. packed
  if #rows >= CHUNK or at == last then
    redis.call('HSET', LOG, unpack(rows)) -- the first write: a full server, and a key of another type, refuse it
    rows = {}
  end
end
for stream, own in pairs(records) do
  redis.call('APPEND', KEYS[stream], table.concat(own))
end
for first = 1, #new_codes, CHUNK do
  redis.call('HSET', TYPES, unpack(new_codes, first, math.min(first + CHUNK - 1, #new_codes)))
end
for first = 1, #new_names, CHUNK do
  redis.call('ZADD', NAMES, unpack(new_names, first, math.min(first + CHUNK - 1, #new_names)))
end
local last_id = string.sub(ARGV[FIRST_ROW + #ask.events - 1], 4, 19)
redis.call('XADD', TAIL, 'MAXLEN', 1, string.format('%.0f-%.0f', last, recorded), 'id', last_id)
if ask.token then
  pass_on()
end
answer[#answer + 1] = position + 1
answer[#answer + 1] = recorded
answer[#answer + 1] = bases
return answer
