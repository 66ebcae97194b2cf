-- Tells the news about selections. With a token it takes the writers' lock first, or says that it is busy.

local position, id = head()
local trouble = diverged(position, id)
if trouble then
  return trouble
end
if ask.token then
  if is_busy(ask.token) then
    return { 'busy' }
  end
  if redis.call('GET', TURN) ~= ask.token or redis.call('PTTL', TURN) < ask.lease / 2 then
    redis.call('DEL', FREE)
    redis.call('SET', TURN, ask.token, 'PX', ask.lease)
  end
end
return told('news', position, id, position > ask.after and touched() or {})
