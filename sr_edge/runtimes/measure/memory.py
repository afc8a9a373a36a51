"""Measures the peak memory of one engine, in a fresh process that does nothing else."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from sr_edge.bundle.plain import to_plain
from sr_edge.errors import EngineError
from sr_edge.runtimes.engine.meters import require_runs
from sr_edge.runtimes.measure.memory_probe import RESULT_PREFIX, Memory
from sr_edge.runtimes.registry import find_entry
from sr_edge.runtimes.session import SessionRequest

_PACKAGE_FOLDER = str(Path(__file__).parents[3])
_PROBE_PROGRAM = f"""
import sys
sys.path[:] = [folder for folder in sys.path if folder] + [{_PACKAGE_FOLDER!r}]
from sr_edge.runtimes.measure.memory_probe import main
sys.exit(main())
"""
"""Removes the working folder from the search path first: any file there, such as json.py, would be run otherwise."""


def measure_memory(runtime: str, request: SessionRequest, runs: int = 3, timeout_s: float = 600.0) -> Memory:
    """Measures the peak resident memory of opening and running one artifact.

    The baseline is a fresh Python process that has imported numpy and the runtime's library and has opened nothing. The
    peak is the largest resident size of that process from then until the last run has ended.

    Args:
        runtime: name of the runtime.
        request: the artifact and how to open it.
        runs: tiles to run.
        timeout_s: time after which the process is stopped.

    Raises:
        EngineError: the measuring process failed or timed out; the message ends with its last line.
    """
    find_entry(runtime)
    require_runs(runs)
    job = json.dumps({"runtime": runtime, "runs": runs, "request": to_plain(request)})
    command = [sys.executable, "-c", _PROBE_PROGRAM]
    try:
        completed = subprocess.run(command, input=job, capture_output=True, text=True, timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired as error:
        raise EngineError(
            f"measuring the memory of {runtime} with {request.artifact.name} took longer than {timeout_s:g} s",
            found=request.artifact,
            wanted=timeout_s,
            remedy="try a smaller tile",
        ) from error
    results = [line for line in completed.stdout.splitlines() if line.startswith(RESULT_PREFIX)]
    if completed.returncode != 0 or not results:
        lines = completed.stderr.strip().splitlines() or [f"exit code {completed.returncode}"]
        raise EngineError(
            f"cannot measure the memory of {runtime} with {request.artifact.name}: {lines[-1]}", found=request.artifact
        )
    return Memory(**json.loads(results[-1].removeprefix(RESULT_PREFIX)))
