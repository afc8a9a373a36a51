"""benchmarks/gpu.py without a GPU: its arguments, its torch contenders on the CPU, and the page of a made-up result."""

from __future__ import annotations

import functools
import importlib
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sr_edge.bench import describe_environment
from sr_edge.bench.rows import DeviceFigures
from sr_edge.errors import RuntimeUnavailable
from sr_edge.export.metadata import Form
from sr_edge.runtimes import Availability, Spread
from sr_edge.runtimes.cuda import Gpu
from sr_edge.runtimes.gpu_state import GpuState
from sr_edge.runtimes.tensorrt_session import DeviceLatency, DeviceMemory
from sr_edge.spec import Latency, Precision, TileSpec

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
TILE = TileSpec(24, 24)
FP32, FP16, INT8 = Precision.FP32, Precision.FP16, Precision.INT8
GPU = Gpu(0, "RTX 3060", "8.6", 12 << 30, is_integrated=False)


class Scripts:
    """The modules under test, which import one another by bare names, as they do when they are run."""

    def __init__(self) -> None:
        self.gpu: Any = importlib.import_module("gpu")
        self.contenders: Any = importlib.import_module("gpu_contenders")
        self.page: Any = importlib.import_module("page")
        self.run_all: Any = importlib.import_module("run_all")


@pytest.fixture(scope="module")
def scripts() -> Iterator[Scripts]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        yield Scripts()


def no_gpus() -> tuple[Gpu, ...]:
    raise RuntimeUnavailable("no NVIDIA GPU can be used here (no driver)")


def call(scripts: Scripts, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> object:
    """The exit code that `gpu.py ARGUMENTS` ends with; text counts as 1 and is printed."""
    monkeypatch.setattr(sys, "argv", ["gpu.py", *arguments])
    with pytest.raises(SystemExit) as caught:
        scripts.gpu.main()
    return caught.value.code


def test_without_a_gpu_it_says_so_and_writes_nothing(
    scripts: Scripts, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(scripts.gpu, "find_gpus", no_gpus)
    told = call(scripts, monkeypatch, "--json", str(tmp_path / "gpu.json"))
    assert told == "these figures need an NVIDIA GPU: no NVIDIA GPU can be used here (no driver)"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "told"),
    [(("--rounds", "0"), "cannot measure 0 rounds"), (("--systems", "labnet-huge"), "labnet-huge")],
)
def test_wrong_arguments(
    scripts: Scripts,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    told: str,
) -> None:
    assert call(scripts, monkeypatch, *arguments) == 2
    assert told in capsys.readouterr().err


def test_a_tile_that_the_network_does_not_take_is_told_in_a_line(
    scripts: Scripts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scripts.gpu, "find_gpus", lambda: (GPU,))
    monkeypatch.setattr(scripts.gpu, "read_gpu_state", lambda index: None)
    monkeypatch.setattr(scripts.gpu, "matmul_rates", lambda device: {})
    told = call(scripts, monkeypatch, "--systems", "taylor-swinir-tiny", "--tile", "40")
    assert isinstance(told, str) and told.startswith("nothing was written: ") and "48" in told


def test_the_tensorrt_that_works_competes(scripts: Scripts, monkeypatch: pytest.MonkeyPatch) -> None:
    works = {"tensorrt-rtx"}
    monkeypatch.setattr(scripts.contenders, "availability", lambda name: Availability(works=name in works))
    found = scripts.contenders.contenders()
    assert {entry.runtime for entry in found} == {"tensorrt-rtx", "onnxruntime", "torch", "torch.compile"}
    assert {(entry.precision, entry.form) for entry in found if entry.runtime == "tensorrt-rtx"} == {
        (FP16, Form.STATIC),
        (FP16, Form.TRACED),
        (INT8, Form.STATIC),
    }
    works.clear()  # both are listed then, each with its reason
    assert {"tensorrt", "tensorrt-rtx"} <= {entry.runtime for entry in scripts.contenders.contenders()}


def test_torch_competes_through_the_same_functions(scripts: Scripts, monkeypatch: pytest.MonkeyPatch) -> None:
    contender, open_torch = scripts.contenders.Contender, scripts.contenders.open_torch
    monkeypatch.setattr(scripts.contenders, "open_torch", functools.partial(open_torch, backend="eager"))
    entries = [
        contender("torch", FP32, Form.STATIC),
        contender("torch", FP32, Form.TRACED),
        contender("torch.compile", FP32, Form.TRACED),
        contender("onnxruntime", FP16, Form.STATIC),
    ]
    plan = scripts.gpu.Plan(TILE, 2, {"small": (30, 40)}, "cpu", {"fp32": 1e9})
    static, traced, compiled, absent = scripts.gpu.measure_system("convnet-tiny", entries, plan)
    for row in (static, traced, compiled):
        assert row.reason == "" and row.version == torch.__version__
        assert row.tile_ms.runs == 2 and row.fps["small"] > 0 and row.on_device is None
    macs = scripts.gpu.count_macs(scripts.contenders.Network("convnet-tiny", TILE, Path()).load().module, 24, 24)
    assert static.peak_share == pytest.approx(macs / (static.tile_ms.p50_ms / 1e3) / 1e9)
    assert static.of_static is None and compiled.of_static is None and traced.of_static.median > 0
    assert absent.tile_ms is None and "fp16" in absent.reason


@pytest.mark.parametrize("form", Form)
def test_torchs_frames_are_those_of_the_network(scripts: Scripts, form: Form) -> None:
    network = scripts.contenders.Network("convnet-tiny", TILE, Path())
    frame = np.random.default_rng(0).integers(0, 256, (24, 24, 3), np.uint8)
    with scripts.contenders.open_torch(scripts.contenders.Contender("torch", FP32, form), network, "cpu") as session:
        found = session.run(frame)
    with torch.inference_mode():
        exact = network.load().module(torch.from_numpy(frame).permute(2, 0, 1)[None].float() / 255)[0]
    wanted = (255 * exact.clamp(0, 1)).permute(1, 2, 0).numpy()
    assert np.abs(found - wanted).max() <= 0.51


def test_a_torch_without_cuda_is_told_of(scripts: Scripts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    contender = scripts.contenders.Contender("torch", FP16, Form.STATIC)
    with pytest.raises(RuntimeUnavailable, match="sees no CUDA device"):
        scripts.contenders.open_torch(contender, scripts.contenders.Network("convnet-tiny", TILE, Path()), "cuda")
    assert scripts.gpu.matmul_rates("cuda") == {}


def test_the_rate_of_a_matmul_is_by_precision(scripts: Scripts) -> None:
    rates = scripts.gpu.matmul_rates("cpu", side=32)
    assert set(rates) == {"fp16", "int8"} and min(rates.values()) > 0


def sample(scripts: Scripts) -> Any:
    """A result that nobody measured."""
    ms = Latency.from_samples([2.0, 4.0, 6.0])
    state = GpuState("fake", 100.0, 1410.0, 1980.0, 50.0)
    latency = DeviceLatency(ms, ms, ms, ms, ms, ("transfer-bound: copying takes long",), state, state)
    names = ("convnet-light", "tensorrt", "fp16")
    rows = (
        scripts.gpu.GpuRow(
            *names,
            "static",
            version="10.3",
            tile_ms=ms,
            peak_share=0.25,
            fps={"270p": 120.5, "1080p": 7.25},
            on_device=DeviceFigures(latency, DeviceMemory(1_000_000, 2_000_000, 3_000_000)),
        ),
        scripts.gpu.GpuRow(
            *names, "traced", tile_ms=ms, of_static=Spread(1.75, 1.5, 2.0), fps={"270p": 60.0, "1080p": 3.0}
        ),
        scripts.gpu.GpuRow("convnet-light", "onnxruntime", "fp16", "static", reason="no device 'cuda' here"),
    )
    rates = {"fp16": 25e12}
    return scripts.gpu.GpuReport("RTX 3060", "8.6", 12 << 30, state, state, "", rates, "192x192", 3, rows)


def test_the_page_has_absolute_times_and_says_who_did_not_run(scripts: Scripts) -> None:
    kept = {
        "environment": asdict(describe_environment()),
        "commands": ["python benchmarks/gpu.py"],
        "figures": json.loads(json.dumps(asdict(sample(scripts)))),
    }
    shown = scripts.page.benchmarks_page({"gpu": kept})
    assert "## On an NVIDIA GPU, x2" in shown
    assert "RTX 3060, compute capability 8.6, 12 GiB; 1410 MHz of 1980 and 100 W before" in shown
    assert "fp16 25.0" in shown
    assert "| convnet-light | tensorrt | fp16 | static | 4.00 | 5.96 |  | 25.0% | 120.5 | 7.2 |" in shown
    assert "| convnet-light | tensorrt | fp16 | traced | 4.00 | 5.96 | 1.75 |  | 60.0 | 3.0 |" in shown
    assert "| convnet-light | tensorrt | fp16 | static | 4.000 | 4.000 | 4.000 | 4.000 | 6.0 |" in shown
    assert "- convnet-light, tensorrt fp16 static: transfer-bound" in shown
    assert "- onnxruntime did not run: no device 'cuda' here" in shown


def test_one_command_keeps_the_result_or_leaves_what_is_there(
    scripts: Scripts, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    report, succeeds = json.dumps(asdict(sample(scripts))), False

    def run(command: str, folder: Path, figures: Path) -> subprocess.CompletedProcess[str]:
        if succeeds:
            figures.write_text(report)
        return subprocess.CompletedProcess(command, 0 if succeeds else 1, "")

    monkeypatch.setattr(scripts.run_all, "run", run)
    monkeypatch.setattr(scripts.run_all, "ROOT", tmp_path)
    monkeypatch.setattr(scripts.run_all, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(scripts.run_all, "PAGE", tmp_path / "benchmarks.md")
    monkeypatch.setattr(sys, "argv", ["run_all.py", "--only", "gpu"])
    with pytest.raises(SystemExit, match="gpu failed"):
        scripts.run_all.main()
    assert list(tmp_path.iterdir()) == []
    succeeds = True
    scripts.run_all.main()
    assert json.loads((tmp_path / "results" / "gpu.json").read_text())["figures"]["device"] == "RTX 3060"
    assert "RTX 3060" in (tmp_path / "benchmarks.md").read_text()


def test_a_machine_without_a_gpu_repeats_the_others(scripts: Scripts) -> None:
    assert not set(scripts.run_all.STEPS) & set(scripts.run_all.GPU_STEPS)
