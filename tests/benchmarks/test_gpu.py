"""benchmarks/gpu.py without a GPU: its contenders, those of torch on the CPU, the rates and the roofline."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from sr_edge.errors import RuntimeUnavailable
from sr_edge.export.graph.metadata import Form
from sr_edge.models.macs import count_macs
from sr_edge.runtimes import Availability
from sr_edge.spec import Precision, TileSpec
from tests.expected_errors import raises

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
TILE = TileSpec(24, 24)
FP32, FP16, INT8 = Precision.FP32, Precision.FP16, Precision.INT8


class Scripts:
    """The modules under test, which import one another by bare names, as they do when they are run."""

    def __init__(self) -> None:
        self.gpu: Any = importlib.import_module("gpu")
        self.contenders: Any = importlib.import_module("gpu_contenders")
        self.torch: Any = importlib.import_module("gpu_torch")
        self.rates: Any = importlib.import_module("gpu_rates")
        self.roofline: Any = importlib.import_module("gpu_roofline")


@pytest.fixture(scope="module")
def scripts() -> Iterator[Scripts]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        yield Scripts()


def test_the_tensorrt_that_works_competes(scripts: Scripts, monkeypatch: pytest.MonkeyPatch) -> None:
    works = {"tensorrt-rtx"}
    monkeypatch.setattr(scripts.contenders, "availability", lambda name: Availability(works=name in works))
    found = scripts.contenders.contenders()
    assert {entry.runtime for entry in found} == {"tensorrt-rtx", "onnxruntime", "torch"}
    assert {(entry.precision, entry.form) for entry in found if entry.runtime == "tensorrt-rtx"} == {
        (FP16, Form.STATIC),
        (FP16, Form.TRACED),
        (INT8, Form.STATIC),
    }
    works.clear()  # both are listed then, each with its reason
    assert {"tensorrt", "tensorrt-rtx"} <= {entry.runtime for entry in scripts.contenders.contenders()}
    assert [{entry.runtime for entry in pair} for pair in scripts.contenders.compiled_pairs()] == 2 * [
        {"torch", "torch.compile"}
    ]


def test_torch_competes_through_the_same_functions(
    scripts: Scripts, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    contender, open_torch = scripts.contenders.Contender, scripts.torch.open_torch
    monkeypatch.setattr(scripts.torch, "open_torch", functools.partial(open_torch, backend="eager"))
    entries = [
        contender("torch", FP32, Form.STATIC),
        contender("torch", FP32, Form.TRACED),
        contender("torch.compile", FP32, Form.TRACED),
        contender("onnxruntime", FP16, Form.STATIC),
    ]
    plan = scripts.gpu.Plan(2, {"small": (30, 40)}, "cpu", scripts.rates.DeviceRates({"fp32": 1e9}, 1e9))
    network = scripts.contenders.Network("convnet-tiny", TILE, tmp_path)
    told: list[Any] = []
    static, traced, compiled, absent = scripts.gpu.measure_system(network, entries, plan, told.append)
    assert [set(rows[0].fps) for rows in told] == [set(), {"small"}] and all(rows[0].tile_ms for rows in told)
    for row in (static, traced, compiled):
        assert row.reason == "" and row.version == torch.__version__
        assert row.tile_ms.runs == 2 and row.fps["small"] > 0 and row.on_device is None
    macs = count_macs(network.load().module, 24, 24)
    assert static.peak_share == pytest.approx(macs / (static.tile_ms.p50_ms / 1e3) / 1e9)
    assert static.of_static is None and compiled.of_static is None and traced.of_static.median > 0
    assert absent.tile_ms is None and "make bench-gpu-prepare" in absent.reason


def test_graphs_are_read_from_files_and_compete(scripts: Scripts, tmp_path: Path) -> None:
    network = scripts.contenders.Network("convnet-tiny", TILE, tmp_path)
    importlib.import_module("gpu_graphs").write_graphs(network)
    assert all(file.is_file() for file in network.files) and len(list(tmp_path.iterdir())) == len(network.files)
    assert network.count_macs() == count_macs(network.load().module, 24, 24)
    entries = [scripts.contenders.Contender("onnxruntime", FP16, form) for form in (Form.STATIC, Form.TRACED)]
    plan = scripts.gpu.Plan(1, {}, "cpu", scripts.rates.DeviceRates())
    rows = scripts.gpu.measure_system(network, entries, plan)
    assert all("fp16" in row.reason for row in rows)  # a CPU has no fp16 kernels, so that nothing ran


def test_the_roofline_is_bound_by_arithmetic_or_by_bytes(scripts: Scripts, tmp_path: Path) -> None:
    """A convolution 3x3 of 4 to 8 channels on 6x5 pixels: 8640 multiply-accumulates, 648 values."""
    weight = np.zeros((8, 4, 3, 3), np.float16)
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1])],
        "conv",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT16, [1, 4, 6, 5])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT16, [1, 8, 6, 5])],
        [numpy_helper.from_array(weight, "w")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), tmp_path / "conv.onnx")
    costs = scripts.roofline.graph_costs(tmp_path / "conv.onnx")
    assert [(cost.macs, cost.values) for cost in costs] == [(6 * 5 * 8 * 4 * 9, 120 + 288 + 240)]
    rates = scripts.rates.DeviceRates
    assert scripts.roofline.roofline_ms(costs, FP16, rates({"fp16": 8640.0}, 1e12)) == pytest.approx(1e3)
    assert scripts.roofline.roofline_ms(costs, FP16, rates({"fp16": 1e12}, 648.0)) == pytest.approx(2e3)
    assert scripts.roofline.roofline_ms(costs, INT8, rates({"fp16": 1e12}, 648.0)) is None
    assert scripts.roofline.roofline_ms(costs, FP16, rates({"fp16": 1e12})) is None
    assert scripts.roofline.roofline_ms((), FP16, rates({"fp16": 1e12}, 1e12)) is None


@pytest.mark.parametrize("form", Form)
def test_torchs_frames_are_those_of_the_network(scripts: Scripts, form: Form) -> None:
    network = scripts.contenders.Network("convnet-tiny", TILE, Path())
    frame = np.random.default_rng(0).integers(0, 256, (24, 24, 3), np.uint8)
    with scripts.torch.open_torch(scripts.contenders.Contender("torch", FP32, form), network, "cpu") as session:
        found = session.run(frame)
    with torch.inference_mode():
        exact = network.load().module(torch.from_numpy(frame).permute(2, 0, 1)[None].float() / 255)[0]
    wanted = (255 * exact.clamp(0, 1)).permute(1, 2, 0).numpy()
    assert np.abs(found - wanted).max() <= 0.51


def test_a_torch_without_cuda_is_told_of(scripts: Scripts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    contender = scripts.contenders.Contender("torch", FP16, Form.STATIC)
    with raises(RuntimeUnavailable, found=torch.__version__, wanted="cuda"):
        scripts.torch.open_torch(contender, scripts.contenders.Network("convnet-tiny", TILE, Path()), "cuda")
    with raises(RuntimeUnavailable, found=torch.__version__, wanted="cuda"):
        importlib.import_module("gpu_rates_torch").measure_rates("cuda")


def test_the_rates_are_by_precision(scripts: Scripts) -> None:
    rates = importlib.import_module("gpu_rates_torch").measure_rates("cpu", matmul_side=32, copy_bytes=1 << 16)
    assert set(rates.matmul_macs_per_s) == {"fp16", "int8"} and min(rates.matmul_macs_per_s.values()) > 0
    assert rates.copy_bytes_per_s > 0 and rates.obstacles == ()


def test_a_machine_without_a_gpu_repeats_the_others(scripts: Scripts) -> None:
    run_all: Any = importlib.import_module("run_all")
    assert run_all.GPU not in {*run_all.STEPS, *run_all.TRAINED_STEPS}
