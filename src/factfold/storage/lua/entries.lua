-- A page of the small values of a place, in the order of their keys' bytes, and how many milliseconds old each is.

-- Numbers that compare as the bytes of a text do: Lua compares texts by the rules of the server's language.
local function rank(text)
  local padded, numbers = text .. string.rep('\0', -#text % 6), {}
  for at = 1, #padded, 6 do
    numbers[#numbers + 1] = struct.unpack('>I6', padded, at)
  end
  return { text = text, numbers = numbers }
end

local function is_before(one, other)
  for index = 1, math.min(#one.numbers, #other.numbers) do
    if one.numbers[index] ~= other.numbers[index] then
      return one.numbers[index] < other.numbers[index]
    end
  end
  return #one.text < #other.text
end

local after, now, found, values = rank(ARGV[2]), milliseconds(), {}, {}
local all = redis.call('HGETALL', KEYS[8])
for index = 1, #all, 2 do
  local key = rank(all[index])
  if is_before(after, key) then
    found[#found + 1] = key
    values[key.text] = all[index + 1]
  end
end
table.sort(found, is_before)
local page = {}
for index = 1, math.min(ask.limit, #found) do
  local value = values[found[index].text]
  page[index] = { found[index].text, string.sub(value, STAMP + 1), now - struct.unpack('>I6', value) }
end
return page
