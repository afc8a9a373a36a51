"""Peak memory of one engine, measured in a fresh process that does nothing else."""

from __future__ import annotations

import json
import subprocess
import sys

from sr_edge.bundle.plain import to_plain
from sr_edge.errors import EngineError
from sr_edge.runtimes.memory_probe import ANSWER_PREFIX
from sr_edge.runtimes.meters import require_runs
from sr_edge.runtimes.registry import find_entry
from sr_edge.runtimes.session import SessionRequest
from sr_edge.spec import Memory

PROBE_MODULE = "sr_edge.runtimes.memory_probe"


def measure_memory(runtime: str, request: SessionRequest, runs: int = 3, timeout_s: float = 600.0) -> Memory:
    """Peak resident memory of opening and running one artifact.

    The baseline is a fresh Python that has imported numpy, this package's runtime and the runtime's library, and
    has opened nothing; the peak is the process's highest resident size from there to the last of `runs`.

    Raises:
        EngineError: the measuring process failed; the message has its last line.
    """
    find_entry(runtime)
    require_runs(runs)
    order = json.dumps({"runtime": runtime, "runs": runs, "request": to_plain(request)})
    command = [sys.executable, "-m", PROBE_MODULE]
    try:
        done = subprocess.run(command, input=order, capture_output=True, text=True, timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired as error:
        raise EngineError(
            f"measuring the memory of {runtime} with {request.artifact.name} took longer than {timeout_s:g} s",
            found=request.artifact,
            wanted=timeout_s,
            remedy="try a smaller tile",
        ) from error
    answers = [line for line in done.stdout.splitlines() if line.startswith(ANSWER_PREFIX)]
    if done.returncode != 0 or not answers:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise EngineError(
            f"cannot measure the memory of {runtime} with {request.artifact.name}: {lines[-1]}", found=request.artifact
        )
    return Memory(**json.loads(answers[-1].removeprefix(ANSWER_PREFIX)))
