-- Writes small values, all or none: if the first of them is what is expected of it, where something is.
--
-- `puts` are the key of the place (its index), and whether there is a value or it is to be removed; their fields and
-- values follow in ARGV behind what is expected, which is 'any', 'none' or 'value'.

local FIRST_PUT = 3
local first = ask.puts[1]
if ask.expects ~= 'any' then
  local found = redis.call('HGET', KEYS[first[1]], ARGV[FIRST_PUT])
  local value = found and string.sub(found, STAMP + 1)
  if value ~= (ask.expects == 'value' and ARGV[2]) then
    return { 'other' }
  end
end
local denial = denied('HSET', 'HDEL')
if denial then
  return denial
end
for _, put in ipairs(ask.puts) do
  redis.call('HLEN', KEYS[put[1]]) -- an error, when it is no hash
end
local now = struct.pack('>I6', milliseconds())
for index, put in ipairs(ask.puts) do
  local field, value = ARGV[FIRST_PUT + 2 * index - 2], ARGV[FIRST_PUT + 2 * index - 1]
  -- A full server refuses the first of them, or none.
  if put[2] then
    redis.call('HSET', KEYS[put[1]], field, now .. value)
  else
    redis.call('HDEL', KEYS[put[1]], field)
  end
end
return { 'swapped' }
