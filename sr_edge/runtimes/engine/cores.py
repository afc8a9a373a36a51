"""Number of CPU cores that this process may use."""

from __future__ import annotations

import os

import psutil  # type: ignore[import-untyped]


def usable_cores() -> int:
    """Number of logical cores that the operating system lets this process run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def physical_cores() -> int:
    """Number of physical cores, at most `usable_cores()`.

    Dense arithmetic is fastest with one thread for each: two threads of one core share its vector units.
    """
    return min(psutil.cpu_count(logical=False) or usable_cores(), usable_cores())
