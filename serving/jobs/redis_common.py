"""What the Lua scripts of the Redis job store have in common: the keys and what is done with them.

KEYS[1] is the prefix of all keys, with the hash tag that puts them on one node of a cluster; ARGV[1] the settings as
JSON; the rest belongs to the step. Below the prefix stand, for jobs and models:

| key | type | what |
|---|---|---|
| `job:ID` | hash | the job's fields |
| `payload:ID`, `result:ID` | string | the input and the answer, apart from the queue |
| `incoming:ID` | string | the input of a job that is not accepted yet; goes by itself after a minute |
| `idempotency:KEY` | string | the id of the job that the key made |
| `index:STATUS:MODEL` | sorted set | ids by sequence number, which is their place: for pages, counts and positions |
| `ready:MODEL` | sorted set | ids that are due, by sequence number |
| `delayed:MODEL` | sorted set | ids that wait for another attempt, by when it is due |
| `leased:MODEL` | sorted set | ids that run, by when their lease ends |
| `given:OWNER:MODEL` | list | the name of a worker's last claim and the ids that it got |
| `expiry:MODEL` | sorted set | ids that are queued, by when their time to live ends |
| `wake:MODEL` | list | a token for each job that became ready; idle workers wait for one |
| `finished:MODEL:N` | string | jobs that succeeded or failed in the Nth ten seconds |
| `bytes` | hash | payload bytes that are queued, by model |
| `forget` | sorted set | ids of finished jobs, by when their retention ends |
| `models` | set | models that have jobs |
| `sequence` | string | the last sequence number |

`done` is the channel on which the ids of finished jobs are published.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import sha1

# What one call may tidy up of each kind, so that Redis is never held for long.
BOUND = 500

# The first line is for Dragonfly, which otherwise lets a script use the keys in KEYS only; which jobs a step is about,
# it finds itself. To Redis and Valkey the line is a comment: what counts there is that all keys have one hash tag.
_COMMON = """--!df flags=allow-undeclared-keys
local P, C = KEYS[1], cjson.decode(ARGV[1])
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1e6
local STATUSES = {'queued', 'running', 'succeeded', 'failed', 'expired', 'cancelled'}

-- Lua's own conversion would round a time to a tenth of a millisecond.
local function text(number) return string.format('%.6f', number) end
local function index(status, model) return P .. 'index:' .. status .. ':' .. model end

local function read(id)
  local v = redis.call('HMGET', P .. 'job:' .. id, 'model', 'status', 'sequence', 'attempts', 'max_retries',
    'expires', 'owner', 'size', 'idempotency', 'alone', 'call', 'fingerprint')
  if not v[1] then return nil end
  return {id = id, key = P .. 'job:' .. id, model = v[1], status = v[2], sequence = v[3], attempts = tonumber(v[4]),
    max_retries = tonumber(v[5]), expires = tonumber(v[6]), owner = v[7], size = tonumber(v[8]), idempotency = v[9],
    alone = v[10] == '1', call = v[11], fingerprint = v[12]}
end

local function view(id, result)
  local v = redis.call('HMGET', P .. 'job:' .. id, 'model', 'status', 'attempts', 'max_retries', 'created', 'expires',
    'started', 'finished', 'due', 'code', 'message')
  local position = false
  if v[2] == 'queued' then position = redis.call('ZRANK', index('queued', v[1]), id) end
  if result then result = redis.call('GET', P .. 'result:' .. id) end
  return {id, v, position, result}
end

local function wake(model)
  if redis.call('LLEN', P .. 'wake:' .. model) < 64 then redis.call('RPUSH', P .. 'wake:' .. model, '1') end
end

local function unlist(job)
  for _, name in ipairs({'ready:', 'delayed:', 'leased:', 'expiry:'}) do
    redis.call('ZREM', P .. name .. job.model, job.id)
  end
end

local function move(job, status)
  redis.call('ZREM', index(job.status, job.model), job.id)
  redis.call('ZADD', index(status, job.model), job.sequence, job.id)
  if job.status == 'queued' then redis.call('HINCRBY', P .. 'bytes', job.model, 0 - job.size) end
  if status == 'queued' then redis.call('HINCRBY', P .. 'bytes', job.model, job.size) end
  redis.call('HSET', job.key, 'status', status)
  job.status = status
end

local function enqueue(job, due)
  unlist(job)
  if job.status ~= 'queued' then move(job, 'queued') end
  redis.call('ZADD', P .. 'expiry:' .. job.model, text(job.expires), job.id)
  if due <= now then
    redis.call('ZADD', P .. 'ready:' .. job.model, job.sequence, job.id)
    redis.call('HDEL', job.key, 'due')
  else
    redis.call('ZADD', P .. 'delayed:' .. job.model, text(due), job.id)
    redis.call('HSET', job.key, 'due', text(due))
  end
  wake(job.model)
end

local function retain(job, seconds)
  local keys = {job.key, P .. 'payload:' .. job.id, P .. 'result:' .. job.id}
  if job.idempotency then keys[4] = P .. 'idempotency:' .. job.idempotency end
  for _, key in ipairs(keys) do
    if seconds then redis.call('PEXPIRE', key, math.ceil(seconds * 1000)) else redis.call('PERSIST', key) end
  end
  if seconds then redis.call('ZADD', P .. 'forget', text(now + seconds), job.id)
  else redis.call('ZREM', P .. 'forget', job.id) end
end

local function finish(job, status)
  unlist(job)
  move(job, status)
  redis.call('HSET', job.key, 'finished', text(now))
  redis.call('HDEL', job.key, 'due')
  if status == 'succeeded' or status == 'cancelled' then
    redis.call('HDEL', job.key, 'code', 'message')
    redis.call('DEL', P .. 'payload:' .. job.id)
    retain(job, C.result_retention)
  else
    retain(job, C.failure_retention)
  end
  if status == 'succeeded' or status == 'failed' then
    local key = P .. 'finished:' .. job.model .. ':' .. math.floor(now / 10)
    redis.call('INCR', key)
    redis.call('EXPIRE', key, 120)
  end
  redis.call('PUBLISH', P .. 'done', job.id)
end

local function attempt_failed(job, code, message, again_at, alone)
  redis.call('HSET', job.key, 'code', code, 'message', message, 'alone', alone and '1' or '0')
  if again_at and job.attempts <= job.max_retries then enqueue(job, again_at) else finish(job, 'failed') end
end

local function worker_died(job, again_at)
  attempt_failed(job, 'worker_died', C.worker_died, again_at, true)
end

local function after_backoff(job) return now + C.backoff[math.max(1, math.min(job.attempts, #C.backoff))] end

local function lease(job)
  redis.call('ZADD', P .. 'leased:' .. job.model, text(now + C.lease), job.id)
  redis.call('HSET', job.key, 'leased', text(now))
end

local function holds(job, owner, attempt)
  return job and job.status == 'running' and job.owner == owner and job.attempts == tonumber(attempt)
end

-- Only an eviction or a stranger deletes the hash of a job that is queued or runs.
local function drop(id, model)
  local gone = {id = id, model = model}
  unlist(gone)
  for _, status in ipairs(STATUSES) do redis.call('ZREM', index(status, model), id) end
end

local function due(name, model, act)
  local ids = redis.call('ZRANGEBYSCORE', P .. name .. model, '-inf', text(now), 'LIMIT', 0, C.bound)
  for _, id in ipairs(ids) do
    local job = read(id)
    if job then act(job) else drop(id, model) end
  end
  return #ids
end

-- Whether a lease was given before Redis was started: nobody could renew it meanwhile, so its end says nothing of its
-- worker. Redis tells its age in whole seconds.
local function outlived(given)
  local info = redis.pcall('INFO', 'server')
  local uptime = type(info) == 'string' and tonumber(info:match('uptime_in_seconds:(%d+)'))
  return uptime and given and given < now - uptime - 1
end

local function lease_ended(job)
  local given = tonumber(redis.call('HGET', job.key, 'leased') or '')
  if outlived(given) then lease(job) else worker_died(job, now) end
end

local function tidy(model)
  return due('leased:', model, lease_ended)
    + due('expiry:', model, function(job) finish(job, 'expired') end)
    + due('delayed:', model, function(job) enqueue(job, now) end)
end

local function finished_per_second(model)
  local key, ten = P .. 'finished:' .. model .. ':', math.floor(now / 10)
  local sum = (tonumber(redis.call('GET', key .. ten - 6) or 0)) * (1 - (now / 10 - ten))
  for n = ten - 5, ten do sum = sum + tonumber(redis.call('GET', key .. n) or 0) end
  return string.format('%.17g', sum / 60)
end

local function full(model, size)
  local jobs = redis.call('ZCARD', index('queued', model))
  local bytes = tonumber(redis.call('HGET', P .. 'bytes', model) or 0)
  if jobs < C.max_jobs and bytes + size <= C.max_bytes then return nil end
  return {'full', jobs, finished_per_second(model)}
end
"""

# Redis that has no memory left refuses a script unless its first write gives some back. What renews or ends jobs, or
# gives them out to be ended, must go on: it is how memory becomes free again.
FREES_MEMORY = "redis.call('DEL', P .. 'nothing')"


@dataclass(frozen=True)
class Script:
    """A step. Running it twice has the effect and the answer of once, as its first answer may be lost.

    Attributes:
        told: somebody is told that it has happened, so replicas have to know it before (`jobs.min_replicas`).
    """

    body: str
    told: bool = False
    text: str = field(init=False)
    sha: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", _COMMON + self.body)
        # Redis names scripts so; it is no signature.
        object.__setattr__(self, "sha", sha1(self.text.encode(), usedforsecurity=False).hexdigest())


PROBE = Script(FREES_MEMORY)
"""Whether we may run scripts that write."""
