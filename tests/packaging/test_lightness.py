"""`import sr_edge` and the start of the command line load no heavy library."""

from __future__ import annotations

import subprocess
import sys

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
)


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
