"""The static twin of UPS: equal in float64, static, and safe in float16."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from sr_edge.errors import TileError
from sr_edge.export.checks.graph_rules import USUAL_RANK
from sr_edge.export.checks.rules import check_graph
from sr_edge.export.export import export_onnx
from sr_edge.export.twins.registry import to_static
from sr_edge.export.twins.ups import reduced_projection
from sr_edge.models import LoadedModel
from sr_edge.models.architectures.ups import UPS, Sharing, UPSConfig
from sr_edge.models.layers.swin import Upsampler
from sr_edge.models.layers.ups_attention import ValueSource, similarity
from sr_edge.spec import ModelCard, Precision, TileSpec
from tests.expected_errors import raises
from tests.export.twins.equal_twins import randomised, require_equal_twin

SMALL = UPSConfig(12, (2, 3), 1, 8, 2, Upsampler.PIXELSHUFFLE_DIRECT, projection_dim=20)


def small() -> LoadedModel:
    return LoadedModel(randomised(UPS(SMALL)).float(), ModelCard(name="ups", scale=2, parameters=1, multiple_px=8))


def configs() -> Iterator[tuple[UPSConfig, int, int]]:
    yield SMALL, 8, 8
    yield SMALL, 16, 24
    yield SMALL, 8, 24  # no shift: one window spans the shorter edge
    yield replace(SMALL, projection_dim=5), 24, 16
    yield replace(SMALL, sharing=Sharing.PER_LAYER), 16, 16
    yield replace(SMALL, values=ValueSource.PROJECTED, scale=3), 16, 16
    yield replace(SMALL, window=4, upsampler=Upsampler.PIXELSHUFFLE, scale=4), 12, 8


@pytest.mark.parametrize(("config", "height", "width"), list(configs()))
def test_the_twin_equals_the_training_form(config: UPSConfig, height: int, width: int) -> None:
    require_equal_twin(randomised(UPS(config)), height, width)


def test_a_twin_has_no_twin() -> None:
    static = to_static(randomised(UPS(SMALL)), 16, 16)
    assert [type(m) for m in to_static(static, 16, 16).modules()] == [type(m) for m in static.modules()]


def test_a_tile_that_no_window_divides_is_refused() -> None:
    with raises(TileError):
        to_static(UPS(SMALL), 20, 16)
    to_static(UPS(SMALL), 24, 16)


@pytest.mark.parametrize("projection_dim", [3, 6, 11])
def test_the_reduced_projection_keeps_all_similarities(projection_dim: int) -> None:
    torch.manual_seed(0)
    matrix, tokens = torch.randn(6, projection_dim), torch.randn(10, 6, dtype=torch.float64)
    reduced = reduced_projection(matrix)
    assert reduced.shape == (6, min(6, projection_dim))
    torch.testing.assert_close(similarity(tokens @ reduced), similarity(tokens @ matrix.double()))


def test_the_graph_is_static(tmp_path: Path) -> None:
    path = tmp_path / "ups.onnx"
    export_onnx(small(), TileSpec(16, 24), path)
    model = onnx.load(path)
    assert not check_graph(model)
    inferred = onnx.shape_inference.infer_shapes(model).graph.value_info
    assert max(len(value.type.tensor_type.shape.dim) for value in inferred) <= USUAL_RANK


def test_float16_keeps_lengths_and_quotients_in_float32(tmp_path: Path) -> None:
    picture = np.random.default_rng(0).random((1, 3, 16, 24), np.float32)
    report = export_onnx(small(), TileSpec(16, 24), tmp_path / "a.onnx", precision=Precision.FP16, patches=[picture])
    assert report.float16 is not None and report.float16.loss_db < 0.02
    roots = [node for node in onnx.load(tmp_path / "a.onnx").graph.node if node.op_type in ("Sqrt", "Reciprocal")]
    assert roots and all("fp32" in node.name for node in roots)
