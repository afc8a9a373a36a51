"""Every name of TensorRT that our code touches is in the bindings of every version that we say we run with.

The lists are of real bindings (scripts/reduce_tensorrt_api.py made them). Held against them are the declarations of
tensorrt_api.py, to which mypy holds the rest of the code, and every chain `trt.X.Y` in our source.
"""

from __future__ import annotations

import ast
import importlib
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sr_edge.errors import RuntimeUnavailable
from sr_edge.runtimes.tensorrt import api as tensorrt_api
from sr_edge.runtimes.tensorrt.api import Flavour, TensorRTLibrary, load_library, version_numbers
from tests.expected_errors import raises
from tests.runtimes.tensorrt.fake_tensorrt import FakeTensorRt

ROOT = next(folder for folder in Path(__file__).resolve().parents if (folder / "pyproject.toml").is_file())
LISTS = {
    path.stem: json.loads(path.read_text("utf-8")) for path in (ROOT / "tests" / "runtimes" / "tensorrt_api").iterdir()
}
SURFACE = Path(tensorrt_api.__file__).read_text("utf-8")
SOURCES = sorted(
    path
    for path in ROOT.glob("sr_edge/runtimes/**/*.py")
    if "tensorrt" in path.relative_to(ROOT / "sr_edge").as_posix()
)
GETATTR_USES = {
    "sr_edge.runtimes.tensorrt.cache": 2,
    "sr_edge.runtimes.tensorrt.api": 1,
    "sr_edge.runtimes.tensorrt.options": 1,
    "sr_edge.runtimes.tensorrt.session": 1,
}
"""How often each module may read an attribute by its name: of our own dataclasses, and RTX's own enumeration."""

MODULE = "_"

Uses = set[tuple[str, str]]


def is_rtx(version: str) -> bool:
    return version.startswith("rtx-")


def declared(source: str, prefix: str) -> Uses:
    """(class, attribute) of every member of the classes called `prefix`X; the module's own names under "_"."""
    uses = set()
    for node in ast.parse(source).body:
        if not isinstance(node, ast.ClassDef) or not node.name.startswith(prefix):
            continue
        kind = node.name.removeprefix(prefix)
        for item in node.body:
            if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
                uses.add((MODULE if kind == "Module" else kind, item.target.id))
            elif isinstance(item, ast.FunctionDef):
                uses.add((kind, item.name))
    return {(kind, name) for kind, name in uses if not name.startswith("__")}


def chains(source: str) -> Uses:
    """(X, Y) of every `trt.X.Y` and `....trt.X.Y`, and ("_", X) of every `trt.X`."""
    uses = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and is_module(node.value):
            uses.add((MODULE, node.attr))
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Attribute) and is_module(node.value.value):
            uses.add((node.value.attr, node.attr))
    return {(kind, name) for kind, name in uses if not name.startswith("__")}


def is_module(node: ast.expr) -> bool:
    return (isinstance(node, ast.Name) and node.id == "trt") or (isinstance(node, ast.Attribute) and node.attr == "trt")


def absent(uses: Uses, version: str) -> Uses:
    return {(kind, name) for kind, name in uses if name not in LISTS[version].get(kind, ())}


def test_there_is_a_list_of_every_line_of_versions() -> None:
    lines = {version_numbers(version)[:2] for version in LISTS if not is_rtx(version)}
    assert lines == {(10, 3), (10, 13), (10, 16), (11, 0), (11, 4)}
    assert any(map(is_rtx, LISTS))


@pytest.mark.parametrize("version", LISTS)
def test_every_declared_name_is_there(version: str) -> None:
    uses = declared(SURFACE, "Trt")
    assert len(uses) > 70
    assert absent(uses, version) == set()


@pytest.mark.parametrize("version", [version for version in LISTS if is_rtx(version)])
def test_what_only_rtx_has_is_there_and_nowhere_else(version: str) -> None:
    uses = declared(SURFACE, "Rtx")
    assert len(uses) > 5
    assert absent(uses, version) == set()
    assert absent(uses, "11.4.0.106") != set()
    assert "ComputeCapability" in LISTS[version][MODULE]


@pytest.mark.parametrize("version", LISTS)
@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_every_chain_in_the_source_is_there(source: Path, version: str) -> None:
    assert absent(chains(source.read_text("utf-8")), version) == set()


def test_the_builder_has_chains_to_look_at() -> None:
    uses = set().union(*(chains(source.read_text("utf-8")) for source in SOURCES))
    assert {("BuilderFlag", "TF32"), ("MemoryPoolType", "WORKSPACE"), (MODULE, "OnnxParser")} <= uses


@pytest.mark.parametrize(
    ("chain", "gone"), [("library.trt.BuilderFlag.FP16", ("BuilderFlag", "FP16")), ("trt.IInt8Calibrator", None)]
)
def test_a_name_that_version_11_dropped_is_found_in_a_chain(chain: str, gone: tuple[str, str] | None) -> None:
    uses = chains(f"config.set_flag({chain})")
    assert absent(uses, "11.0.0.114") - {(MODULE, "FP16")} == {gone or (MODULE, "IInt8Calibrator")}


def test_a_name_that_version_11_dropped_is_found_in_a_declaration() -> None:
    source = "class TrtICudaEngine(Protocol):\n    device_memory_size: int\n    num_io_tensors: int\n"
    uses = declared(source, "Trt")
    assert absent(uses, "10.16.1.11") == set()
    assert absent(uses, "11.0.0.114") == {("ICudaEngine", "device_memory_size")}


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_nothing_of_tensorrt_escapes_its_types(source: Path) -> None:
    """An `Any` or a `getattr` would hide a name from mypy."""
    tree = ast.walk(ast.parse(source.read_text("utf-8")))
    names = [node.id for node in tree if isinstance(node, ast.Name) and node.id in ("Any", "getattr", "setattr")]
    module = ".".join(source.relative_to(ROOT).with_suffix("").parts)
    assert names == ["getattr"] * GETATTR_USES.get(module, 0)


@pytest.mark.parametrize("version", ["10.3.0", "10.13.3.9.post1", "11.4.1"])
def test_supported_versions(monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    monkeypatch.setattr(importlib, "import_module", lambda name: SimpleNamespace(__version__=version))
    assert load_library(Flavour.TENSORRT).version == version


@pytest.mark.parametrize("version", ["8.6.1", "10.2.0", "12.0.0"])
def test_other_versions_are_refused(monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    monkeypatch.setattr(importlib, "import_module", lambda name: SimpleNamespace(__version__=version))
    with raises(RuntimeUnavailable, found=version, wanted=">=10.3,<12"):
        load_library(Flavour.TENSORRT)


@pytest.mark.parametrize(
    ("flavour", "version", "obstacle"),
    [
        (Flavour.TENSORRT, "10.3.0", "11.4.1"),
        (Flavour.TENSORRT, "11.4.0.106", "11.4.1"),
        (Flavour.TENSORRT, "11.4.1", None),
        (Flavour.RTX, "1.7.1", "GPUs only"),
    ],
)
def test_which_versions_build_for_dla(flavour: Flavour, version: str, obstacle: str | None) -> None:
    library: TensorRTLibrary = FakeTensorRt().library(version, flavour)
    reason: Any = library.dla_obstacle()
    assert reason is None if obstacle is None else obstacle in reason
