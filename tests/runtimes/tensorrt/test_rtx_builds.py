"""Every architecture's static form parses and builds with TensorRT-RTX, for GPUs that are not here.

SM86 is the nearest to Jetson Orin that TensorRT-RTX builds for; SM89 is the next. Nothing is run, only compiled.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest

from sr_edge.errors import EngineError
from sr_edge.export import check_graph, wrap_uint8
from sr_edge.export.checks.targets import readers_of
from sr_edge.export.passes.nv12_io import wrap_nv12
from sr_edge.models import ARCHITECTURES
from sr_edge.nv12.colour import Nv12Colour
from sr_edge.runtimes.tensorrt.api import TensorRTLibrary
from sr_edge.runtimes.tensorrt.builder import BuiltEngine, build_engine
from sr_edge.runtimes.tensorrt.options import BuildOptions
from sr_edge.spec import ActivationType, FrameFormat, Precision
from tests.expected_errors import raises
from tests.runtimes.here import require_compiler
from tests.runtimes.small_systems import System

PRECISIONS = (Precision.FP32, Precision.FP16, Precision.INT8)


@pytest.fixture(scope="module")
def rtx() -> TensorRTLibrary:
    return require_compiler()


@pytest.fixture(scope="module", params=ARCHITECTURES, ids=lambda architecture: architecture.name)
def system(request: pytest.FixtureRequest, systems: Callable[[str], System]) -> System:
    return systems(f"{request.param.name}-{request.param.sizes[-1]}")


def graph_of(system: System, precision: Precision) -> Path:
    """INT8 has an fp16 rest, as TensorRT runs it best."""
    return system.graph(precision, Precision.FP16)


def build(rtx: TensorRTLibrary, graph: Path, precision: Precision, compute_capability: str = "8.6") -> BuiltEngine:
    float_precision = Precision.FP16 if precision is Precision.INT8 else precision
    return build_engine(rtx, graph, BuildOptions(precision, float_precision, compute_capability=compute_capability))


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_static_form_builds(rtx: TensorRTLibrary, system: System, precision: Precision) -> None:
    engine = build(rtx, graph_of(system, precision), precision)
    assert engine.types.precision is precision
    assert len(engine.plan) > 0 and engine.layers


@pytest.mark.parametrize("precision", PRECISIONS)
def test_nothing_is_known_against_it_in_any_target_that_reads_it(system: System, precision: Precision) -> None:
    """The INT8 graph has INT8 activations, as for all targets but OpenVINO."""
    readers = readers_of(ActivationType.INT8 if precision is Precision.INT8 else None)
    assert check_graph(graph_of(system, precision), readers, intended=readers) == ()


def test_uint8_frames_build_for_the_next_generation_too(
    rtx: TensorRTLibrary, systems: Callable[[str], System], tmp_path: Path
) -> None:
    for precision in PRECISIONS:
        graph = tmp_path / f"{precision}.onnx"
        onnx.save(wrap_uint8(onnx.load(graph_of(systems("convnet-tiny"), precision))).model, graph)
        float_precision = Precision.FP16 if precision is Precision.INT8 else precision
        options = BuildOptions(precision, float_precision, FrameFormat.UINT8_NHWC, compute_capability="8.9")
        assert build_engine(rtx, graph, options).plan


def test_nv12_frames_build_in_every_precision(
    rtx: TensorRTLibrary, systems: Callable[[str], System], tmp_path: Path
) -> None:
    for precision in PRECISIONS:
        graph = tmp_path / f"{precision}.onnx"
        wrapped = wrap_nv12(onnx.load(graph_of(systems("convnet-tiny"), precision)), Nv12Colour.BT709_LIMITED)
        onnx.save(wrapped.model, graph)
        float_precision = Precision.FP16 if precision is Precision.INT8 else precision
        engine = build_engine(
            rtx, graph, BuildOptions(precision, float_precision, FrameFormat.NV12, compute_capability="8.6")
        )
        assert engine.plan
        assert engine.types.precision is precision


def test_a_graph_that_it_refuses_would_be_seen(rtx: TensorRTLibrary, tmp_path: Path) -> None:
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> g (float[1,3,8,8] input) => (float[192] output) '
        "{ flat = Flatten<axis = 0>(input) row = Squeeze(flat) output, i, v, c = Unique(row) }"
    )
    onnx.save(model, tmp_path / "refused.onnx")
    with raises(EngineError) as caught:
        build(rtx, tmp_path / "refused.onnx", Precision.FP32)
    assert isinstance(caught.value.found, tuple) and "Unique" in caught.value.found


def test_without_it_the_builds_are_skipped_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)  # as where it is not installed
    with pytest.raises(pytest.skip.Exception, match="tensorrt-rtx: "):
        require_compiler()
