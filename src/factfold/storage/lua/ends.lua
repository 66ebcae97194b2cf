-- How long each of some streams is, and where its last event stands.

local ends = {}
for index = 8, #KEYS do
  local last = redis.call('GETRANGE', KEYS[index], -RECORD, -1)
  ends[#ends + 1] = { size_of(KEYS[index]), last == '' and 0 or (struct.unpack('>I6', last)) }
end
return ends
