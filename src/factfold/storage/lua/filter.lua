-- Looks through a part of the log: the events of some types, or of some category. A call looks at a bounded number.

local types = nil
if ask.types then
  types = {}
  for _, type in ipairs(ask.types) do
    types[type] = true
  end
end

-- Whether a row is asked for. Id, type and streams stand at its front: what follows is not unpacked.
local function is_wanted(row)
  local offset, type = cmsgpack.unpack_one(row, 19)
  if string.sub(type, 1, 1) == '$' and not ask.system or types and not types[type] then
    return false
  end
  if not ask.category then
    return true
  end
  local _, streams = cmsgpack.unpack_one(row, offset)
  for _, stream in ipairs(streams) do
    if string.sub(stream, 1, #ask.category) == ask.category then
      return true
    end
  end
  return false
end

local asked, positions, rows, looked_at = {}, {}, {}, 0
for at = ask.first, ask.last, ask.first <= ask.last and 1 or -1 do
  asked[#asked + 1] = at
end
rows_at(asked, function(at, row)
  looked_at = at
  if row and is_wanted(row) then
    positions[#positions + 1] = at
    rows[#rows + 1] = row
  end
  return #rows == ask.limit
end)
return { looked_at, positions, rows }
