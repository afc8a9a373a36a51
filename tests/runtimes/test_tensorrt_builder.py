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

from sr_edge.errors import EngineError, PrecisionUnavailable, RuntimeUnavailable, TileError, UsageError
from sr_edge.runtimes.tensorrt_api import Flavour, Library, load_library
from sr_edge.runtimes.tensorrt_builder import BuildProgress, BuiltEngine, build_engine, int8_layers_run
from sr_edge.runtimes.tensorrt_engines import notes_of
from sr_edge.runtimes.tensorrt_log import EngineLayer, Listener
from sr_edge.runtimes.tensorrt_options import BuildOptions, Compatibility, SizeRange, compatibility_named
from sr_edge.spec import FrameFormat, Precision, Spelling, TileSpec
from tests.runtimes.fake_tensorrt import DataType, FakeTensorRt, convolution_and_shuffle

FP32, BF16, FP16, INT8 = Precision
SM86 = "8.6"


@pytest.fixture(scope="module")
def rtx() -> Library:
    pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed (extra rtx)", exc_type=ImportError)
    return load_library(Flavour.RTX)


def built(library: Library, graph: Path, precision: Precision = FP32, **choices: Any) -> BuiltEngine:
    return build_engine(library, graph, BuildOptions(precision=precision, compute_capability=SM86, **choices))


def test_fp32(rtx: Library, toys: Any) -> None:
    engine = built(rtx, toys.plain())
    assert len(engine.plan) > 10_000
    assert engine.types.counts == {FP32: 2}
    assert (engine.types.rest, engine.int8_run, engine.fell_back) == (FP32, 0, ())
    assert engine.activation_bytes > 0
    assert engine.weights_bytes >= 4 * (toys.weights.first.size + toys.weights.last.size)
    assert [layer.input_types for layer in engine.layers] == [("Float",)]


def test_fp16(rtx: Library, toys: Any) -> None:
    assert built(rtx, toys.half(), FP16).types.counts == {FP16: 2}


def test_int8(rtx: Library, toys: Any) -> None:
    engine = built(rtx, toys.plain(Spelling.S8), INT8)
    assert engine.types.counts == {INT8: 2}
    assert (len(engine.types.quantized), engine.types.rest) == (2, FP32)
    notes = notes_of(engine)
    assert (notes.ran, notes.rest) == (INT8, FP32)
    assert "does not tell" in notes.note


def test_uint8_frames(rtx: Library, toys: Any) -> None:
    assert built(rtx, toys.uint8(), io=FrameFormat.UINT8_NHWC).types.counts == {FP32: 2}


def test_controls(rtx: Library, toys: Any) -> None:
    assert built(rtx, toys.controlled()).types.counts == {FP32: 2}


def test_a_dynamic_graph_takes_one_tile_or_a_range(rtx: Library, toys: Any) -> None:
    assert built(rtx, toys.dynamic(), tile=TileSpec(16, 24)).plan
    assert built(rtx, toys.dynamic(), sizes=SizeRange.parse("16,24,32x64")).plan
    with pytest.raises(UsageError, match=r"which sizes.*--sizes"):
        built(rtx, toys.dynamic())
    with pytest.raises(UsageError, match="one fixed size"):
        built(rtx, toys.plain(), sizes=SizeRange.parse("16,24,32"))


@pytest.mark.parametrize("capability", ["8.7", "9.0"])
def test_a_gpu_that_it_does_not_build_for(rtx: Library, toys: Any, capability: str) -> None:
    with pytest.raises(UsageError, match=rf"compute capability {capability}; it builds for 7.5, 8.0, 8.6"):
        build_engine(rtx, toys.plain(), BuildOptions(compute_capability=capability))


def test_the_same_graph_gives_the_same_types_for_another_gpu(rtx: Library, toys: Any) -> None:
    for_89 = build_engine(rtx, toys.plain(), BuildOptions(compute_capability="8.9"))
    assert for_89.types == built(rtx, toys.plain()).types


@pytest.mark.parametrize(
    ("graph", "precision", "told"),
    [
        ("plain", INT8, r"asked for int8.*no QuantizeLinear.*2 in fp32.*calibrate"),
        ("plain", FP16, r"asked for fp16.*written in fp32.*export the model in fp16"),
        ("half", FP32, r"asked for fp32.*written in fp16"),
    ],
)
def test_the_graph_decides_the_precision(rtx: Library, toys: Any, graph: str, precision: Precision, told: str) -> None:
    with pytest.raises(PrecisionUnavailable, match=told):
        built(rtx, getattr(toys, graph)(), precision)


def test_a_damaged_file(rtx: Library, tmp_path: Path, toys: Any) -> None:
    for content in (b"hello", toys.plain().read_bytes()[:200]):
        (tmp_path / "bad.onnx").write_bytes(content)
        with pytest.raises(EngineError, match=r"cannot read bad.onnx.*damaged; export the model again"):
            built(rtx, tmp_path / "bad.onnx")


def one_node_graph(folder: Path, nodes: list[onnx.NodeProto], constants: dict[str, Any], opset: int = 17) -> Path:
    inputs = [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, 16, 16])]
    outputs = [helper.make_tensor_value_info("output", TensorProto.FLOAT, None)]
    tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "one", inputs, outputs, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx.save(model, folder / "one.onnx")
    return folder / "one.onnx"


REFUSED: dict[str, tuple[list[onnx.NodeProto], dict[str, Any], int, str]] = {
    "unknown operator": (
        [helper.make_node("Det", ["input"], ["output"], name="volume")],
        {},
        17,
        r"node 'volume' \(Det\): TensorRT has no such operator; rewrite the layer without",
    ),
    "node without a name": (
        [helper.make_node("Det", ["input"], ["output"])],
        {},
        17,
        r"node 'output' \(Det\)",
    ),
    "antialiased resize": (
        [helper.make_node("Resize", ["input", "", "", "sizes"], ["output"], name="up", mode="cubic", antialias=1)],
        {"sizes": np.array([1, 3, 8, 8])},
        18,
        r"node 'up' \(Resize\): Antialiasing is not supported.*without antialiasing",
    ),
    "mixed types": (
        [
            helper.make_node("Cast", ["input"], ["half"], to=TensorProto.FLOAT16),
            helper.make_node("Add", ["half", "input"], ["output"], name="mix"),
        ],
        {},
        17,
        r"node 'mix' \(Add\): .*must have same input types.* Half and Float.*put a Cast",
    ),
    "zero point": (
        [
            helper.make_node("QuantizeLinear", ["input", "scale", "zero"], ["q"], name="q0"),
            helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["output"]),
        ],
        {"scale": np.float32(0.1), "zero": np.uint8(128)},
        17,
        r"node 'q0' \(QuantizeLinear\).*zero point is not supported.*s8 spelling",
    ),
    "int32 bias": (
        [helper.make_node("DequantizeLinear", ["bias", "scale"], ["output"], name="b0")],
        {"scale": np.float32(0.1), "bias": np.zeros(3, np.int32)},
        17,
        r"node 'b0' \(DequantizeLinear\).*Int32.*bias in float",
    ),
    "dynamic quantization": (
        [
            helper.make_node("DynamicQuantizeLinear", ["input"], ["q", "s", "z"], name="dyn"),
            helper.make_node("DequantizeLinear", ["q", "s", "z"], ["output"]),
        ],
        {},
        17,
        r"node 'dyn' \(DynamicQuantizeLinear\).*QuantizeLinear and DequantizeLinear",
    ),
    "an operator of somebody's own": (
        [helper.make_node("Mine", ["input"], ["output"], name="m0", domain="my.ops")],
        {},
        17,
        r"node 'm0' \(Mine\): Plugin not found.*standard ONNX operators",
    ),
}


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED)
def test_a_refused_node_is_named_with_reason_and_way_out(rtx: Library, tmp_path: Path, case: Any) -> None:
    nodes, constants, opset, told = case
    with pytest.raises(EngineError, match=told) as caught:
        built(rtx, one_node_graph(tmp_path, nodes, constants, opset))
    message = str(caught.value)
    assert message.startswith("tensorrt-rtx")
    assert not any(noise in message for noise in ("\n", ".cpp", "Error Code", "cudaError", "Assertion"))


def test_the_workspace_is_capped_and_stated(rtx: Library, toys: Any) -> None:
    said: list[str] = []
    options = BuildOptions(compute_capability=SM86, workspace_bytes=64 << 20)
    engine = build_engine(rtx, toys.plain(), options, say=said.append)
    assert engine.workspace_bytes == 64 << 20
    assert "at least 0.1 MiB of device memory and workspace, capped at 64 MiB (as asked)" in said[0]
    engine = build_engine(rtx, toys.plain(), BuildOptions(compute_capability=SM86), free_bytes=1 << 30, say=said.append)
    assert engine.workspace_bytes == 512 << 20
    assert "capped at 512 MiB (half of the 1,024 MiB that are free)" in said[1]


def test_a_workspace_that_is_too_small(rtx: Library, toys: Any) -> None:
    with pytest.raises(EngineError, match=r"within workspace limit.*raise the workspace with --workspace") as caught:
        built(rtx, toys.plain(), workspace_bytes=1000)
    assert ".cpp" not in str(caught.value)


def test_the_need_that_is_stated_is_weights_twice_and_the_largest_layer(rtx: Library, toys: Any) -> None:
    graph = toys.plain()
    need = built(rtx, graph).need
    assert need.weights_bytes == graph.stat().st_size
    assert need.activations_bytes == 4 * 16 * 24 * (16 + 16)  # the ReLU: 16 channels in and out
    assert need.building_bytes == 2 * need.weights_bytes + need.activations_bytes


def test_progress_is_reported_by_phase(rtx: Library, toys: Any) -> None:
    steps: dict[str, list[tuple[int, int]]] = {}

    def report(stage: str, done: int, total: int) -> None:
        steps.setdefault(stage, []).append((done, total))

    build_engine(rtx, toys.plain(), BuildOptions(compute_capability=SM86), report=report)
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
    rtx: Library, toys: Any, monkeypatch: pytest.MonkeyPatch, taken_by: str
) -> None:
    cancelled = threading.Event()
    steps: list[bool] = []

    class LatePool(ThreadPoolExecutor):
        """Hands over late, as where TensorRT keeps the caller's thread from running."""

        def submit(self, call: Any, /, *args: Any, **kwargs: Any) -> Any:
            building = super().submit(call, *args, **kwargs)
            cancelled.wait(0.5)
            return building

    class Watched(BuildProgress):
        def cancel(self) -> None:
            super().cancel()
            cancelled.set()

    def report(stage: str, done: int, total: int) -> None:
        if taken_by == "any thread":
            os.kill(os.getpid(), signal.SIGINT)
        else:
            signal.pthread_kill(threading.get_ident(), signal.SIGINT)
        steps.append(cancelled.wait(30))

    monkeypatch.setattr("sr_edge.runtimes.tensorrt_builder.ThreadPoolExecutor", LatePool)
    monkeypatch.setattr("sr_edge.runtimes.tensorrt_builder.BuildProgress", Watched)
    with pytest.raises(KeyboardInterrupt):
        build_engine(rtx, toys.plain(), BuildOptions(compute_capability=SM86), report=report)
    assert steps == [True]
    assert not any(thread.name.startswith("sr-edge-build") for thread in threading.enumerate())
    assert built(rtx, toys.plain()).plan


def test_a_report_that_fails_is_not_swallowed(rtx: Library, toys: Any) -> None:
    def report(stage: str, done: int, total: int) -> None:
        raise OSError("no terminal")

    with pytest.raises(OSError, match="no terminal"):
        build_engine(rtx, toys.plain(), BuildOptions(compute_capability=SM86), report=report)


@pytest.mark.parametrize(
    ("choices", "told"),
    [
        ({"timing_cache": Path("times")}, "has no timing cache"),
        ({"compatible": (Compatibility.VERSION,)}, "no version-compatible engines"),
        ({"compatible": (Compatibility.HARDWARE,)}, "no hardware-compatible engines"),
        ({"precision": FP16, "dla_core": 0}, "GPUs only"),
    ],
)
def test_what_rtx_has_not_is_refused_before_the_start(
    rtx: Library, toys: Any, choices: dict[str, Any], told: str
) -> None:
    with pytest.raises(UsageError, match=told):
        build_engine(rtx, toys.plain(), BuildOptions(**choices))


def test_tensorrt_builds_for_its_own_gpu_only(toys: Any) -> None:
    with pytest.raises(UsageError, match="this machine only"):
        built(FakeTensorRt().library(), toys.plain())


def dla_options(core: int = 0) -> BuildOptions:
    return BuildOptions(precision=FP16, dla_core=core)


def test_dla_names_the_layers_that_fell_back(toys: Any) -> None:
    trt = FakeTensorRt(network=convolution_and_shuffle(DataType.HALF), dla_cores=2, gpu_only=("shuffle0",))
    said: list[str] = []
    engine = build_engine(trt.library("11.4.1"), toys.half(), dla_options(1), say=said.append)
    config = trt.configs[0]
    assert (config.default_device_type, config.DLA_core) == ("DLA", 1)
    assert "GPU_FALLBACK" in config.flags
    assert engine.fell_back == ("shuffle0",)
    assert said[-1] == "1 of 2 layers fell back from DLA to the GPU: shuffle0"
    assert "1 of 2 layers fell back" in notes_of(engine).note


def test_dla_is_refused_below_its_version_and_without_a_core(toys: Any) -> None:
    half = convolution_and_shuffle(DataType.HALF)
    with pytest.raises(UsageError, match=r"from TensorRT 11.4.1 on, here is 10.3.0; leave --dla out"):
        build_engine(FakeTensorRt(network=half).library("10.3.0"), toys.half(), dla_options())
    with pytest.raises(RuntimeUnavailable, match="has 1 DLA cores, no core 1"):
        build_engine(FakeTensorRt(network=half, dla_cores=1).library("11.4.1"), toys.half(), dla_options(1))
    with pytest.raises(UsageError, match=r"not int8.*implicit calibration.*--precision fp16"):
        BuildOptions(precision=INT8, dla_core=0)


def test_fp32_is_never_tf32(toys: Any) -> None:
    trt = FakeTensorRt()
    build_engine(trt.library(), toys.plain(), BuildOptions(optimization_level=5))
    assert trt.configs[0].flags == set()
    assert trt.configs[0].builder_optimization_level == 5


def test_compatibility_where_the_version_has_it(toys: Any) -> None:
    trt = FakeTensorRt()
    build_engine(trt.library(), toys.plain(), BuildOptions(compatible=tuple(Compatibility)))
    assert trt.configs[0].flags == {"VERSION_COMPATIBLE"}
    assert trt.configs[0].hardware_compatibility_level == "AMPERE_PLUS"


def test_the_timing_cache_is_read_and_extended(toys: Any, tmp_path: Path) -> None:
    trt, file = FakeTensorRt(), tmp_path / "times"
    for _ in range(2):
        build_engine(trt.library(), toys.plain(), BuildOptions(timing_cache=file))
    assert file.read_bytes() == b"+measured+measured"
    assert [config.cache for config in trt.configs] == [b"", b"+measured"]


@pytest.mark.parametrize("content", [b"damaged", b"of another device"])
def test_a_timing_cache_that_cannot_be_used_is_begun_anew_and_said(toys: Any, tmp_path: Path, content: bytes) -> None:
    trt, file, said = FakeTensorRt(), tmp_path / "times", list[str]()
    file.write_bytes(content)
    build_engine(trt.library(), toys.plain(), BuildOptions(timing_cache=file), say=said.append)
    assert file.read_bytes() == b"+measured"
    assert any(f"{file} is damaged, or of another TensorRT or GPU: begun anew" in line for line in said)


def test_a_failed_build_leaves_the_timing_cache_alone(toys: Any, tmp_path: Path) -> None:
    file = tmp_path / "times"
    file.write_bytes(b"measured")
    trt = FakeTensorRt(plan=None)
    with pytest.raises(EngineError):
        build_engine(trt.library(), toys.plain(), BuildOptions(timing_cache=file))
    assert file.read_bytes() == b"measured"


@pytest.mark.parametrize(
    ("told", "error", "message"),
    [
        (
            (2, "Requested amount of GPU memory (1073741824 bytes) could not be allocated."),
            EngineError,
            r"ran out of device memory building plain.*it needed 1,024 MiB, 512 MiB were free",
        ),
        ((1, "Error Code 1: Cuda Runtime (out of memory)"), EngineError, r"it needed 256 MiB, 512 MiB were free"),
        (
            (1, "CUDA initialization failure with error: 35"),
            RuntimeUnavailable,
            r"finds no NVIDIA GPU with a working driver",
        ),
        ((1, "[x.cpp::f::12] Error Code 10: Internal Error (no kernel for conv0)"), EngineError, "no kernel for conv0"),
    ],
)
def test_a_build_that_fails_says_what_to_do(toys: Any, told: Any, error: type[Exception], message: str) -> None:
    trt = FakeTensorRt(plan=None, told=(told,))
    with pytest.raises(error, match=message):
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
    assert int8_layers_run(("conv0", "conv1"), layers) == 1
    assert int8_layers_run(("conv0", "conv9"), layers) is None
    assert int8_layers_run((), layers) == 0


def test_a_part_that_was_compiled_as_a_whole_does_not_tell() -> None:
    whole = [EngineLayer("Myelin", "{ForeignNode[conv0...conv1]}", ("Float",))]
    assert int8_layers_run(("conv0",), whole) is None


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda: BuildOptions(optimization_level=6), UsageError),
        (lambda: BuildOptions(workspace_bytes=0), UsageError),
        (lambda: BuildOptions(compute_capability="sm86"), UsageError),
        (lambda: SizeRange.parse("64,96"), TileError),
        (lambda: SizeRange.parse("64,32,96"), TileError),
        (lambda: SizeRange.parse("16,24,32").require(TileSpec(16, 33)), TileError),
        (lambda: compatibility_named("always"), UsageError),
    ],
)
def test_wrong_choices(make: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        make()


KILLED = """
import os, signal, sys
from pathlib import Path
from sr_edge.runtimes.engine_cache import EngineCache
from sr_edge.runtimes.tensorrt_api import Flavour, load_library
from sr_edge.runtimes.tensorrt_engines import stored_engine, target_elsewhere
from sr_edge.runtimes.tensorrt_options import BuildOptions

def report(stage, done, total):
    os.kill(os.getpid(), signal.SIGKILL)

cache = EngineCache(Path(sys.argv[2]))
library, target = load_library(Flavour.RTX), target_elsewhere("8.6")
stored_engine(library, Path(sys.argv[1]), BuildOptions(), target, cache, report=report)
"""


@pytest.mark.usefixtures("rtx")
def test_a_kill_in_the_middle_of_a_real_build_leaves_no_engine(toys: Any, tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, str(toys.plain()), str(tmp_path)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert {path.suffix for path in tmp_path.iterdir()} == {".lock"}
