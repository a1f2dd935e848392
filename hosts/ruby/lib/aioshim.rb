# SPDX-License-Identifier: MIT
# A Fiber::Scheduler on libaioshim.so:
#
#   require "aioshim"
#   Fiber.set_scheduler(AIOShim::Scheduler.new)
#   Fiber.schedule { ... plain blocking calls ... }
require "aioshim_scheduler"

module AIOShim
  class Scheduler
    def initialize
      attach or raise "libaioshim.so is not preloaded, or it is switched off"
      @error = nil
      @home = Process.pid
    end

    # Fiber.schedule: runs the block on a fiber until it waits.
    def fiber(&block)
      task = Fiber.new(blocking: false) do
        block.call
      rescue Exception => error
        @error ||= error
      ensure
        end_task
      end
      begin_task(task)
    end

    # Runs all fibers to their ends. Raises the first exception that one of them did not rescue.
    def run
      return unless Process.pid == @home # A fork has no other fibers.
      Thread.handle_interrupt(Interrupting => :on_blocking) do
        nil while run_round
      end
      error, @error = @error, nil
      raise error if error
    end
    alias close run

    # Timeout.timeout: another fiber waits for the end of the time.
    def timeout_after(duration, exception_class, message)
      target, ended = Fiber.current, false
      timer = fiber do
        block(:timeout, duration) || ended or
          interrupt(target, exception_class.exception(message))
      end
      yield duration
    ensure
      ended = true
      unblock(:timeout, timer)
    end
  end
end
