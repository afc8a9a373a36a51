"""`sr-edge bench` on a GPU that is a fake: what its session measures by itself is in JSON, table and CSV."""

from __future__ import annotations

import csv
import itertools
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sr_edge.bench.tables import DEVICE_HEADINGS
from sr_edge.bundle import Artifact, ArtifactKind, Manifest, sha256_of, staging_folder, write_bundle
from sr_edge.cli.app import app
from sr_edge.cli.failures import run_command
from sr_edge.runtimes import find_entry
from sr_edge.runtimes.cuda.api import CudaError
from sr_edge.runtimes.cuda.gpu_state import GpuState
from sr_edge.runtimes.tensorrt.runtime import TensorRtRuntime
from sr_edge.spec import FrameFormat, ModelCard, Precision, TileSpec
from tests.runtimes.cuda.fake_cuda import FakeCuda
from tests.runtimes.tensorrt.fake_tensorrt import FakeTensorRt

RUNS = 4
Bench = Callable[..., str]


@pytest.fixture
def bundle(toys: Any, tmp_path: Path) -> Path:
    """The toy network's fp32 graph alone."""
    out, tile = tmp_path / "toy.sredge", TileSpec(16, 24)
    with staging_folder(out) as staging:
        file = staging / "model.onnx"
        file.write_bytes(toys.plain().read_bytes())
        fp32, shape = Precision.FP32, (1, 3, 16, 24)
        graph = Artifact(file.name, ArtifactKind.ONNX, fp32, fp32, None, FrameFormat.FLOAT_NCHW, shape, sha256_of(file))
        write_bundle(out, Manifest(ModelCard("toy", 2, 10), tile, (graph,)), staging)
    return out


@pytest.fixture
def cuda() -> FakeCuda:
    return FakeCuda()


@pytest.fixture
def bench(
    bundle: Path,
    cuda: FakeCuda,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> Bench:
    """Runs the command beside a fake GPU, whose clock falls between two readings; gives its standard output."""
    clocks = itertools.cycle([1410.0, 1200.0])
    access = cuda.access(lambda: GpuState("fake", 41.2, next(clocks), 1980.0, 46.0))
    monkeypatch.setenv("SR_EDGE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("COLUMNS", raising=False)
    on_gpu = TensorRtRuntime(FakeTensorRt(cuda).library(), access)
    entry = find_entry("tensorrt")
    monkeypatch.setitem(sys.modules, entry.module, SimpleNamespace(**{entry.factory: lambda flavour: on_gpu}))

    def run(*arguments: object, runtime: str = "tensorrt", device: str = "cuda") -> str:
        chosen = ("--runtimes", runtime, "--device", device, "--precisions", "fp32", "--runs", RUNS, "--no-memory")
        code = run_command(app, [str(word) for word in ("bench", bundle, *chosen, *arguments)])
        captured = capsys.readouterr()
        assert code == 0, captured.err
        return captured.out

    return run


def test_the_document_has_what_the_device_measured(bench: Bench) -> None:
    (row,) = json.loads(bench("--json"))["rows"]
    latency, memory = row["on_device"]["latency"], row["on_device"]["memory"]
    assert {latency[part]["runs"] for part in ("h2d", "compute", "d2h", "total", "enqueue")} == {RUNS}
    parts = sum(latency[part]["mean_ms"] for part in ("h2d", "compute", "d2h"))
    assert latency["total"]["mean_ms"] == pytest.approx(parts)
    assert memory["context_bytes"] == 2 * 4096
    assert memory["buffer_bytes"] > 0
    assert (latency["before"]["clock_mhz"], latency["after"]["clock_mhz"]) == (1410, 1200)
    (warning,) = [line for line in latency["warnings"] if "clocks are not locked" in line]
    assert warning in row["remarks"]


def test_people_get_a_second_table_and_the_warning(bench: Bench) -> None:
    shown = bench()
    for heading in DEVICE_HEADINGS:
        assert heading in shown
    assert "41.2" in shown and "1,200" in shown
    assert "tensorrt fp32: the GPU's clock went from 1410 to 1200 MHz meanwhile" in shown


def test_the_file_has_it_too(bench: Bench, tmp_path: Path) -> None:
    bench("--csv", tmp_path / "rows.csv")
    with (tmp_path / "rows.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert float(row["device_compute_p50_ms"]) > 0
    assert int(row["device_bytes"]) > 2 * 4096


def test_a_device_that_fails_meanwhile_is_told_of(bench: Bench, cuda: FakeCuda) -> None:
    cuda.failures["elapsed_ms"] = CudaError("CUDA failed: the GPU has fallen off the bus")
    (row,) = json.loads(bench("--json"))["rows"]
    assert row["on_device"] is None and row["latency"] is not None
    assert row["remarks"] == ["CUDA failed: the GPU has fallen off the bus"]


def test_for_others_nothing_changes(bench: Bench) -> None:
    pytest.importorskip("onnxruntime")
    (row,) = json.loads(bench("--json", runtime="onnxruntime", device="cpu"))["rows"]
    assert row["on_device"] is None
    assert "H2D" not in bench(runtime="onnxruntime", device="cpu")
