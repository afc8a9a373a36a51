"""Every architecture's static form parses and builds with TensorRT-RTX, for GPUs that are not here.

SM86 is the nearest to Jetson Orin that TensorRT-RTX builds for; SM89 is the next. Nothing is run, only compiled.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import onnx
import pytest
from torch import nn

from sr_edge.calibration import calibrate, quantize_onnx
from sr_edge.errors import EngineError, RuntimeUnavailable
from sr_edge.export import check_for_tensorrt, to_fp16, to_static, wrap_uint8
from sr_edge.export.metadata import Form, GraphMetadata, write_metadata
from sr_edge.export.patches import worst_case_patches
from sr_edge.export.simplify import simplify
from sr_edge.export.tensorrt_releases import TENSORRT_RELEASES
from sr_edge.export.tracing import trace
from sr_edge.models import ARCHITECTURES, LoadedModel, load_model
from sr_edge.models.swinir import SWINIR_SIZES, SwinIR
from sr_edge.runtimes.tensorrt_api import Flavour, Library, load_library
from sr_edge.runtimes.tensorrt_builder import BuiltEngine, build_engine
from sr_edge.runtimes.tensorrt_options import BuildOptions
from sr_edge.spec import FrameFormat, Precision, Spelling, TileSpec

PRECISIONS = (Precision.FP32, Precision.FP16, Precision.INT8)
LEAST_SIDE_PX = 16
FEWER_LAYERS: dict[str, nn.Module] = {"swinir": SwinIR(replace(SWINIR_SIZES["light"], depths=(2,)))}
"""Of architectures without a tiny size, whose many equal layers would take long to compile."""


@pytest.fixture(scope="module")
def rtx() -> Library:
    try:
        return load_library(Flavour.RTX)
    except RuntimeUnavailable as error:
        pytest.skip(f"tensorrt-rtx: {error}")


class Graphs:
    """One architecture's smallest network, static, as files in every precision that TensorRT is to take.

    Made without the comparisons of `export_onnx`, which other tests make: they would take most of the time here.
    """

    def __init__(self, name: str, size: str, multiple_px: int, folder: Path) -> None:
        loaded = load_model(f"{name}-{size}", 2, random_weights=True)
        if name in FEWER_LAYERS:
            loaded = LoadedModel(FEWER_LAYERS[name].eval(), loaded.card)
        self.tile = TileSpec(max(LEAST_SIDE_PX, multiple_px), max(LEAST_SIDE_PX, multiple_px))
        self.files = {precision: folder / f"{precision}.onnx" for precision in PRECISIONS}
        floats = simplify(trace(to_static(loaded.module, self.tile.height, self.tile.width), self.tile))
        fp32 = Precision.FP32
        write_metadata(floats, GraphMetadata(loaded.card, Form.STATIC, fp32, FrameFormat.FLOAT_NCHW, self.tile, "", ""))
        onnx.save(floats, self.files[fp32])
        onnx.save(to_fp16(floats), self.files[Precision.FP16])
        calibration = calibrate(self.files[fp32], worst_case_patches(self.tile))
        quantize_onnx(self.files[fp32], calibration, self.files[Precision.INT8], Spelling.S8, Precision.FP16)


@pytest.fixture(scope="module", params=ARCHITECTURES, ids=lambda architecture: architecture.name)
def graphs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Graphs:
    architecture = request.param
    folder = tmp_path_factory.mktemp(architecture.name)
    return Graphs(architecture.name, architecture.sizes[-1], architecture.multiple_px, folder)


def build(rtx: Library, graph: Path, precision: Precision, compute_capability: str = "8.6") -> BuiltEngine:
    rest = Precision.FP16 if precision is Precision.INT8 else precision
    return build_engine(rtx, graph, BuildOptions(precision, rest, compute_capability=compute_capability))


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_static_form_builds(rtx: Library, graphs: Graphs, precision: Precision) -> None:
    engine = build(rtx, graphs.files[precision], precision)
    assert engine.types.precision is precision
    assert len(engine.plan) > 0 and engine.layers


@pytest.mark.parametrize("precision", PRECISIONS)
def test_nothing_is_known_against_it_in_any_release(graphs: Graphs, precision: Precision) -> None:
    graph = graphs.files[precision]
    assert {release.name: check_for_tensorrt(graph, release.name) for release in TENSORRT_RELEASES} == {
        release.name: () for release in TENSORRT_RELEASES
    }


def test_uint8_frames_build_for_the_next_generation_too(rtx: Library, tmp_path_factory: pytest.TempPathFactory) -> None:
    graphs = Graphs("convnet", "tiny", 1, tmp_path_factory.mktemp("uint8"))
    for precision, graph in graphs.files.items():
        onnx.save(wrap_uint8(onnx.load(graph)), graph)
        rest = Precision.FP16 if precision is Precision.INT8 else precision
        options = BuildOptions(precision, rest, FrameFormat.UINT8_NHWC, compute_capability="8.9")
        assert build_engine(rtx, graph, options).plan


def test_a_graph_that_it_refuses_would_be_seen(rtx: Library, tmp_path: Path) -> None:
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> g (float[1,3,8,8] input) => (float[192] output) '
        "{ flat = Flatten<axis = 0>(input) row = Squeeze(flat) output, i, v, c = Unique(row) }"
    )
    onnx.save(model, tmp_path / "refused.onnx")
    with pytest.raises(EngineError, match="Unique"):
        build(rtx, tmp_path / "refused.onnx", Precision.FP32)
