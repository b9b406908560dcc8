-- wrk's script. Arguments: for writes the file with the body and a name for the
-- run, so that no two writes are of one entity.
local threads = 0

function setup(thread)
   threads = threads + 1
   thread:set("number", threads)
end

function init(args)
   if #args < 2 then
      return
   end
   local body = io.open(args[1]):read("*a")
   local prefix = wrk.path .. args[2] .. "-" .. number .. "-"
   local count = 0
   wrk.headers["Content-Type"] = "application/vnd.contentful.management.v1+json"
   wrk.headers["X-Contentful-Version"] = "1"
   request = function()
      count = count + 1
      return wrk.format("PUT", prefix .. count, nil, body)
   end
end

function done(summary, latency)
   local e = summary.errors
   io.write(string.format("\nresult %d %d %d %d errors %d %d %d %d %d\n", summary.requests, summary.duration,
      latency:percentile(50), latency:percentile(99), e.connect, e.read, e.write, e.status, e.timeout))
end
