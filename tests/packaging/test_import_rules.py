"""Imports run one way, heavy libraries stay with their owners, and no code goes through the top-level links."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

LINKS = {"calibration", "export", "runtimes"}
OWNERS: dict[str, tuple[str, ...]] = {
    "torch": ("models/", "training/", "export/", "runtimes/torch.py"),
    "safetensors": ("models/", "training/", "bundle/"),
    "onnx": (
        "bench/operator_times/census.py",
        "bundle/self_contained.py",
        "export/",
        "serving/",
        "calibration/",
        "model_sources/",
        "runtimes/onnxruntime/",
    ),
    "onnxsim": ("export/passes/simplify.py",),
    "onnxruntime": ("runtimes/onnxruntime/", "export/graph/onnxruntime_run.py", "calibration/ranges/collect.py"),
    "openvino": ("runtimes/openvino/",),
    "tensorrt": (),
    "tensorrt_rtx": (),
    "cuda": ("runtimes/cuda/cuda_python.py",),
    "pycuda": ("runtimes/cuda/cuda_pycuda.py",),
    "cv2": ("image_files/sixteen_bit.py",),
    "PIL": ("image_files/", "training/degradations/filters.py"),
    "av": ("camera/", "calibration/data/patches.py", "deploy/reuse_table.py"),
    "matplotlib": ("bench/", "training/", "calibration/selection/pareto.py"),
    "fsspec": ("cluster/storage/locations.py", "cluster/storage/patterns.py"),
    "ray": ("cluster/ray_cluster.py", "cluster/ray_connection.py"),
    "s3fs": (),
    "starlette": ("camera/preview/",),
    "uvicorn": ("camera/preview/",),
    "gi": ("camera/sources/gst/bindings.py",),
    "spandrel": (),
    "torchvision": (),
    "einops": (),
}
"""Who may import it; imported by name only: TensorRT in runtimes/tensorrt/api.py, spandrel in models/recognition."""
CHECKED_FOLDERS = ("sr_edge", "tests", "benchmarks", "examples", "scripts")


def python_files(root: Path, folders: tuple[str, ...]) -> list[Path]:
    return [file for folder in folders for file in sorted((root / folder).rglob("*.py"))]


def imported_names(source: str) -> Iterator[str]:
    """The dotted name of every absolute import in `source`, at any depth."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module


def top_names(file: Path) -> set[str]:
    return {name.partition(".")[0] for name in imported_names(file.read_text(encoding="utf-8"))}


def test_an_import_through_a_link_would_be_seen() -> None:
    source = "def late():\n    from runtimes.session import Session\n    import export\n"
    assert {name.partition(".")[0] for name in imported_names(source)} == {"runtimes", "export"}


def test_nothing_imports_through_a_link(project_root: Path) -> None:
    offenders = {
        str(file.relative_to(project_root)): sorted(top_names(file) & LINKS)
        for file in python_files(project_root, CHECKED_FOLDERS)
        if top_names(file) & LINKS
    }
    assert offenders == {}


@pytest.mark.parametrize("library", sorted(OWNERS))
def test_a_heavy_library_is_imported_by_its_owners_only(library: str, project_root: Path) -> None:
    files = python_files(project_root, ("sr_edge",))
    users = {str(file.relative_to(project_root / "sr_edge")) for file in files if library in top_names(file)}
    strangers = {user for user in users if not user.startswith(OWNERS[library])}
    assert strangers == set()


def test_the_layers_hold(project_root: Path) -> None:
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"]
    done = subprocess.run(command, cwd=project_root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
