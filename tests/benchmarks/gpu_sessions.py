"""What the tests of `make bench-gpu` share: its modules, sessions of a few small steps, and made-up documents."""

from __future__ import annotations

import importlib
import os
import sys
import venv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
BENCHMARKS = ROOT / "benchmarks"
STAND_IN = ROOT / "tests" / "benchmarks" / "stand_in_gpu"


class GpuSession:
    """The modules under test, which import one another by bare names, as they do when they are run."""

    def __init__(self) -> None:
        self.plan = _module("plan")
        self.process = _module("process")
        self.session = _module("session")
        self.page = _module("page")
        self.report = _module("gpu_report")
        self.libraries = _module("steps.libraries")
        self.doctor = _module("steps.doctor")
        self.publishing = _module("steps.publish")
        self.telemetry = _module("telemetry")

    def step(self, name: str, program: str, limit_s: float = 5.0, until: float = 1.0) -> Any:
        """A step that runs a line of Python."""
        return self.plan.Step(name, f"step {name}", ("-c", program), limit_s, until)

    def run(self, results: Path, *steps: Any, budget_s: float = 30.0, **choices: Any) -> Any:
        """A session of these steps in this interpreter."""
        plan = self.session.SessionPlan(sys.executable, results, steps, budget_s, **choices)
        return self.session.Session(plan).run()


def _module(name: str) -> Any:
    return importlib.import_module(f"gpu_session.{name}")


def loaded() -> Iterator[GpuSession]:
    """For a fixture: the modules, with the folder of benchmarks on the search path."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        yield GpuSession()


def bench_gpu(python: str | Path, *arguments: str | Path, limits: str = "") -> list[str]:
    """The command as make runs it; `limits` are ulimit's, that bind it and all its steps."""
    words = [str(word) for word in (python, BENCHMARKS / "bench_gpu.py", *arguments)]
    return ["bash", "-c", f'ulimit {limits}; exec "$@"', "bash", *words] if limits else words


def bare_interpreter(folder: Path) -> Path:
    """An interpreter with the standard library alone."""
    venv.create(folder, with_pip=False, symlinks=True)
    return folder / "bin" / "python"


def plain_environment() -> dict[str, str]:
    """Nothing of this test run's own search paths."""
    return {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "LD_LIBRARY_PATH")}


TELLS = """
import json, os
os.write(int(os.environ["SR_EDGE_GPU_SESSION_FIGURES"]), json.dumps({}).encode() + b"\\n")
"""


def tells(figures: object) -> str:
    """A program that hands over figures."""
    return TELLS.replace("json.dumps({})", f"json.dumps({figures!r})")


def reading(clock_mhz: float = 1980.0) -> dict[str, Any]:
    """What nvidia-smi tells, made up."""
    return {
        "name": "Made-up GPU", "driver": "580.1", "compute_capability": "9.0", "memory_mib": 143771.0,
        "memory_used_mib": 10.0, "power_w": 350.0, "power_limit_w": 700.0, "clock_mhz": clock_mhz,
        "max_clock_mhz": 1980.0, "memory_clock_mhz": 3201.0, "temperature_c": 41.0,
    }  # fmt: skip


def latency(ms: float) -> dict[str, Any]:
    return {"min_ms": ms, "p50_ms": ms, "p90_ms": ms, "p99_ms": ms, "mean_ms": ms, "runs": 20}


def device_figures() -> dict[str, Any]:
    parts = {name: latency(0.5) for name in ("h2d", "compute", "d2h", "total", "enqueue")}
    memory = {"context_bytes": 1_000_000, "weights_bytes": 2_000_000, "buffer_bytes": 3_000_000}
    return {"latency": {**parts, "warnings": [], "before": None, "after": None}, "memory": memory}


def compared_row(runtime: str, form: str, **measured: Any) -> dict[str, Any]:
    """A row of gpu.py; without measurements it has a reason."""
    row: dict[str, Any] = dict.fromkeys(("tile_ms", "of_static", "peak_share", "roofline_share", "on_device"))
    row |= {
        "system": "convnet-light",
        "tile": "192x192",
        "runtime": runtime,
        "precision": "fp16",
        "form": form,
        "version": "",
        "note": "",
    }
    return {**row, "fps": {}, "reason": "" if measured else f"no {runtime} here", **measured}


def engine_row(**changes: Any) -> dict[str, Any]:
    row = {
        "network": "convnet-tiny-x2", "runtime": "tensorrt", "precision": "fp16", "version": "10.3", "ran": "fp16",
        "note": "", "open_s": 12.0, "golden_db": 61.5, "golden_min_db": 45.0, "passed": True,
        "on_device": device_figures(), "reason": "",
    }  # fmt: skip
    return {**row, **changes}


def step_document(name: str, figures: object = None, status: str = "done", **changes: Any) -> dict[str, Any]:
    step = {
        "name": name, "title": f"title of {name}", "status": status, "reason": "", "started_s": 0.0, "seconds": 2.0,
        "limit_s": 60.0, "exit_code": 0, "before": reading(), "after": reading(), "figures": figures, "last_lines": [],
    }  # fmt: skip
    return {**step, **changes}


def document(*steps: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A session's document."""
    head = {
        "schema_version": 1, "started": "2026-11-30T08:00:00+00:00", "budget_s": 690.0, "seconds": 300.0,
        "interpreter": "/opt/python3", "system": "Linux", "rehearsal": False, "interrupted": False, "telemetry": "",
    }  # fmt: skip
    return {**head, "steps": list(steps), **changes}


def doctor_figures(**changes: Any) -> dict[str, Any]:
    device = {"name": "Made-up GPU", "compute_capability": "9.0", "total_bytes": 141 << 30}
    return {"device": device, "packages": {"torch": "2.11.0"}, "problems": {}, "complete": True, **changes}
