"""On our own networks, both activation types give the same bits, and OpenVINO agrees."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from sr_edge.calibration import Calibration, calibrate, calibration_patches
from sr_edge.calibration.graph.candidates import find_quantizable_ops
from sr_edge.calibration.graph.load import load_graph
from sr_edge.calibration.qdq.writer import insert_qdq
from sr_edge.export.graph.metadata import Form, GraphMetadata, write_metadata
from sr_edge.export.passes.simplify import simplify
from sr_edge.export.passes.tracing import trace
from sr_edge.export.twins.registry import to_static
from sr_edge.models import ARCHITECTURES, load_model
from sr_edge.spec import ActivationType, FrameFormat, Precision, TileSpec
from tests.calibration.graphs import AGREEMENT_DB, PsnrDb, Run
from tests.runtimes.here import require_exact_int8


class Zoo:
    """The smallest network of an architecture: its float file, its calibration, and a patch that is not part of it."""

    def __init__(self, name: str, multiple_px: int, folder: Path, pictures: Path) -> None:
        tile = TileSpec(max(24, multiple_px), max(24, multiple_px))
        loaded = load_model(name, 2, random_weights=True)
        graph = simplify(trace(to_static(loaded.module, tile.height, tile.width), tile)).model
        write_metadata(
            graph, GraphMetadata(loaded.card, Form.STATIC, Precision.FP32, FrameFormat.FLOAT_NCHW, tile, "0", "0")
        )
        self.path = folder / "float.onnx"
        onnx.save(graph, self.path)
        *patches, self.patch = calibration_patches(pictures, tile, count=9)
        self.calibration: Calibration = calibrate(self.path, patches)

    def quantized(self, activation_type: ActivationType) -> onnx.ModelProto:
        return insert_qdq(load_graph(self.path), self.calibration, activation_type).model


@pytest.fixture(scope="module", params=ARCHITECTURES, ids=lambda architecture: architecture.name)
def zoo(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, shared_data: Path) -> Zoo:
    architecture = request.param
    name = f"{architecture.name}-{architecture.sizes[-1]}"
    folder = tmp_path_factory.mktemp(name)
    return Zoo(name, architecture.multiple_px, folder, shared_data / "test" / "set5" / "lr_x2")


def test_activation_types_are_bit_equal(zoo: Zoo, run_as_written: Run) -> None:
    signed, unsigned = (run_as_written(zoo.quantized(activation_type), zoo.patch) for activation_type in ActivationType)
    np.testing.assert_array_equal(signed, unsigned)


def test_openvino_agrees_on_uint8_activations(
    zoo: Zoo, run_as_written: Run, run_openvino: Run, psnr_db: PsnrDb
) -> None:
    require_exact_int8()
    model = zoo.quantized(ActivationType.UINT8)
    assert psnr_db(run_openvino(model, zoo.patch), run_as_written(model, zoo.patch)) >= AGREEMENT_DB


def test_statistics_and_attention_stay_float(zoo: Zoo) -> None:
    int8 = set(zoo.calibration.int8_nodes)
    assert int8
    assert not [name for name in int8 if "fp32" in name]
    types = {op.node: op.op_type for op in find_quantizable_ops(load_graph(zoo.path))}
    assert {types[name] for name in int8} <= {"Conv", "MatMul", "Gemm"}
    attention = {d.node for d in zoo.calibration.decisions if "attention" in d.reason}
    assert not attention & int8
