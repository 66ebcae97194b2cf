-- What all scripts of the Valkey engine share; each of them is sent with this in front. Lua 5.1: numbers are doubles, so
-- positions and versions stay below 2^53, and what users wrote passes through as bytes that nobody looks into.
--
-- The keys of one namespace, all in one slot:
--   log     hash    position -> row: MessagePack of id, type, streams, type version, data, metadata, versions, time
--   tail    stream  one entry: the log's head, "position-time" and its id; XREAD waits for it
--   types   hash    type name -> its code, two bytes
--   names   zset    the ids of all streams, in order of their bytes
--   voids   set     ids of appends that were declared void
--   turn    string  the token of whoever holds the writers' lock; it expires with the lease
--   free    list    the token of a turn that was given back, until somebody takes it; those who wait block on it
--   s:ID    string  the index of a stream: for each event a record of eight bytes, its position (6) and type code (2)
--   p:NAME  hash    a place of small values: key -> when it was written (6 bytes, milliseconds since 1970), and the value

local LOG, TAIL, TYPES, NAMES, VOIDS, TURN, FREE = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7]
local RECORD = 8
local STAMP = 6
local CHUNK = 100 -- rows that are asked for at once: far below the limit of `unpack`

-- A question; beside it, because MessagePack in Lua knows no bytes, two ids: of the event it rests on, and of an append.
local ask, AFTER_ID, APPEND_ID = cmsgpack.unpack(ARGV[1]), ARGV[2], ARGV[3]
local FIRST_ROW = 4 -- in ARGV: where an append's rows begin

-- The head: position, id, and when it was recorded.
local function head()
  local last = redis.call('XREVRANGE', TAIL, '+', '-', 'COUNT', 1)[1]
  if not last then
    return 0, '', 0
  end
  local position, time = string.match(last[1], '^(%d+)-(%d+)$')
  return tonumber(position), last[2][2], tonumber(time)
end

-- The id of the event at a position; empty at 0, and false where there is none.
local function id_at(position)
  if position == 0 then
    return ''
  end
  local row = redis.call('HGET', LOG, position)
  return row and string.sub(row, 4, 19)
end

-- Nil when the log has the event that the asker rests on; else the answer that tells what it has instead.
local function diverged(position, id)
  if ask.after == position and AFTER_ID == id then
    return nil
  end
  local found = ask.after <= position and id_at(ask.after)
  if found == AFTER_ID then
    return nil
  end
  return { 'diverged', found or '' }
end

-- The codes of each set of types that is asked about, as a set. A name without a code was never written.
local function wanted_codes()
  local known, sets = {}, {}
  for index, types in ipairs(ask.types) do
    local set = {}
    for _, type in ipairs(types) do
      if known[type] == nil then
        known[type] = redis.call('HGET', TYPES, type)
      end
      if known[type] then
        set[known[type]] = true
      end
    end
    sets[index] = set
  end
  return sets
end

local function size_of(stream)
  return redis.call('STRLEN', stream) / RECORD
end

-- The positions of the records `first` to `last` (from 0 on) of a stream whose code is wanted, at most `room` of them,
-- in that order or, when `last` is below `first`, backwards; only those above `floor`.
local function find(stream, wanted, first, last, room, floor)
  local found, step = {}, first <= last and 1 or -1
  local at = first
  while (last - at) * step >= 0 and #found < room do
    local count = math.min(math.abs(last - at) + 1, wanted and 1000 or math.min(room - #found, 1000))
    local lowest = step > 0 and at or at - count + 1
    local chunk = redis.call('GETRANGE', stream, lowest * RECORD, (lowest + count) * RECORD - 1)
    for index = step > 0 and 0 or count - 1, step > 0 and count - 1 or 0, step do
      if not wanted or wanted[string.sub(chunk, index * RECORD + 7, index * RECORD + 8)] then
        local position = struct.unpack('>I6', chunk, index * RECORD + 1)
        if position <= floor then
          return found
        end
        found[#found + 1] = position
        if #found == room then
          return found
        end
      end
    end
    at = at + count * step
  end
  return found
end

-- Whether a stream has a wanted event above a position.
local function is_touched(stream, wanted, after)
  local last = redis.call('GETRANGE', stream, -RECORD, -1)
  if last == '' or struct.unpack('>I6', last) <= after then
    return false
  end
  if not wanted then
    return true
  end
  local size, at = size_of(stream), 0
  -- Backwards in steps that grow: what matters is usually at the end.
  local count = 8
  while at < size do
    count = math.min(count * 4, 1000, size - at)
    local chunk = redis.call('GETRANGE', stream, (size - at - count) * RECORD, (size - at) * RECORD - 1)
    for index = count - 1, 0, -1 do
      if struct.unpack('>I6', chunk, index * RECORD + 1) <= after then
        return false
      end
      if wanted[string.sub(chunk, index * RECORD + 7, index * RECORD + 8)] then
        return true
      end
    end
    at = at + count
  end
  return false
end

-- The indices (from 0 on) of the selections that have an event above `ask.after`.
local function touched()
  local sets, found = wanted_codes(), {}
  for index, selection in ipairs(ask.selections) do
    if is_touched(KEYS[selection[1]], selection[2] and sets[selection[2]], ask.after) then
      found[#found + 1] = index - 1
    end
  end
  return found
end

-- The rows at these positions, one by one; `each` may end it by returning true.
local function rows_at(positions, each)
  for first = 1, #positions, CHUNK do
    local last = math.min(first + CHUNK - 1, #positions)
    for index, row in ipairs(redis.call('HMGET', LOG, unpack(positions, first, last))) do
      if each(positions[first + index - 1], row) then
        return
      end
    end
  end
end

-- What was appended since `ask.after`, up to a position: the rows in order, or false when that is too far.
local function news(position)
  if position - ask.after > ask.news_limit then
    return false
  end
  local positions, rows, bytes = {}, {}, 0
  for at = ask.after + 1, position do
    positions[#positions + 1] = at
  end
  rows_at(positions, function(_, row)
    bytes = bytes + (row and #row or 0)
    rows[#rows + 1] = row
    return bytes > ask.news_bytes
  end)
  return bytes <= ask.news_bytes and rows
end

-- The answer to a question about news: head, touched selections, whether it is too far, and the rows.
local function told(kind, position, id, which)
  local rows = news(position)
  return { kind, position, id, which, rows and 0 or 1, rows or {} }
end

-- The server's time, since 1970.
local function milliseconds()
  local now = redis.call('TIME')
  return now[1] * 1000 + math.floor(now[2] / 1000)
end

-- The error to answer with, when the user lacks the right to one of these commands. It is asked for before the first
-- write: a command that is refused after it would leave half of the work behind.
local function denied(...)
  for _, command in ipairs({ ... }) do
    if not redis.acl_check_cmd(command, LOG) then
      return redis.error_reply('NOPERM this user has no right to the command ' .. command)
    end
  end
end

-- Whether somebody else has the turn. One that was given back, and that nobody took, is free.
local function is_busy(token)
  local holder = redis.call('GET', TURN)
  return holder and holder ~= token and redis.call('EXISTS', FREE) == 0
end

-- Gives the turn to whoever waits longest, or leaves it for who comes next. The first command takes memory from nobody:
-- also a full server does the others then.
local function pass_on()
  redis.call('DEL', FREE)
  redis.call('SET', TURN, ask.next_token, 'PX', ask.lease)
  redis.call('RPUSH', FREE, ask.next_token)
  redis.call('PEXPIRE', FREE, ask.lease)
end
