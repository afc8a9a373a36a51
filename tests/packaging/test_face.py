"""The public interface: exactly these names, imported lazily, and the same object on every access."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import sr_edge

FACE = [
    "Bundle",
    "FrameFormat",
    "Precision",
    "SrEdgeError",
    "TileSpec",
    "Upscaler",
    "camera",
    "cluster",
    "deploy_network",
    "export_onnx",
    "load_model",
    "open_bundle",
    "open_frame_session",
    "open_model",
    "open_session",
    "open_upscaler",
    "to_static",
    "upscale",
    "upscale_file",
    "upscale_folder",
]


def test_all_is_exact() -> None:
    assert sr_edge.__all__ == FACE
    assert dir(sr_edge) == FACE


def test_a_name_stays_the_same_object_after_its_module_was_imported() -> None:
    """Runs in a new process, because importing a module replaces an attribute of its name in the package."""
    code = """
import importlib, sys, sr_edge
assert "sr_edge.camera" not in sys.modules
first = {name: getattr(sr_edge, name) for name in sr_edge.__all__}
homes = {name: getattr(value, "__module__", None) or value.__name__ for name, value in first.items()}
for home in homes.values():
    importlib.import_module(home)
for name, value in first.items():
    assert getattr(sr_edge, name) is value, name
    assert homes[name].startswith("sr_edge."), name
assert sr_edge.camera.stream is importlib.import_module("sr_edge.camera").stream
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError) as caught:
        getattr(sr_edge, "open_sesion")  # noqa: B009  # the type checker would refuse the attribute
    assert (caught.value.name, caught.value.obj) == ("open_sesion", sr_edge), (
        "Python suggests the nearest name by these"
    )


def test_the_version_is_that_of_the_package() -> None:
    from importlib.metadata import version

    assert sr_edge.__version__ == version("sr-edge")


@pytest.mark.parametrize("package", ["bench", "calibration", "deploy", "models", "runtimes", "serving", "training"])
def test_the_names_of_a_package_load_on_first_use(package: str) -> None:
    face = importlib.import_module(f"sr_edge.{package}")
    assert dir(face) == sorted(face.__all__)
    assert [name for name in face.__all__ if not hasattr(face, name)] == []
    with pytest.raises(AttributeError):
        _ = face.no_such_name
    modules = {path.stem for path in Path(str(face.__file__)).parent.iterdir()}
    assert modules & set(face.__all__) == set(), "a module of that name would take the place of the name"
