"""One API over all runtimes: open a session, upscale tiles, measure latency and memory.

Names load on first use, and a runtime's library once a session needs it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sr_edge.runtimes.doctor import Diagnosis, Machine, RuntimeReport, describe_machine, diagnose
    from sr_edge.runtimes.memory import measure_memory
    from sr_edge.runtimes.meters import (
        Spread,
        StageLatency,
        StartUp,
        Throughput,
        interleaved,
        measure_interleaved,
        measure_latency,
        measure_start_up,
        measure_throughput,
        paired_ratio,
        random_tile,
        ratios_to_first,
    )
    from sr_edge.runtimes.registry import (
        RUNTIMES,
        RuntimeEntry,
        availability,
        find_entry,
        load_runtime,
        open_frame_session,
        open_request,
        open_session,
        preferred_runtime,
        request_from_bundle,
        runtime_names,
        supports,
    )
    from sr_edge.runtimes.session import Availability, Device, Runtime, Session, SessionRequest, SessionSpec, StageTimes

_HOME = {
    "Availability": "session",
    "Device": "session",
    "Diagnosis": "doctor",
    "Machine": "doctor",
    "RUNTIMES": "registry",
    "Runtime": "session",
    "RuntimeEntry": "registry",
    "RuntimeReport": "doctor",
    "Session": "session",
    "SessionRequest": "session",
    "SessionSpec": "session",
    "Spread": "meters",
    "StageLatency": "meters",
    "StageTimes": "session",
    "StartUp": "meters",
    "Throughput": "meters",
    "availability": "registry",
    "describe_machine": "doctor",
    "diagnose": "doctor",
    "find_entry": "registry",
    "interleaved": "meters",
    "load_runtime": "registry",
    "measure_interleaved": "meters",
    "measure_latency": "meters",
    "measure_memory": "memory",
    "measure_start_up": "meters",
    "measure_throughput": "meters",
    "open_frame_session": "registry",
    "open_request": "registry",
    "open_session": "registry",
    "paired_ratio": "meters",
    "preferred_runtime": "registry",
    "random_tile": "meters",
    "ratios_to_first": "meters",
    "request_from_bundle": "registry",
    "runtime_names": "registry",
    "supports": "registry",
}

__all__ = [
    "RUNTIMES",
    "Availability",
    "Device",
    "Diagnosis",
    "Machine",
    "Runtime",
    "RuntimeEntry",
    "RuntimeReport",
    "Session",
    "SessionRequest",
    "SessionSpec",
    "Spread",
    "StageLatency",
    "StageTimes",
    "StartUp",
    "Throughput",
    "availability",
    "describe_machine",
    "diagnose",
    "find_entry",
    "interleaved",
    "load_runtime",
    "measure_interleaved",
    "measure_latency",
    "measure_memory",
    "measure_start_up",
    "measure_throughput",
    "open_frame_session",
    "open_request",
    "open_session",
    "paired_ratio",
    "preferred_runtime",
    "random_tile",
    "ratios_to_first",
    "request_from_bundle",
    "runtime_names",
    "supports",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'sr_edge.runtimes' has no attribute {name!r}")
    return getattr(importlib.import_module(f"sr_edge.runtimes.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
