# SPDX-License-Identifier: MIT
"""Three greenlets that sleep by time.sleep: one second with the shim, three without."""
import time

import aioshim_gevent
import gevent

aioshim_gevent.patch()


def work(name):
    print(name, "sleeps")
    time.sleep(1)
    print(name, "is awake")


gevent.joinall([gevent.spawn(work, name) for name in ("first", "second", "third")])
