"""The steps of the Redis job store, each one Lua script: Redis runs it whole or, when it is killed, not at all.

Keys and helpers are those of `serving.jobs.redis_common`.
"""

from __future__ import annotations

from serving.jobs.redis_common import FREES_MEMORY, Script

# The payload comes by a SET right before, as Lua would copy it three times.
SUBMIT = Script(
    """
local id, model, parameters, max_retries, ttl = ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local fingerprint, idempotency = ARGV[7], ARGV[8]
local incoming = P .. 'incoming:' .. id
local function refuse(answer)
  redis.call('DEL', incoming)
  return answer
end
if read(id) then return refuse({'new', view(id)}) end
if idempotency ~= '' then
  local first = redis.call('GET', P .. 'idempotency:' .. idempotency)
  local job = first and read(first)
  if job then
    if job.fingerprint ~= fingerprint then return refuse({'conflict'}) end
    return refuse({'existing', view(first)})
  end
end
local size = redis.call('STRLEN', incoming)
local overload = full(model, size)
if overload then return refuse(overload) end
redis.call('RENAME', incoming, P .. 'payload:' .. id)
redis.call('PERSIST', P .. 'payload:' .. id)
local sequence = redis.call('INCR', P .. 'sequence')
local expires = now + tonumber(ttl)
redis.call('HSET', P .. 'job:' .. id, 'model', model, 'status', 'queued', 'sequence', sequence, 'attempts', 0,
  'max_retries', max_retries, 'created', text(now), 'queued', text(now), 'expires', text(expires), 'size', size,
  'parameters', parameters, 'fingerprint', fingerprint)
if idempotency ~= '' then
  redis.call('HSET', P .. 'job:' .. id, 'idempotency', idempotency)
  redis.call('SET', P .. 'idempotency:' .. idempotency, id)
end
redis.call('SADD', P .. 'models', model)
redis.call('ZADD', index('queued', model), sequence, id)
redis.call('HINCRBY', P .. 'bytes', model, size)
enqueue(read(id), now)
return {'new', view(id)}
""",
    told=True,
)

# A job is seen as expired as soon as it is, also when nobody maintains the store.
GET = Script("""
local job = read(ARGV[2])
if not job then return false end
if job.status == 'queued' and job.expires <= now then finish(job, 'expired') end
return view(job.id, true)
""")

# A lease whose time is over holds until the job is given back; one that was given before Redis was started is given
# once more then. So an outage of Redis ends none.
RENEW = Script(
    FREES_MEMORY
    + """
local held = {}
for n = 2, #ARGV, 3 do
  local job = read(ARGV[n])
  if holds(job, ARGV[n + 1], ARGV[n + 2]) then
    lease(job)
    held[#held + 1] = job.id
  end
end
return held
"""
)

SUCCEED = Script(
    FREES_MEMORY
    + """
local job = read(ARGV[2])
if job and job.status == 'succeeded' and job.owner == ARGV[3] and job.attempts == tonumber(ARGV[4]) then return 1 end
if not holds(job, ARGV[3], ARGV[4]) then return 0 end
redis.call('SET', P .. 'result:' .. job.id, ARGV[5])
finish(job, 'succeeded')
return 1
""",
    told=True,
)

# From here on ARGV[2] is the name of this call: when the answer was lost and the call is repeated, it is known by it.
FAIL = Script(
    FREES_MEMORY
    + """
local job = read(ARGV[3])
if job and job.call == ARGV[2] then return 1 end
if not holds(job, ARGV[4], ARGV[5]) then return 0 end
redis.call('HSET', job.key, 'call', ARGV[2])
attempt_failed(job, ARGV[6], ARGV[7], ARGV[8] == '1' and after_backoff(job) or nil, false)
return 1
""",
    told=True,
)

RELEASE = Script(
    FREES_MEMORY
    + """
local job = read(ARGV[3])
if job and job.call == ARGV[2] then return 1 end
if not holds(job, ARGV[4], ARGV[5]) then return 0 end
redis.call('HSET', job.key, 'call', ARGV[2])
if redis.call('HINCRBY', job.key, 'attempts', -1) == 0 then redis.call('HDEL', job.key, 'started') end
enqueue(job, now)
return 1
""",
    told=True,
)

CANCEL = Script(
    FREES_MEMORY
    + """
local job = read(ARGV[3])
if not job then return {'missing'} end
if job.call == ARGV[2] then return {'done', view(job.id)} end
if job.status ~= 'queued' and job.status ~= 'running' then return {'conflict', job.status} end
redis.call('HSET', job.key, 'call', ARGV[2])
finish(job, 'cancelled')
return {'done', view(job.id)}
""",
    told=True,
)

RETRY = Script(
    """
local job = read(ARGV[3])
if not job then return {'missing'} end
if job.call == ARGV[2] then return {'done', view(job.id)} end
if job.status ~= 'failed' and job.status ~= 'expired' then return {'conflict', job.status} end
if redis.call('EXISTS', P .. 'payload:' .. job.id) == 0 then return {'lost'} end
local overload = full(job.model, job.size)
if overload then return overload end
retain(job, nil)
job.expires = now + tonumber(ARGV[4])
redis.call('HSET', job.key, 'call', ARGV[2], 'attempts', 0, 'alone', '0', 'expires', text(job.expires),
  'queued', text(now))
redis.call('HDEL', job.key, 'code', 'message', 'started', 'finished', 'owner')
redis.call('ZREM', index(job.status, job.model), job.id)
job.sequence = redis.call('INCR', P .. 'sequence')
redis.call('HSET', job.key, 'sequence', job.sequence)
enqueue(job, now)
return {'done', view(job.id)}
""",
    told=True,
)

# A worker's leases are found among all: as many jobs run as there are workers times their batch.
ABANDON = Script(
    FREES_MEMORY
    + """
local count = 0
for _, model in ipairs(redis.call('SMEMBERS', P .. 'models')) do
  for _, id in ipairs(redis.call('ZRANGE', P .. 'leased:' .. model, 0, -1)) do
    local job = read(id)
    if job and job.owner == ARGV[2] then
      worker_died(job, after_backoff(job))
      count = count + 1
    end
  end
end
return count
"""
)

# The newest of all indexes that match are merged. What Redis has forgotten already may stand in an index until
# MAINTAIN, and is passed over.
PAGE = Script("""
local status, model, limit = ARGV[2], ARGV[3], tonumber(ARGV[4])
local top = ARGV[5] == '' and '+inf' or '(' .. ARGV[5]
local keys, views, last, more = {}, {}, false, false
for _, one in ipairs(redis.call('SMEMBERS', P .. 'models')) do
  for _, other in ipairs(STATUSES) do
    if (model == '' or model == one) and (status == '' or status == other) then keys[#keys + 1] = index(other, one) end
  end
end
for _ = 1, 10 do
  local found = {}
  for _, key in ipairs(keys) do
    local pairs = redis.call('ZREVRANGEBYSCORE', key, top, '-inf', 'WITHSCORES', 'LIMIT', 0, limit + 1)
    for n = 1, #pairs, 2 do found[#found + 1] = {pairs[n], tonumber(pairs[n + 1])} end
  end
  table.sort(found, function(a, b) return a[2] > b[2] end)
  for n = 1, math.min(#found, limit + 1) do
    if redis.call('EXISTS', P .. 'job:' .. found[n][1]) == 1 then
      if #views == limit then return {views, last} end
      views[#views + 1] = view(found[n][1])
    end
    last = string.format('%d', found[n][2])
  end
  more = #found > limit
  if not more then break end
  top = '(' .. last
end
return {views, more and last}
""")

STATS = Script("""
local models = {}
for _, model in ipairs(redis.call('SMEMBERS', P .. 'models')) do
  local counts, sum, oldest = {}, 0, 0
  for n, status in ipairs(STATUSES) do
    counts[n] = redis.call('ZCARD', index(status, model))
    sum = sum + counts[n]
  end
  local first = redis.call('ZRANGE', index('queued', model), 0, 0)[1]
  if first then oldest = now - tonumber(redis.call('HGET', P .. 'job:' .. first, 'queued') or now) end
  local bytes = redis.call('HGET', P .. 'bytes', model) or '0'
  if sum > 0 then
    models[#models + 1] = {model, counts, text(math.max(0, oldest)), bytes, finished_per_second(model)}
  end
end
return models
""")

# Answers whether there is more to do.
MAINTAIN = Script(
    FREES_MEMORY
    + """
local more = 0
local models = redis.call('SMEMBERS', P .. 'models')
local ids = redis.call('ZRANGEBYSCORE', P .. 'forget', '-inf', text(now), 'LIMIT', 0, C.bound)
for _, id in ipairs(ids) do
  local job = read(id)
  if job then
    redis.call('ZREM', index(job.status, job.model), id)
    redis.call('DEL', job.key, P .. 'payload:' .. id, P .. 'result:' .. id)
    if job.idempotency then redis.call('DEL', P .. 'idempotency:' .. job.idempotency) end
  else
    for _, model in ipairs(models) do drop(id, model) end
  end
  redis.call('ZREM', P .. 'forget', id)
end
if #ids == C.bound then more = 1 end
for _, model in ipairs(models) do
  if tidy(model) >= C.bound then more = 1 end
  local kept = false
  for _, status in ipairs(STATUSES) do kept = kept or redis.call('EXISTS', index(status, model)) == 1 end
  if not kept then
    redis.call('SREM', P .. 'models', model)
    redis.call('HDEL', P .. 'bytes', model)
    redis.call('DEL', P .. 'wake:' .. model)
  end
end
return more
"""
)
