"""Every bundled network in real float16 arithmetic: as it is, and with features so large that a naive cast fails."""

from __future__ import annotations

import functools
import re
from pathlib import Path

import numpy as np
import onnx
import pytest

from sr_edge.errors import ExportError
from sr_edge.export.checks.float16 import check_float16
from sr_edge.export.graph.inner_tensors import observe_magnitudes
from sr_edge.export.graph.view import GraphView, view_graph
from sr_edge.export.passes.fp16 import to_fp16
from sr_edge.export.passes.fp32_islands import FORCED_RULES, find_islands
from sr_edge.export.passes.simplify import simplify
from sr_edge.export.passes.tracing import trace
from sr_edge.export.twins.registry import to_static
from sr_edge.models import load_model
from sr_edge.models.registry import WEIGHTS_FOLDER
from sr_edge.spec import Control, TileSpec
from tests.expected_errors import raises
from tests.export.checks.counted import counted_worst_cases

MOST_LOSS_DB = 0.01
HOT = 2.0**14
"""Features times this leave float16 in every network that is bundled."""

SMALLEST_TILE_PX = 24
BUNDLED = sorted(WEIGHTS_FOLDER.glob("*.safetensors"))
_WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")


@functools.cache
def bundled_graph(weights: Path) -> tuple[onnx.ModelProto, TileSpec, tuple[Control, ...]]:
    """The static fp32 graph at a small tile, and its controls."""
    model = load_model(None, None, weights)
    side = -(-SMALLEST_TILE_PX // model.card.multiple_px) * model.card.multiple_px
    tile = TileSpec(side, side)
    return simplify(trace(to_static(model.module, side, side), tile)).model, tile, model.card.controls


def heated(model: onnx.ModelProto, gain: float) -> onnx.ModelProto:
    """The network with features times `gain` from its first weighted layers on, which its last ones take back.

    A layer that is first and last, as bicubic enlargement beside the network, has no features and stays as it is.
    """
    view = view_graph(model)
    first, last = _outermost(view, forwards=True), _outermost(view, forwards=False)
    gains = {name: gain for at in first - last for name in view.nodes[at].input[1:3]}
    gains |= {view.nodes[at].input[1]: 1.0 / gain for at in last - first}
    hot = onnx.ModelProto()
    hot.CopyFrom(model)
    for tensor in hot.graph.initializer:
        if tensor.name in gains:
            value = onnx.numpy_helper.to_array(tensor) * np.float32(gains.pop(tensor.name))
            tensor.CopyFrom(onnx.numpy_helper.from_array(value, tensor.name))
    assert not gains
    return hot


def _outermost(view: GraphView, forwards: bool) -> set[int]:
    """The weighted layers with no other one between them and the picture: that goes in, or that comes out."""
    beyond: dict[str, bool] = {}
    nodes: set[int] = set()
    order = range(len(view.nodes))
    for at in order if forwards else reversed(order):
        node = view.nodes[at]
        nearer, farther = (node.input, node.output) if forwards else (node.output, node.input)
        is_weighted = node.op_type in _WEIGHTED and node.input[1] in view.constants
        is_beyond = any(beyond.get(tensor, False) for tensor in nearer)
        if is_weighted and not is_beyond:
            nodes.add(at)
        for tensor in farther:
            beyond[tensor] = beyond.get(tensor, False) or is_beyond or is_weighted
    return nodes


@pytest.mark.parametrize("weights", BUNDLED, ids=lambda path: path.stem)
def test_a_bundled_network_loses_next_to_nothing(weights: Path) -> None:
    graph, tile, controls = bundled_graph(weights)
    patches = counted_worst_cases(tile)[:2]
    half = to_fp16(graph, magnitudes=observe_magnitudes(graph, [patch.batch for patch in patches], controls)).model
    check = check_float16(half, graph, patches, controls)
    check.require_within(MOST_LOSS_DB)
    assert check.psnr_db < 100.0  # rounding must be visible, or nothing was rounded


@pytest.mark.parametrize("weights", BUNDLED, ids=lambda path: path.stem)
def test_a_bundled_network_with_hot_features_holds_where_the_naive_cast_fails(weights: Path) -> None:
    graph, tile, controls = bundled_graph(weights)
    hot, patches = heated(graph, HOT), counted_worst_cases(tile)[1:2]
    naive = to_fp16(hot, FORCED_RULES).model
    with raises(ExportError) as caught:
        check_float16(naive, hot, patches, controls).require_within(MOST_LOSS_DB)
    fault = caught.value.found
    assert fault in {node.name for node in naive.graph.node} or (isinstance(fault, float) and fault > MOST_LOSS_DB)
    magnitudes = observe_magnitudes(hot, [patch.batch for patch in patches], controls)
    assert "out_of_range" in find_islands(view_graph(hot), magnitudes=magnitudes).values()
    check_float16(to_fp16(hot, magnitudes=magnitudes).model, hot, patches, controls).require_within(MOST_LOSS_DB)


def test_structure_alone_cannot_know_how_large_a_convolution_gets() -> None:
    graph, tile, controls = bundled_graph(next(path for path in BUNDLED if path.stem == "convnet-light-x2"))
    hot, patches = heated(graph, HOT), counted_worst_cases(tile)[1:2]
    check = check_float16(to_fp16(hot).model, hot, patches, controls)
    assert re.fullmatch(r"/middle\.\d+/Conv", check.first_overflow)
