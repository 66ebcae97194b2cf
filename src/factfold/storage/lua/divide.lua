-- Moves small values, from the one hash in which format 1 kept those of all places, each to the hash of its place.
--
-- `places` are the keys of these (their indices). In ARGV follows for each value its field in the one hash and its key
-- in the other. Somebody else may do the same: what is not there any more has been moved.

local now = struct.pack('>I6', milliseconds())
for index, place in ipairs(ask.places) do
  local field, key = ARGV[2 * index], ARGV[2 * index + 1]
  local value = redis.call('HGET', KEYS[8], field)
  if value then
    redis.call('HSET', KEYS[place], key, now .. value)
    redis.call('HDEL', KEYS[8], field)
  end
end
return { 'done' }
