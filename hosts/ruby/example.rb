# SPDX-License-Identifier: MIT
# Three fibers that run a command: one second with the shim.
require "aioshim"

Fiber.set_scheduler(AIOShim::Scheduler.new)

%w[first second third].each do |name|
  Fiber.schedule do
    puts "#{name} begins"
    puts `sleep 1; echo #{name} ends`
  end
end
