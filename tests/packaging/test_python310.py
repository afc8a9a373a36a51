"""The code for devices runs on Python 3.10, the newest version in JetPack 6."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

DEVICE_MODULES = (
    "sr_edge",
    "sr_edge.errors",
    "sr_edge.spec",
    "sr_edge.bundle",
    "sr_edge.tiling",
    "sr_edge.frames",
    "sr_edge.image_files",
    "sr_edge.runtimes.registry",
    "sr_edge.runtimes.session",
    "sr_edge.upscaler",
    "sr_edge.cli",
)


def find_python310() -> str | None:
    """A Python 3.10 that really runs: SR_EDGE_PYTHON310, or `python3.10` on the path."""
    candidate = os.environ.get("SR_EDGE_PYTHON310") or shutil.which("python3.10")
    if candidate is None:
        return None
    probe = subprocess.run([candidate, "-c", "import sys; print(sys.version_info[:2])"], capture_output=True, text=True)
    return candidate if probe.stdout.strip() == "(3, 10)" else None


def test_the_code_is_written_in_the_syntax_of_python_310(project_root: Path) -> None:
    options = "--no-cache --target-version py310 --select E9"
    command = [sys.executable, "-m", "ruff", "check", *options.split(), "sr_edge"]
    done = subprocess.run(command, cwd=project_root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_code_compiles_under_python_310(project_root: Path) -> None:
    python = find_python310()
    if python is None:
        pytest.skip("no Python 3.10 here; put python3.10 on the path or name it in SR_EDGE_PYTHON310")
    code = (
        "import ast, pathlib; [ast.parse(p.read_text('utf-8'), str(p)) for p in pathlib.Path('sr_edge').rglob('*.py')]"
    )
    done = subprocess.run([python, "-c", code], cwd=project_root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_device_part_imports_under_python_310(project_root: Path) -> None:
    python = find_python310()
    if python is None:
        pytest.skip("no Python 3.10 here; put python3.10 on the path or name it in SR_EDGE_PYTHON310")
    if subprocess.run([python, "-c", "import numpy, PIL, onnx, typer, rich, psutil"], capture_output=True).returncode:
        pytest.skip(f"{python} has none of the packages that sr-edge needs; install '.[openvino]' into it")
    code = f"import importlib; [importlib.import_module(name) for name in {DEVICE_MODULES!r}]"
    done = subprocess.run([python, "-W", "error", "-c", code], cwd=project_root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
