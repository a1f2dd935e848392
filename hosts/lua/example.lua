-- SPDX-License-Identifier: MIT
-- Three commands at the same time: one second with the shim, three without.
local aioshim = require "aioshim"

local function work(name)
  print(name .. " begins")
  local command = io.popen("sleep 1; echo " .. name .. " ends")
  io.write(command:read("a"))
  command:close()
end

aioshim.spawn(work, "first")
aioshim.spawn(work, "second")
aioshim.spawn(work, "third")
aioshim.run()
