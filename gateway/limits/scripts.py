"""The Lua scripts that Valkey runs, each atomically and in one round trip.

The time is the server's, one for all processes, unless a test gives its own. Buckets are
kept as the moment at which they are full again (`buckets.py`), running requests as a sorted
set of their ids by the moment at which their slot is free again should their process have died.
"""

_NOW = """
local now = tonumber(ARGV[1])
if not now then
  local time = redis.call('TIME')
  now = tonumber(time[1]) + tonumber(time[2]) / 1000000
end
"""

_KEEP = """
local function keep(key, at)
  if at <= now then
    redis.call('DEL', key)
  else
    redis.call('SET', key, string.format('%.6f', at), 'PX', math.ceil((at - now) * 1000) + 1000)
  end
end
"""

ADMIT = (
    _NOW
    + _KEEP
    + """
-- KEYS: buckets, then slots. ARGV: now, seconds of a slot, id, number of buckets, limit and cost of each
-- bucket, limit of each set of slots. Answers: granted, now, what is left / seconds to full / seconds to
-- wait of each bucket, running requests of each set of slots.
local ttl, id, buckets = tonumber(ARGV[2]), ARGV[3], tonumber(ARGV[4])
local granted, full, answer = 1, {}, {'1', string.format('%.6f', now)}
for i = 1, buckets do
  local limit, cost = tonumber(ARGV[3 + 2 * i]), tonumber(ARGV[4 + 2 * i])
  local at = math.max(tonumber(redis.call('GET', KEYS[i]) or '0'), now)
  local rate, wait = limit / 60, 0
  local left = limit - (at - now) * rate
  local need = math.max(1, math.min(cost, limit))
  if left < need - 0.000001 then
    granted = 0
    wait = (need - left) / rate
  end
  full[i] = at
  answer[3 * i] = left
  answer[3 * i + 1] = at - now
  answer[3 * i + 2] = wait
end
for i = buckets + 1, #KEYS do
  redis.call('ZREMRANGEBYSCORE', KEYS[i], '-inf', now)
  local running = redis.call('ZCARD', KEYS[i])
  if running >= tonumber(ARGV[4 + buckets + i]) then
    granted = 0
  end
  answer[#answer + 1] = running
end
if granted == 1 then
  for i = 1, buckets do
    local limit, cost = tonumber(ARGV[3 + 2 * i]), tonumber(ARGV[4 + 2 * i])
    local at = full[i] + cost * 60 / limit
    keep(KEYS[i], at)
    answer[3 * i] = answer[3 * i] - cost
    answer[3 * i + 1] = at - now
  end
  for i = buckets + 1, #KEYS do
    redis.call('ZADD', KEYS[i], now + ttl, id)
    redis.call('PEXPIRE', KEYS[i], math.ceil(ttl * 2000))
  end
end
answer[1] = tostring(granted)
for i = 3, #answer do
  answer[i] = string.format('%.6f', answer[i])
end
return answer
"""
)

FINISH = (
    _NOW
    + _KEEP
    + """
-- KEYS: buckets, then slots. ARGV: now, id, number of buckets, limit of each bucket and what was used beyond
-- (or, negative, within) what was taken from it.
local id, buckets = ARGV[2], tonumber(ARGV[3])
for i = 1, buckets do
  local limit, more = tonumber(ARGV[2 + 2 * i]), tonumber(ARGV[3 + 2 * i])
  if more ~= 0 then
    local at = math.max(tonumber(redis.call('GET', KEYS[i]) or '0'), now)
    keep(KEYS[i], at + more * 60 / limit)
  end
end
for i = buckets + 1, #KEYS do
  redis.call('ZREM', KEYS[i], id)
end
return 1
"""
)

RENEW = (
    _NOW
    + """
-- KEYS: slots. ARGV: now, seconds of a slot, the number of ids in each set, then the ids.
local ttl, place = tonumber(ARGV[2]), 3 + #KEYS
for i = 1, #KEYS do
  local count = tonumber(ARGV[2 + i])
  for j = place, place + count - 1 do
    redis.call('ZADD', KEYS[i], now + ttl, ARGV[j])
  end
  redis.call('PEXPIRE', KEYS[i], math.ceil(ttl * 2000))
  place = place + count
end
return 1
"""
)
