"""Keeps an encoder from taking the machine: run as root, SVT-AV1 makes itself and its caller real-time threads."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_THREADS = Path("/proc/self/task")


@contextmanager
def scheduling_kept() -> Iterator[None]:
    """This thread, and those that are started within, leave it scheduled as this one was before.

    A real-time thread comes before all else that the machine has to do, and so would every thread and process that it
    starts later: an encoder that computes without a pause would stop cameras, servers and the shell.
    """
    if sys.platform != "linux":
        yield
        return
    policy, priority = os.sched_getscheduler(0), os.sched_getparam(0)
    before = set(_THREADS.iterdir())
    try:
        yield
    finally:
        os.sched_setscheduler(0, policy, priority)
        for thread in set(_THREADS.iterdir()) - before:
            with suppress(ProcessLookupError):
                os.sched_setscheduler(int(thread.name), policy, priority)
