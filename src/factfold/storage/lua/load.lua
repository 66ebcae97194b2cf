-- The events of several selections, and the news, as of one head.

local position, id = head()
local answer
if ask.after then
  local trouble = diverged(position, id)
  if trouble then
    return trouble
  end
  answer = told('news', position, id, position > ask.after and touched() or {})
else
  answer = { 'news', position, id, {}, 0, {} }
end
local sets, room, bytes, slices = wanted_codes(), ask.limit, 0, {}
for index, selection in ipairs(ask.selections) do
  local stream, wanted = KEYS[selection[1]], selection[2] and sets[selection[2]]
  local size = size_of(stream)
  local positions, found, rows = {}, {}, {}
  if size > selection[3] then
    -- One more than there is room for: then it is known whether more follow.
    positions = find(stream, wanted, selection[3], size - 1, room + 1, 0)
  end
  local complete = #positions <= room
  if not complete then
    positions[#positions] = nil
  end
  rows_at(positions, function(at, row)
    found[#found + 1] = at
    rows[#rows + 1] = row
    bytes = bytes + (row and #row or 0)
    return bytes > ask.bytes
  end)
  complete = complete and #found == #positions
  room = bytes > ask.bytes and 0 or room - #found
  slices[index] = { size, complete and 1 or 0, found, rows }
end
answer[#answer + 1] = slices
return answer
