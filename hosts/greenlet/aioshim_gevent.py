# SPDX-License-Identifier: MIT
"""gevent on libaioshim.so: the plain blocking calls of greenlets become asynchronous operations.

Call patch() at the beginning of the program, or start it with `python -m aioshim_gevent PROGRAM`.
"""

import importlib._bootstrap as import_system
import signal
import threading

import gevent

import _aioshim_gevent as native

__all__ = ["patch"]

# A signal that no kernel sends: Python runs its handler when a call was interrupted.
_SIGNAL = signal.SIGRTMAX - 1
_watchers = []


def patch():
    """Attaches the hub of the main thread.

    Returns False if libaioshim.so is not preloaded or switched off; then nothing changes.
    Greenlets that begin later can overlap in blocking calls. The main greenlet cannot.
    """
    if _watchers:
        return True
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("aioshim_gevent.patch must be called in the main thread")
    hub = gevent.get_hub()
    if "libuv" in type(hub.loop).__module__:
        raise RuntimeError("aioshim_gevent needs libev, gevent's default loop")
    keep_alive = hub.loop.async_(ref=False)
    keep_alive.start(lambda: None)
    if not native.attach(hub, keep_alive, _SIGNAL):
        keep_alive.stop()
        return False
    signal.signal(_SIGNAL, native.on_signal)
    # The loop waits after the last `prepare` watcher; gevent's own one runs greenlets.
    before = hub.loop.prepare(ref=False, priority=hub.loop.MINPRI)
    after = hub.loop.check(ref=False, priority=hub.loop.MAXPRI)
    before.start(native.before_wait)
    after.start(native.after_wait)
    _watchers.extend((keep_alive, before, after))
    _hold_imports()
    return True


def _hold_imports():
    """An import is not left in the middle: its locks belong to the thread, not to the greenlet."""
    find_and_load = import_system._find_and_load

    def find_and_load_held(*args):
        native.hold()
        try:
            return find_and_load(*args)
        finally:
            native.release()

    import_system._find_and_load = find_and_load_held


def _main():
    import runpy
    import sys

    if len(sys.argv) < 2:
        sys.exit("usage: python -m aioshim_gevent PROGRAM [ARGUMENT...]")
    import aioshim_gevent  # this file runs as __main__

    aioshim_gevent.patch()
    del sys.argv[0]
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    _main()
