"""Building: with TensorRT-RTX for a GPU that is not here, and, for what it has not, with a TensorRT that is a fake."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from sr_edge.errors import (
    EngineError,
    PrecisionUnavailable,
    RuntimeUnavailable,
    SrEdgeError,
)
from sr_edge.runtimes.tensorrt.api import TensorRTLibrary
from sr_edge.runtimes.tensorrt.builder import build_engine, count_int8_layers
from sr_edge.runtimes.tensorrt.log import EngineLayer, Listener
from sr_edge.runtimes.tensorrt.options import (
    BuildOptions,
)
from sr_edge.runtimes.tensorrt.store import notes_from_build
from sr_edge.spec import ActivationType, FrameFormat, Precision
from tests.expected_errors import raises
from tests.runtimes.tensorrt.builds import FP16, FP32, INT8, SM86, built
from tests.runtimes.tensorrt.fake_tensorrt import FakeTensorRt


def test_fp32(rtx: TensorRTLibrary, toys: Any) -> None:
    engine = built(rtx, toys.plain())
    assert len(engine.plan) > 10_000
    assert engine.types.counts == {FP32: 2}
    assert (engine.types.float_precision, engine.int8_layer_count, engine.gpu_fallback_layers) == (FP32, 0, ())
    assert engine.activation_bytes > 0
    assert engine.weights_bytes >= 4 * (toys.weights.first.size + toys.weights.last.size)
    assert [layer.input_types for layer in engine.layers] == [("Float",)]


def test_fp16(rtx: TensorRTLibrary, toys: Any) -> None:
    assert built(rtx, toys.half(), FP16).types.counts == {FP16: 2}


def test_int8(rtx: TensorRTLibrary, toys: Any) -> None:
    engine = built(rtx, toys.plain(ActivationType.INT8), INT8)
    assert engine.types.counts == {INT8: 2}
    assert (len(engine.types.quantized), engine.types.float_precision) == (2, FP32)
    notes = notes_from_build(engine)
    assert (notes.ran, notes.float_precision) == (INT8, FP32)
    assert "does not list" in notes.note


def test_uint8_frames(rtx: TensorRTLibrary, toys: Any) -> None:
    assert built(rtx, toys.uint8(), io=FrameFormat.UINT8_NHWC).types.counts == {FP32: 2}


def test_controls(rtx: TensorRTLibrary, toys: Any) -> None:
    assert built(rtx, toys.controlled()).types.counts == {FP32: 2}


def test_the_same_graph_gives_the_same_types_for_another_gpu(rtx: TensorRTLibrary, toys: Any) -> None:
    for_89 = build_engine(rtx, toys.plain(), BuildOptions(compute_capability="8.9"))
    assert for_89.types == built(rtx, toys.plain()).types


@pytest.mark.parametrize(
    ("graph", "written", "requested", "command"),
    [
        ("plain", FP32, INT8, "calibrate"),
        ("plain", FP32, FP16, "export"),
        ("half", FP16, FP32, "export"),
    ],
)
def test_the_graph_decides_the_precision(
    rtx: TensorRTLibrary, toys: Any, graph: str, written: Precision, requested: Precision, command: str
) -> None:
    with raises(PrecisionUnavailable, found=written, wanted=requested) as caught:
        built(rtx, getattr(toys, graph)(), requested)
    assert command in str(caught.value.remedy)


def test_a_damaged_file(rtx: TensorRTLibrary, tmp_path: Path, toys: Any) -> None:
    for content in (b"hello", toys.plain().read_bytes()[:200]):
        (tmp_path / "bad.onnx").write_bytes(content)
        with raises(EngineError, found="bad.onnx"):
            built(rtx, tmp_path / "bad.onnx")


def one_node_graph(folder: Path, nodes: list[onnx.NodeProto], constants: dict[str, Any], opset: int = 17) -> Path:
    inputs = [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, 16, 16])]
    outputs = [helper.make_tensor_value_info("output", TensorProto.FLOAT, None)]
    tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "one", inputs, outputs, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx.save(model, folder / "one.onnx")
    return folder / "one.onnx"


# The graph, then the node's name and operator, words of TensorRT's own reason, and a name in the remedy.
REFUSED: dict[str, tuple[list[onnx.NodeProto], dict[str, Any], int, tuple[str, str], str, str]] = {
    "unknown operator": (
        [helper.make_node("Det", ["input"], ["output"], name="volume")],
        {},
        17,
        ("volume", "Det"),
        "TensorRT has no such operator",
        "onnxruntime",
    ),
    "node without a name": (
        [helper.make_node("Det", ["input"], ["output"])],
        {},
        17,
        ("output", "Det"),
        "TensorRT has no such operator",
        "onnxruntime",
    ),
    "antialiased resize": (
        [helper.make_node("Resize", ["input", "", "", "sizes"], ["output"], name="up", mode="cubic", antialias=1)],
        {"sizes": np.array([1, 3, 8, 8])},
        18,
        ("up", "Resize"),
        "Antialiasing is not supported",
        "antialiasing",
    ),
    "mixed types": (
        [
            helper.make_node("Cast", ["input"], ["half"], to=TensorProto.FLOAT16),
            helper.make_node("Add", ["half", "input"], ["output"], name="mix"),
        ],
        {},
        17,
        ("mix", "Add"),
        "must have same input types",
        "Cast",
    ),
    "zero point": (
        [
            helper.make_node("QuantizeLinear", ["input", "scale", "zero"], ["q"], name="q0"),
            helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["output"]),
        ],
        {"scale": np.float32(0.1), "zero": np.uint8(128)},
        17,
        ("q0", "QuantizeLinear"),
        "zero point is not supported",
        "model.int8.onnx",
    ),
    "int32 bias": (
        [helper.make_node("DequantizeLinear", ["bias", "scale"], ["output"], name="b0")],
        {"scale": np.float32(0.1), "bias": np.zeros(3, np.int32)},
        17,
        ("b0", "DequantizeLinear"),
        "Int32",
        "QuantizeBias=False",
    ),
    "dynamic quantization": (
        [
            helper.make_node("DynamicQuantizeLinear", ["input"], ["q", "s", "z"], name="dyn"),
            helper.make_node("DequantizeLinear", ["q", "s", "z"], ["output"]),
        ],
        {},
        17,
        ("dyn", "DynamicQuantizeLinear"),
        "",
        "sr-edge calibrate",
    ),
    "an operator of somebody's own": (
        [helper.make_node("Mine", ["input"], ["output"], name="m0", domain="my.ops")],
        {},
        17,
        ("m0", "Mine"),
        "Plugin not found",
        "standard ONNX operators",
    ),
}


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED)
def test_a_refused_node_is_named_with_reason_and_way_out(rtx: TensorRTLibrary, tmp_path: Path, case: Any) -> None:
    nodes, constants, opset, node, reason, way_out = case
    with raises(EngineError, found=node) as caught:
        built(rtx, one_node_graph(tmp_path, nodes, constants, opset))
    problem = caught.value.problem
    assert problem.startswith("tensorrt-rtx") and reason in problem
    assert way_out in str(caught.value.remedy)
    assert not any(noise in problem for noise in (".cpp", "Error Code", "cudaError", "Assertion"))


def test_the_need_that_is_stated_is_weights_twice_and_the_largest_layer(rtx: TensorRTLibrary, toys: Any) -> None:
    graph = toys.plain()
    need = built(rtx, graph).memory
    assert need.weights_bytes == graph.stat().st_size
    assert need.activations_bytes == 4 * 16 * 24 * (16 + 16)  # the ReLU: 16 channels in and out
    assert need.build_bytes == 2 * need.weights_bytes + need.activations_bytes


def test_progress_is_reported_by_phase(rtx: TensorRTLibrary, toys: Any) -> None:
    steps: dict[str, list[tuple[int, int]]] = {}

    def report(stage: str, done: int, total: int) -> None:
        steps.setdefault(stage, []).append((done, total))

    build_engine(rtx, toys.plain(), BuildOptions(compute_capability=SM86), progress=report)
    assert "Building engine" in steps
    for seen in steps.values():
        done = [step for step, _ in seen]
        assert done == sorted(done)
        assert seen[-1][0] == seen[-1][1] > 0


@pytest.fixture
def python_interrupts() -> Iterator[None]:
    """Ctrl-C as Python hears it, whatever the shell that started the tests ignores."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("python_interrupts")
@pytest.mark.parametrize("taken_by", ["any thread", "the building thread"])
def test_ctrl_c_ends_the_build_at_its_next_step(
    rtx: TensorRTLibrary, toys: Any, monkeypatch: pytest.MonkeyPatch, taken_by: str
) -> None:
    interrupted = threading.Event()
    steps: list[bool] = []
    submit, shutdown = ThreadPoolExecutor.submit, ThreadPoolExecutor.shutdown

    def submit_late(pool: ThreadPoolExecutor, call: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Hands over late, as where TensorRT keeps the caller's thread from running."""
        building = submit(pool, call, *args, **kwargs)
        interrupted.wait(0.5)
        return building

    def shut_down(pool: ThreadPoolExecutor, wait: bool = True, **kwargs: Any) -> None:
        """Called when the caller's thread no longer waits for the build, but only for its thread to end."""
        interrupted.set()
        shutdown(pool, wait, **kwargs)

    def report(stage: str, done: int, total: int) -> None:
        if taken_by == "any thread":
            os.kill(os.getpid(), signal.SIGINT)
        else:
            signal.pthread_kill(threading.get_ident(), signal.SIGINT)
        steps.append(interrupted.wait(30))

    monkeypatch.setattr(ThreadPoolExecutor, "submit", submit_late)
    monkeypatch.setattr(ThreadPoolExecutor, "shutdown", shut_down)
    with pytest.raises(KeyboardInterrupt):
        build_engine(rtx, toys.plain(), BuildOptions(compute_capability=SM86), progress=report)
    assert steps == [True]
    assert not any(thread.name.startswith("sr-edge-build") for thread in threading.enumerate())
    assert built(rtx, toys.plain()).plan


def test_a_report_that_fails_is_not_swallowed(rtx: TensorRTLibrary, toys: Any) -> None:
    error = OSError("no terminal")

    def report(stage: str, done: int, total: int) -> None:
        raise error

    with pytest.raises(OSError) as caught:
        build_engine(rtx, toys.plain(), BuildOptions(compute_capability=SM86), progress=report)
    assert caught.value is error


@pytest.mark.parametrize(
    ("message", "error", "fields"),
    [
        (
            (2, "Requested amount of GPU memory (1073741824 bytes) could not be allocated."),
            EngineError,
            {"found": 512 << 20, "wanted": 1 << 30},
        ),
        (
            (1, "CUDA initialization failure with error: 35"),
            RuntimeUnavailable,
            {"wanted": "an NVIDIA GPU and its driver"},
        ),
        (
            (1, "[x.cpp::f::12] Error Code 10: Internal Error (no kernel for conv0)"),
            EngineError,
            {"found": "plain-None-16x24.onnx", "wanted": None},
        ),
    ],
)
def test_a_build_that_fails_says_why(toys: Any, message: Any, error: type[SrEdgeError], fields: dict[str, Any]) -> None:
    trt = FakeTensorRt(plan=None, log=(message,))
    with raises(error, **fields):
        build_engine(trt.library(), toys.plain(), BuildOptions(), free_bytes=512 << 20)


def test_memory_that_ran_out_unnumbered_is_estimated(toys: Any) -> None:
    trt = FakeTensorRt(plan=None, log=((1, "Error Code 1: Cuda Runtime (out of memory)"),))
    need = build_engine(FakeTensorRt().library(), toys.plain(), BuildOptions()).memory
    workspace_bytes = 256 << 20  # half of what is free
    with raises(EngineError, found=512 << 20, wanted=workspace_bytes + need.build_bytes):
        build_engine(trt.library(), toys.plain(), BuildOptions(), free_bytes=512 << 20)


ENGINE_LAYERS = """Engine Layer Information:
Layer(Reformat): reformat 0, Tactic: 0x3e9, input (Float[1,3,16,24]) -> a (Int8[1,3:4,16,24])
Layer(CaskConvolution): conv0 + relu0, Tactic: 0x9c, a (Int8[1,3:4,16,24]) -> b (Int8[1,16:32,16,24])
Layer(CaskConvolution): conv1, Tactic: 0x1f, b (Half[1,16,16,24]), c (Half[1,16,16,24]) -> output (Half[1,12,16,24])"""


def test_the_engines_own_layers_are_read_from_the_log() -> None:
    layers = Listener([(4, "something else"), (4, ENGINE_LAYERS)]).engine_layers()
    assert [(layer.kind, layer.name) for layer in layers] == [
        ("Reformat", "reformat 0"),
        ("CaskConvolution", "conv0 + relu0"),
        ("CaskConvolution", "conv1"),
    ]
    assert [layer.input_types for layer in layers] == [("Float",), ("Int8",), ("Half", "Half")]
    assert count_int8_layers(("conv0", "conv1"), layers) == 1
    assert count_int8_layers(("conv0", "conv9"), layers) is None
    assert count_int8_layers((), layers) == 0


def test_a_part_that_was_compiled_as_a_whole_does_not_tell() -> None:
    whole = [EngineLayer("Myelin", "{ForeignNode[conv0...conv1]}", ("Float",))]
    assert count_int8_layers(("conv0",), whole) is None


KILLED = """
import os, signal, sys
from pathlib import Path
from sr_edge.runtimes.tensorrt.cache import EngineCache
from sr_edge.runtimes.tensorrt.api import Flavour, load_library
from sr_edge.runtimes.tensorrt.store import fetch_engine, target_of_capability
from sr_edge.runtimes.tensorrt.options import BuildOptions

def report(stage, done, total):
    os.kill(os.getpid(), signal.SIGKILL)

cache = EngineCache(Path(sys.argv[2]))
library, target = load_library(Flavour.RTX), target_of_capability("8.6")
fetch_engine(library, Path(sys.argv[1]), BuildOptions(), target, cache, progress=report)
"""


@pytest.mark.usefixtures("rtx")
def test_a_kill_in_the_middle_of_a_real_build_leaves_no_engine(toys: Any, tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, str(toys.plain()), str(tmp_path)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert {path.suffix for path in tmp_path.iterdir()} == {".lock"}
