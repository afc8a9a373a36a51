"""The process that `measure_memory` starts: reads a job as JSON from stdin, and writes the result to stdout."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil  # type: ignore[import-untyped]

from sr_edge.bundle.plain import from_plain
from sr_edge.errors import SrEdgeError
from sr_edge.runtimes.engine.meters import random_tile
from sr_edge.runtimes.registry import load_runtime
from sr_edge.runtimes.session import Runtime, SessionRequest

RESULT_PREFIX = "sr-edge-memory:"
"""Start of the line that has the result; the libraries may print other lines to stdout."""

_STATUS = Path("/proc/self/status")
_CLEAR_REFS = Path("/proc/self/clear_refs")
_RESET_PEAK = "5"


@dataclass(frozen=True)
class Memory:
    """Resident memory of a new process: `baseline` before the engine was loaded, `peak` after running it."""

    baseline_rss_bytes: int
    peak_rss_bytes: int

    @property
    def added_bytes(self) -> int:
        return max(0, self.peak_rss_bytes - self.baseline_rss_bytes)


def main() -> int:
    """Measures as the job says; returns the exit code."""
    job = json.load(sys.stdin)
    try:
        request = from_plain(SessionRequest, job["request"], "request")
        memory = _probe(load_runtime(job["runtime"]), request, job["runs"])
    except SrEdgeError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    sys.stdout.write(f"{RESULT_PREFIX}{json.dumps(asdict(memory))}\n")
    return 0


def _probe(runtime: Runtime, request: SessionRequest, runs: int) -> Memory:
    frames = random_tile(request.tile, request.io, request.card.channels)
    baseline = int(psutil.Process().memory_info().rss)
    _reset_peak()
    with runtime.open_request(request) as session:
        for _ in range(runs):
            session.run(frames)
        return Memory(baseline_rss_bytes=baseline, peak_rss_bytes=_peak_rss_bytes())


def _reset_peak() -> None:
    """Resets the recorded peak, which importing the libraries has raised, where the system allows that."""
    try:
        _CLEAR_REFS.write_text(_RESET_PEAK)
    except OSError:
        return


def _peak_rss_bytes() -> int:
    """Largest resident size of this process. On Linux getrusage would include the peak of the parent process."""
    if _STATUS.exists():
        for line in _STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    memory = psutil.Process().memory_info()
    if hasattr(memory, "peak_wset"):
        return int(memory.peak_wset)
    import resource

    return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
