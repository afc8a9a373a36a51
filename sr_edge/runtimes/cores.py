"""How many CPU cores this process may use."""

from __future__ import annotations

import os

import psutil  # type: ignore[import-untyped]


def usable_cores() -> int:
    """Logical cores that the system lets this process run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def physical_cores() -> int:
    """Physical cores, at most as many as are usable: the number of threads at which dense arithmetic is fastest."""
    return min(psutil.cpu_count(logical=False) or usable_cores(), usable_cores())
