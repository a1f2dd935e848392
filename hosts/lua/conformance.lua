-- SPDX-License-Identifier: MIT
-- The conformance test on Lua. Lua finds the modules through LUA_CPATH.
local aioshim = require "aioshim"
local checks = require "checks"

-- Errors are raised and caught around waits, and yields come between them.
local function exceptions(number)
  local ok, caught = pcall(function()
    checks.wait()
    coroutine.yield()
    error({ number = number })
  end)
  checks.wait()
  assert(not ok and caught.number == number, "another function's error")
  checks.result(number, caught.number + 1)
end

local body = arg[1] == "exceptions" and exceptions or checks.body
for number = 0, checks.begin(table.unpack(arg)) - 1 do
  aioshim.spawn(body, number)
end
aioshim.run()
os.exit(checks.finish())
