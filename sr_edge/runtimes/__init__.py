"""One API over all runtimes: open a session, run tiles, measure. No library loads before a session needs it."""

from __future__ import annotations

from sr_edge.runtimes.doctor import Diagnosis, Machine, RuntimeReport, describe_machine, diagnose
from sr_edge.runtimes.frame_session import open_frame_session
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
    open_request,
    open_session,
    preferred_runtime,
    request_from_bundle,
    runtime_names,
    supports,
)
from sr_edge.runtimes.session import Availability, Device, Runtime, Session, SessionRequest, SessionSpec, StageTimes

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
