-- Gives the writers' lock back, if it is still held under this token.

if redis.call('GET', TURN) == ask.token then
  pass_on()
end
return { 'done' }
