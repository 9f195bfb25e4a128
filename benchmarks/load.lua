-- One static request, whose method and body come from the environment, and a last line of JSON with
-- what wrk's own summary leaves out: p99 beside p50 in full precision, and the kinds of errors apart.
wrk.method = os.getenv("LOAD_METHOD")

local file = assert(io.open(os.getenv("LOAD_BODY"), "rb"))
local body = file:read("*a")
file:close()
if #body > 0 then
  wrk.body = body
end

done = function(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    '{"requests": %d, "duration_us": %d, "p50_us": %d, "p99_us": %d, '
      .. '"status": %d, "connect": %d, "read": %d, "write": %d, "timeout": %d}\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    errors.status, errors.connect, errors.read, errors.write, errors.timeout))
end
