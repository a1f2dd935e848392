# SPDX-License-Identifier: MIT
# The conformance test on Ruby's fibers. Ruby finds the libraries through RUBYLIB.
require "checks"
require "timeout"

# Each fiber raises, waits in the handler, and raises again what it rescued.
def exceptions(number)
  begin
    begin
      sleep 0.001
      raise ArgumentError, number.to_s
    rescue ArgumentError
      sleep 0.001
      raise
    end
  rescue ArgumentError => rescued
    sleep 0.001
    Checks.result(number, rescued.message.to_i + 1)
  end
end

# Waits for a queue of Ruby's beside waits of C code.
def timers(number)
  queue = Queue.new
  loop do
    if number.odd?
      File.open("/dev/zero") { |file| file.read(1) }
      sleep 0.001
    else
      Fiber.schedule { sleep 0.001; queue.push(number) }
      raise "another fiber's number" unless queue.pop == number
    end
    break unless Checks.timers(number)
  end
end

# A time limit ends a sleep, a read and a wait for a queue.
def cancel(number)
  input, output = IO.pipe
  waits = [->(_) { sleep 60 }, ->(_) { input.read(1) }, ->(_) { Queue.new.pop }]
  waits.each do |wait|
    Timeout.timeout(0.01, &wait)
    raise "no time limit"
  rescue Timeout::Error
    next
  end
  output.close
  Checks.result(number, number + 1)
end

# Two fibers wait for each other's mutex.
def deadlock(number)
  MUTEXES[number].lock
  sleep 0.001 until MUTEXES[1 - number].locked?
  MUTEXES[1 - number].lock
end

MUTEXES = [Mutex.new, Mutex.new].freeze

if ARGV.include?("overlap")
  require "aioshim"
  Fiber.set_scheduler(AIOShim::Scheduler.new)
end
check = ARGV[0]
count = Checks.begin(ARGV)
body = %w[exceptions timers cancel deadlock].include?(check) ? method(check) : Checks.method(:body)
if Fiber.scheduler
  count.times { |number| Fiber.schedule { body.call(number) } }
  Fiber.set_scheduler(nil)
else
  count.times { |number| Fiber.new { body.call(number) }.resume }
end
exit Checks.finish
