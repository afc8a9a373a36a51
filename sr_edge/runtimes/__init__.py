"""One API over all runtimes: open a session, upscale tiles, measure latency and memory.

Names load on first use, and a runtime's library once a session needs it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sr_edge.lazy_face import lazy_face

if TYPE_CHECKING:
    from sr_edge.runtimes.engine.meters import (
        MedianInterval,
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
    from sr_edge.runtimes.measure.doctor import Diagnosis, Machine, RuntimeReport, describe_machine, diagnose
    from sr_edge.runtimes.measure.memory import measure_memory
    from sr_edge.runtimes.registry import (
        RUNTIMES,
        RuntimeEntry,
        availability,
        find_entry,
        load_runtime,
        open_request,
        preferred_runtime,
        request_from_bundle,
        runtime_names,
        supports,
    )
    from sr_edge.runtimes.session import Availability, Device, Runtime, Session, SessionRequest, SessionSpec, StageTimes

_HOMES = {
    "Availability": "sr_edge.runtimes.session",
    "Device": "sr_edge.runtimes.session",
    "Diagnosis": "sr_edge.runtimes.measure.doctor",
    "Machine": "sr_edge.runtimes.measure.doctor",
    "RUNTIMES": "sr_edge.runtimes.registry",
    "Runtime": "sr_edge.runtimes.session",
    "RuntimeEntry": "sr_edge.runtimes.registry",
    "RuntimeReport": "sr_edge.runtimes.measure.doctor",
    "Session": "sr_edge.runtimes.session",
    "SessionRequest": "sr_edge.runtimes.session",
    "SessionSpec": "sr_edge.runtimes.session",
    "MedianInterval": "sr_edge.runtimes.engine.meters",
    "Spread": "sr_edge.runtimes.engine.meters",
    "StageLatency": "sr_edge.runtimes.engine.meters",
    "StageTimes": "sr_edge.runtimes.session",
    "StartUp": "sr_edge.runtimes.engine.meters",
    "Throughput": "sr_edge.runtimes.engine.meters",
    "availability": "sr_edge.runtimes.registry",
    "describe_machine": "sr_edge.runtimes.measure.doctor",
    "diagnose": "sr_edge.runtimes.measure.doctor",
    "find_entry": "sr_edge.runtimes.registry",
    "interleaved": "sr_edge.runtimes.engine.meters",
    "load_runtime": "sr_edge.runtimes.registry",
    "measure_interleaved": "sr_edge.runtimes.engine.meters",
    "measure_latency": "sr_edge.runtimes.engine.meters",
    "measure_memory": "sr_edge.runtimes.measure.memory",
    "measure_start_up": "sr_edge.runtimes.engine.meters",
    "measure_throughput": "sr_edge.runtimes.engine.meters",
    "open_request": "sr_edge.runtimes.registry",
    "paired_ratio": "sr_edge.runtimes.engine.meters",
    "preferred_runtime": "sr_edge.runtimes.registry",
    "random_tile": "sr_edge.runtimes.engine.meters",
    "ratios_to_first": "sr_edge.runtimes.engine.meters",
    "request_from_bundle": "sr_edge.runtimes.registry",
    "runtime_names": "sr_edge.runtimes.registry",
    "supports": "sr_edge.runtimes.registry",
}

__all__ = [
    "RUNTIMES",
    "Availability",
    "Device",
    "Diagnosis",
    "Machine",
    "MedianInterval",
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
    "open_request",
    "paired_ratio",
    "preferred_runtime",
    "random_tile",
    "ratios_to_first",
    "request_from_bundle",
    "runtime_names",
    "supports",
]

__getattr__, __dir__ = lazy_face(__name__, _HOMES)
