"""`make bench-gpu` with interpreters that have nothing of ours, and on machines where nothing can be done."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks.gpu_sessions import ROOT, STAND_IN, bare_interpreter, plain_environment

pytestmark = pytest.mark.services

VERSIONS = ("3.10", "3.11", "3.12", "3.13")
BUDGET_S = 60


@pytest.fixture(scope="module")
def bare_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bare_interpreter(tmp_path_factory.mktemp("bare"))


def make_bench_gpu(python: Path | str, results: Path, **settings: object) -> tuple[str, Any]:
    """What `PY=... make bench-gpu` prints, and the document that it wrote."""
    words = {"PY": python, "RESULTS": results, "BUDGET_S": BUDGET_S, "MATERIAL": results / "none", **settings}
    environment = {**plain_environment(), **{name: str(value) for name, value in words.items()}}
    done = subprocess.run(
        ["make", "-s", "bench-gpu"],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=2 * BUDGET_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (file,) = results.glob("*/gpu.json")
    return done.stdout, json.loads(file.read_text(encoding="utf-8"))


def installed_versions() -> list[Any]:
    """Other interpreters of this machine by their usual names; absent ones are skipped by name."""
    return [pytest.param(version, id=f"python{version}") for version in VERSIONS]


def test_an_interpreter_without_our_pins_gets_through(bare_python: Path, tmp_path: Path) -> None:
    told, document = make_bench_gpu(bare_python, tmp_path)
    assert document["seconds"] < BUDGET_S
    assert {step["status"] for step in document["steps"]} == {"not possible here"}
    assert all(step["reason"] for step in document["steps"])
    page = next(tmp_path.glob("*/gpu.md")).read_text(encoding="utf-8")
    assert all(step["title"] in page for step in document["steps"])
    assert str(next(tmp_path.glob("*/gpu.md"))) in told


def test_with_a_gpu_it_says_which_package_each_step_lacks(bare_python: Path, tmp_path: Path) -> None:
    """The stand-in's nvidia-smi answers, so that steps are tried; its libraries need numpy."""
    _, document = make_bench_gpu(bare_python, tmp_path, WHEELS=STAND_IN)
    steps = {step["name"]: step for step in document["steps"]}
    assert document["rehearsal"]
    assert steps["libraries"]["status"] == steps["doctor"]["status"] == "done"
    assert steps["doctor"]["figures"]["device"]["name"] == "stand-in for a GPU"
    others = [step for name, step in steps.items() if name not in ("libraries", "doctor")]
    assert {step["status"] for step in others} == {"not possible here"}
    assert all("No module named" in step["reason"] for step in others)


@pytest.mark.parametrize("version", installed_versions())
def test_every_supported_python_can_run_it(version: str, tmp_path: Path) -> None:
    python = _interpreter(version)
    if python is None:
        pytest.skip(f"no Python {version} is installed here")
    _, document = make_bench_gpu(python, tmp_path, ONLY="doctor")
    (step,) = document["steps"]
    assert step["figures"]["interpreter"]["python"].startswith(version)


def _interpreter(version: str) -> str | None:
    """One on the path that runs, or this one."""
    folders = os.environ.get("PATH", os.defpath).split(os.pathsep)
    for candidate in [*(Path(folder) / f"python{version}" for folder in folders), *_side_by_side(version)]:
        if (
            candidate.is_file()
            and not subprocess.run([candidate, "-c", ""], capture_output=True, check=False).returncode
        ):
            return str(candidate)
    return sys.executable if version == f"{sys.version_info.major}.{sys.version_info.minor}" else None


def _side_by_side(version: str) -> list[Path]:
    """Where a version manager keeps its interpreters."""
    root = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    return sorted(root.glob(f"versions/{version}.*/bin/python"))
