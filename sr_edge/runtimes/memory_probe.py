"""The fresh process behind `measure_memory`: reads its order as JSON from stdin, answers on stdout."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

import psutil  # type: ignore[import-untyped]

from sr_edge.bundle.plain import from_plain
from sr_edge.errors import SrEdgeError
from sr_edge.runtimes.meters import random_tile
from sr_edge.runtimes.registry import load_runtime
from sr_edge.runtimes.session import Runtime, SessionRequest
from sr_edge.spec import Memory

ANSWER_PREFIX = "sr-edge-memory:"
"""The line of standard output that starts with this is the answer; libraries may print others."""

_STATUS = Path("/proc/self/status")
_CLEAR_REFS = Path("/proc/self/clear_refs")
_RESET_PEAK = "5"


def main() -> int:
    order = json.load(sys.stdin)
    try:
        request = from_plain(SessionRequest, order["request"], "request")
        memory = _probe(load_runtime(order["runtime"]), request, order["runs"])
    except SrEdgeError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    sys.stdout.write(f"{ANSWER_PREFIX}{json.dumps(asdict(memory))}\n")
    return 0


def _probe(runtime: Runtime, request: SessionRequest, runs: int) -> Memory:
    frames = random_tile(request.tile, request.io)
    baseline = int(psutil.Process().memory_info().rss)
    _reset_peak()
    with runtime.open_request(request) as session:
        for _ in range(runs):
            session.run(frames)
        return Memory(baseline_rss_bytes=baseline, peak_rss_bytes=_peak_rss_bytes())


def _reset_peak() -> None:
    """Forgets the peak of importing, where the system allows it."""
    try:
        _CLEAR_REFS.write_text(_RESET_PEAK)
    except OSError:
        return


def _peak_rss_bytes() -> int:
    """Highest resident size of this process image. On Linux not from getrusage: that inherits the parent's peak."""
    if _STATUS.exists():
        for line in _STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    memory = psutil.Process().memory_info()
    if hasattr(memory, "peak_wset"):
        return int(memory.peak_wset)
    import resource

    return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


if __name__ == "__main__":
    sys.exit(main())
