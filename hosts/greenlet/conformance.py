# SPDX-License-Identifier: MIT
"""The conformance test on gevent. Python finds the modules through PYTHONPATH."""
import sys
import time

import aioshim_gevent
import checks
import gevent


def exceptions(number):
    """Each greenlet raises, waits in the handler, and raises again what it caught."""
    try:
        try:
            time.sleep(0.001)
            raise ValueError(number)
        except ValueError:
            time.sleep(0.001)
            raise
    except ValueError as caught:
        time.sleep(0.001)
        checks.result(number, caught.args[0] + 1)


def timers(number):
    """Plain waits beside those of gevent's loop."""
    wait = time.sleep if number % 2 else gevent.sleep
    wait(0.001)
    while checks.timers(number):
        wait(0.001)


def cancel(number):
    """A time limit ends a plain call. Killing a greenlet ends it in the middle of one."""
    sleeper = gevent.spawn(time.sleep, 60)
    with gevent.Timeout(0.01, False):
        time.sleep(60)
    sleeper.kill()
    assert isinstance(sleeper.value, gevent.GreenletExit), sleeper.value
    checks.result(number, number + 1)


bodies = {"exceptions": exceptions, "timers": timers, "cancel": cancel}

gevent.get_hub()
attached = aioshim_gevent.patch()
assert attached == ("overlap" in sys.argv), "attached"
count = checks.begin(*sys.argv[1:])
body = bodies.get(sys.argv[1], checks.body)
gevent.joinall([gevent.spawn(body, number) for number in range(count)], raise_error=True)
sys.exit(checks.finish())
