-- A page of one selection: positions and rows, forwards or backwards.

local selection = ask.selections[1]
local stream, wanted = KEYS[selection[1]], selection[2] and wanted_codes()[selection[2]]
local size = size_of(stream)
local first, last
if ask.backwards then
  first, last = math.min(size, (ask.after or size + 1) - 1) - 1, 0
else
  first, last = ask.after or 0, size - 1
end
local positions, rows = {}, {}
if size > 0 and (ask.backwards and first >= last or not ask.backwards and first <= last) then
  -- A single record has no direction: `find` takes it for the forward one.
  positions = find(stream, wanted, first, last, ask.limit, 0)
end
rows_at(positions, function(_, row)
  rows[#rows + 1] = row
end)
return { positions, rows }
