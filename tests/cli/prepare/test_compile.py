"""`sr-edge compile`: an engine out of a bundle with TensorRT-RTX, for a GPU that is not here; and what it refuses."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sr_edge.installation import how_to_install
from sr_edge.runtimes import find_entry

RTX = ("--runtime", "tensorrt-rtx", "--compute-capability", "8.6")


@pytest.fixture(autouse=True)
def engines(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The cache of this test alone."""
    monkeypatch.setenv("SR_EDGE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "engines"


@pytest.fixture
def rtx() -> None:
    pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed (extra rtx)", exc_type=ImportError)


@pytest.mark.usefixtures("rtx")
def test_it_builds_once_and_says_what(sr_edge: Any, bundle: Path, tmp_path: Path) -> None:
    first = sr_edge("compile", bundle, *RTX, "--workspace", 512, "-o", tmp_path / "tiny.engine")
    assert first.code == 0, first.stderr
    assert "GPUs of compute capability 8.6, tensorrt-rtx" in first.stdout
    assert "fp32, float layers in fp32" in first.stdout
    assert "limited to 512 MiB (as requested)" in first.stderr
    again = sr_edge("compile", bundle, *RTX, "--workspace", 512, "--json")
    document = json.loads(again.stdout)
    assert document["was_built"] is False
    assert Path(document["engine"]).read_bytes() == (tmp_path / "tiny.engine").read_bytes()
    assert document["record"]["key"]["compute_capability"] == "8.6"


@pytest.mark.usefixtures("rtx")
def test_int8_says_what_is_not_known(sr_edge: Any, bundle: Path) -> None:
    done = sr_edge("compile", bundle, *RTX, "--precision", "int8")
    assert done.code == 0, done.stderr
    assert (
        "int8, float layers in fp32 (this engine does not list whether its quantized layers use INT8 kernels"
        in done.stdout
    )


@pytest.mark.usefixtures("rtx")
def test_each_choice_has_an_engine_of_its_own(sr_edge: Any, bundle: Path, engines: Path) -> None:
    int8 = ("--precision", "int8")
    for choice in ((), ("--optimization-level", 1), ("--io", "uint8"), int8, (*int8, "--io", "uint8")):
        assert sr_edge("compile", bundle, *RTX, *choice).code == 0
    assert len(list(engines.glob("*.engine"))) == 5


@pytest.mark.usefixtures("rtx")
def test_an_engine_from_elsewhere_is_taken_only_when_named(sr_edge: Any, bundle: Path, engines: Path) -> None:
    assert sr_edge("compile", bundle, *RTX).code == 0
    (engines / "maker.key").write_bytes(bytes(32))  # as if the folder came from another machine
    (engine,) = engines.glob("*.engine")
    refused = sr_edge("compile", bundle, *RTX)
    assert refused.code == 1
    assert f"--trust-engine {engine}" in refused.error
    assert sr_edge("compile", bundle, *RTX, "--trust-engine", engine).code == 0
    second = sr_edge("compile", bundle, *RTX)
    assert second.code == 0
    assert "trusted" in second.stdout


REFUSED: dict[str, tuple[tuple[object, ...], int, tuple[str, ...]]] = {
    "int8 on DLA": (("--precision", "int8", "--dla", 0), 2, ("int8", "--precision fp16", "--dla")),
    "fp32 on DLA": (("--dla", 0), 2, ("fp32", "--precision fp16", "--dla")),
    "another runtime": (("--runtime", "openvino"), 2, ("openvino", "tensorrt, tensorrt-rtx")),
    "no GPU": (("--runtime", "tensorrt-rtx"), 1, ("NVIDIA", "cudaError")),
    "a capability": ((*RTX[:3], "sm86"), 2, ("sm86", "8.6")),
    "another capability": ((*RTX[:3], "8.7"), 2, ("8.7", "7.5, 8.0, 8.6")),
    "sizes": ((*RTX, "--sizes", "64,96"), 2, ("64,96", "MIN,OPT,MAX")),
    "sizes of a fixed graph": ((*RTX, "--sizes", "16,24,32"), 2, ("--sizes 16x16,24x24,32x32",)),
    "a compatibility": ((*RTX, "--compatible", "always"), 2, ("always", "version, hardware")),
    "no such compatibility": ((*RTX, "--compatible", "version"), 2, ("version-compatible", "--compute-capability")),
    "a timing cache": ((*RTX, "--timing-cache", "times"), 2, ("--timing-cache",)),
    "an absent precision": ((*RTX, "--precision", "fp16"), 1, ("tiny.sredge", "tensorrt-rtx", "fp16", "fp32, int8")),
    "an absent engine": ((*RTX, "--trust-engine", "absent.engine"), 2, ("absent.engine", "--trust-engine")),
    "an absent folder": ((*RTX, "-o", "absent/x.engine"), 2, ("folder absent",)),
}


@pytest.mark.usefixtures("rtx")
@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED)
def test_refusals(sr_edge: Any, bundle: Path, case: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    arguments, code, values = case
    done = sr_edge("compile", bundle, *arguments)
    for value in values:
        assert value in done.error
    assert done.code == code


def test_an_absent_library_says_where_it_comes_from(
    sr_edge: Any, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = find_entry("tensorrt")
    monkeypatch.delitem(sys.modules, entry.module, raising=False)
    monkeypatch.setitem(sys.modules, entry.library, None)
    done = sr_edge("compile", bundle)
    assert done.code == 1
    assert how_to_install("tensorrt") in done.error
    assert "JetPack" in done.error


@pytest.mark.usefixtures("rtx")
def test_ctrl_c_leaves_no_engine(bundle: Path, engines: Path) -> None:
    program = str(Path(sys.executable).parent / "sr-edge")
    command = [program, "compile", str(bundle), *RTX]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        lines = iter(process.stderr.readline, "")
        assert any(line.startswith("building needs") for line in lines), "no build began"
        os.kill(process.pid, signal.SIGINT)
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert stderr.splitlines()[-1] == "sr-edge: interrupted"
    assert {path.suffix for path in engines.iterdir()} <= {".lock", ".key"}
