"""The static twin of SwinIR: equal in float64, static, with one mask for all heads, and safe in float16."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from sr_edge.errors import ExportError, TileError
from sr_edge.export.checks.rules import check_graph
from sr_edge.export.export import export_onnx
from sr_edge.export.graph.metadata import Form
from sr_edge.export.graph.view import view_graph
from sr_edge.export.twins.registry import to_static
from sr_edge.export.twins.swinir import LARGEST_SCORE, score_limits
from sr_edge.models import LoadedModel
from sr_edge.models.architectures.swinir import SwinIR
from sr_edge.models.layers.swin import SwinConfig, Upsampler
from sr_edge.spec import ModelCard, Precision, TileSpec
from tests.expected_errors import raises
from tests.export.twins.equal_twins import randomised, require_equal_twin

SMALL = SwinConfig(12, (2, 3), 2, 8, 2, Upsampler.PIXELSHUFFLE_DIRECT)
TILE = TileSpec(16, 24)


def small() -> LoadedModel:
    return LoadedModel(
        randomised(SwinIR(SMALL)).float(), ModelCard(name="swinir", scale=2, parameters=1, multiple_px=8)
    )


def configs() -> Iterator[tuple[SwinConfig, int, int]]:
    yield SMALL, 8, 8
    yield SMALL, 16, 24
    yield SMALL, 8, 24  # no shift: one window spans the shorter edge
    yield replace(SMALL, heads=1, scale=3), 24, 16
    yield replace(SMALL, window=7), 14, 21
    yield replace(SMALL, heads=6, window=4, upsampler=Upsampler.PIXELSHUFFLE, scale=4), 12, 8


@pytest.mark.parametrize(("config", "height", "width"), list(configs()))
def test_the_twin_equals_the_training_form(config: SwinConfig, height: int, width: int) -> None:
    require_equal_twin(randomised(SwinIR(config)), height, width)


def test_the_mask_matters() -> None:
    """A control for the test above: without it the outputs differ."""
    network = randomised(SwinIR(SMALL))
    static = to_static(network, 16, 24)
    x = torch.rand(1, 3, 16, 24, dtype=torch.float64)
    with torch.inference_mode():
        for name, limits in static.named_buffers():
            if name.endswith(".limits"):
                limits.fill_(1e4)
        assert (static(x) - network(x)).abs().max() > 1e-3


def test_a_twin_has_no_twin() -> None:
    static = to_static(randomised(SwinIR(SMALL)), 16, 16)
    assert [type(m) for m in to_static(static, 16, 16).modules()] == [type(m) for m in static.modules()]


def test_a_tile_that_no_window_divides_is_refused() -> None:
    with raises(TileError):
        to_static(SwinIR(SMALL), 20, 16)
    to_static(SwinIR(SMALL), 24, 16)


def test_only_windows_that_wrap_around_are_masked() -> None:
    """16x24 in windows of 8, shifted by 4: two rows of three, of which the last row and the last column wrap."""
    limits = score_limits(16, 24, 8, 4)
    assert limits.shape == (6, 1, 64, 64)
    assert [bool((window < 0).any()) for window in limits] == [False, False, True, True, True, True]


def test_the_graph_is_static_and_has_one_mask_for_all_heads_and_blocks(tmp_path: Path) -> None:
    path = export_onnx(small(), TILE, tmp_path / "swinir.onnx").path
    model = onnx.load(path)
    assert check_graph(model) == ()
    masks = [
        value for value in view_graph(model).constants.values() if value.ndim == 4 and value.min() == -LARGEST_SCORE
    ]
    assert [mask.shape for mask in masks] == [(6, 1, 64, 64)]


def test_the_graph_may_be_of_any_size_as_traced_alone(tmp_path: Path) -> None:
    with raises(ExportError, found="--dynamic", wanted=str(TILE)) as caught:
        export_onnx(small(), TILE, tmp_path / "swinir.onnx", dynamic=True)
    assert "--form traced" in str(caught.value.remedy)
    report = export_onnx(small(), TileSpec(24, 24), tmp_path / "swinir.onnx", dynamic=True, form=Form.TRACED)
    assert report.metadata.tile is None


def test_float16_is_safe(tmp_path: Path) -> None:
    picture = np.random.default_rng(0).random((1, 3, 16, 24), np.float32)
    report = export_onnx(small(), TILE, tmp_path / "a.onnx", precision=Precision.FP16, patches=[picture])
    assert report.float16 is not None and report.float16.loss_db < 0.02
