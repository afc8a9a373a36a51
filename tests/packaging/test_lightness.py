"""`import sr_edge` and the start of the command line load no heavy library."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = (
    "torch",
    "onnx",
    "onnxruntime",
    "openvino",
    "cv2",
    "PIL",
    "numpy",
    "av",
    "matplotlib",
    "onnxsim",
    "onnxscript",
    "rich",
    "tensorrt",
    "tensorrt_rtx",
    "cuda",
    "ray",
    "fsspec",
)

OPTIONAL = (
    *("torch", "safetensors", "onnxruntime", "onnxscript", "onnxsim", "openvino", "tensorrt", "tensorrt_rtx", "cuda"),
    *("pycuda", "cv2", "av", "matplotlib", "starlette", "uvicorn", "websockets", "spandrel", "torchvision", "gi"),
    *("ray", "fsspec", "s3fs"),
)
"""What the extras install, and what comes with the system."""


def loaded_by(statement: str) -> set[str]:
    """The heavy modules that are loaded in a new interpreter after `statement`."""
    code = f"import sys\n{statement}\nprint(*(name for name in {HEAVY!r} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_the_check_sees_a_heavy_import() -> None:
    assert loaded_by("import numpy") == {"numpy"}


@pytest.mark.parametrize("module", ["sr_edge", "sr_edge.errors", "sr_edge.spec", "sr_edge.cli"])
def test_importing_loads_nothing_heavy(module: str) -> None:
    assert loaded_by(f"import {module}") == set()


def test_what_runs_on_a_device_needs_no_optional_package() -> None:
    """A device has one runtime: `selftest`, `bench`, `evaluate` and `upscale` import none of the others."""
    code = f"""
import importlib, sys
sys.modules.update(dict.fromkeys({OPTIONAL!r}))  # None: importing it raises ModuleNotFoundError
for package in ("sr_edge.bench", "sr_edge.bundle", "sr_edge.runtimes", "sr_edge.serving"):
    face = importlib.import_module(package)
    for name in face.__all__:
        getattr(face, name)
from sr_edge import Upscaler, open_bundle, open_session
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("argument", ["--help", "--version"])
def test_starting_the_command_line_loads_nothing_heavy(argument: str) -> None:
    statement = f"""
from contextlib import redirect_stdout, suppress
from io import StringIO
from sr_edge.cli import main
sys.argv = ["sr-edge", {argument!r}]
with redirect_stdout(StringIO()), suppress(SystemExit):
    main()
"""
    assert loaded_by(statement) == set()


def test_no_library_reports_to_its_vendor(tmp_path: Path) -> None:
    """Since version 1.29, ONNX Runtime keeps what it will send, and an identifier, in the cache folder."""
    code = """
import numpy as np
import sr_edge
sr_edge.open_upscaler("convnet-tiny", runtime="onnxruntime")(np.zeros((96, 96, 3), np.uint8))
"""
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    environment = {**kept, "HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    assert [path.name for path in tmp_path.rglob("*") if "onnxruntime" in path.name or path.name == "deviceid"] == []
