"""How jobs in Redis come to workers; the other steps are in `serving.jobs.redis_scripts`."""

from __future__ import annotations

from serving.jobs.redis_common import FREES_MEMORY, Script

# ARGV[5] is the name of this call: when its answer was lost and it is repeated, it gives what it gave, as long as the
# leases last. Nobody else would know of those, and the attempts would be lost.
CLAIM = Script(
    FREES_MEMORY
    + """
local model, owner, limit, call = ARGV[2], ARGV[3], tonumber(ARGV[4]), ARGV[5]
tidy(model)
local ready, given, claimed, looked = P .. 'ready:' .. model, P .. 'given:' .. owner .. ':' .. model, {}, 0
local function give(job, payload)
  lease(job)
  local fields = redis.call('HMGET', job.key, 'parameters', 'created')
  claimed[#claimed + 1] = {job.id, job.attempts, payload, fields[1], fields[2], job.alone and 1 or 0}
end
if redis.call('LINDEX', given, 0) == call then
  for _, id in ipairs(redis.call('LRANGE', given, 1, -1)) do
    local job, payload = read(id), redis.call('GET', P .. 'payload:' .. id)
    if payload and job and holds(job, owner, job.attempts) then give(job, payload) end
  end
  if #claimed > 0 then return claimed end
end
while #claimed < limit and looked < limit + C.bound do
  looked = looked + 1
  local id = redis.call('ZRANGE', ready, 0, 0)[1]
  if not id then break end
  local job = read(id)
  local payload = redis.call('GET', P .. 'payload:' .. id)
  if not job then drop(id, model)
  elseif job.expires <= now then finish(job, 'expired')
  elseif not payload then attempt_failed(job, 'input_lost', C.input_lost, nil, false)
  elseif job.alone and #claimed > 0 then break
  else
    unlist(job)
    move(job, 'running')
    job.attempts = job.attempts + 1
    redis.call('HSET', job.key, 'attempts', job.attempts, 'owner', owner, 'started', text(now))
    give(job, payload)
    if job.alone then break end
  end
end
if #claimed > 0 then
  redis.call('DEL', given)
  redis.call('RPUSH', given, call)
  for _, one in ipairs(claimed) do redis.call('RPUSH', given, one[1]) end
  redis.call('PEXPIRE', given, math.ceil(C.lease * 2000))
end
-- Left-over tokens would wake idle workers for nothing; a missing one would let one sleep for a second.
if redis.call('EXISTS', ready) == 0 then redis.call('DEL', P .. 'wake:' .. model)
elseif redis.call('EXISTS', P .. 'wake:' .. model) == 0 then wake(model) end
return claimed
"""
)

NEXT_DUE = Script("""
local model = ARGV[2]
if redis.call('EXISTS', P .. 'ready:' .. model) == 1 then return '0' end
local nearest = now + 3600
for _, name in ipairs({'delayed:', 'leased:'}) do
  local first = redis.call('ZRANGE', P .. name .. model, 0, 0, 'WITHSCORES')
  if first[2] then nearest = math.min(nearest, tonumber(first[2])) end
end
return text(math.max(0, nearest - now))
""")
