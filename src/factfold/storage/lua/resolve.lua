-- What became of an append. If it is not in the log, its id is void from now on.

if is_busy(ask.token) then
  return { 'busy' }
end
local first = nil
local stream = KEYS[ask.streams[1]]
local size = size_of(stream)
if size > 0 then
  for _, position in ipairs(find(stream, nil, size - 1, 0, size, ask.after)) do
    if id_at(position) == APPEND_ID then
      first = position
      break
    end
  end
end
if not first then
  redis.call('SADD', VOIDS, APPEND_ID)
  if ask.token then
    pass_on()
  end
  return { 'absent' }
end
local positions, own = {}, {}
for at = first, first + ask.count - 1 do
  positions[#positions + 1] = at
end
rows_at(positions, function(_, row)
  own[#own + 1] = row
end)
local answer = told('found', first - 1, id_at(first - 1), {})
if ask.token then
  pass_on()
end
answer[#answer + 1] = first
answer[#answer + 1] = own
return answer
