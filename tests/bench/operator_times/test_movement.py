"""Movement is found as subgraphs, with the layers that cause it and what is around it."""

from __future__ import annotations

import pytest

from sr_edge.bench.operator_times.kinds import kind_of
from sr_edge.bench.operator_times.movement import Movement, movements
from sr_edge.runtimes.engine.layer_times import LayerTime

PATHS = ("blocks.0.conv", "blocks.0.attn", "blocks.0.attn", "blocks.1.attn", "blocks.1.attn", "up")
LAYERS = (
    LayerTime("conv", "Convolution", 4.0, (), (0,)),
    LayerTime("transpose", "Transpose", 2.0, ("conv",), (1,)),
    LayerTime("reshape", "Reshape", 0.0, ("transpose",)),
    LayerTime("product", "MatMul", 1.0, ("reshape",), (2,)),
    LayerTime("transpose 2", "Transpose", 1.0, ("conv",), (3,)),
    LayerTime("product 2", "MatMul", 1.0, ("transpose 2",), (4,)),
    LayerTime("reorder", "Reorder", 0.5, ("product", "product 2")),
    LayerTime("view", "Reshape", 0.0, ("product",)),
    LayerTime("conv 2", "Convolution", 0.5, ("reorder", "view"), (5,)),
)


def found(layers: tuple[LayerTime, ...] = LAYERS, paths: tuple[str, ...] = PATHS) -> tuple[Movement, ...]:
    return movements(layers, {layer.name: kind_of(layer.operator) for layer in layers}, paths)


def test_the_slowest_is_first_and_those_alike_are_one() -> None:
    transposes, reorders = found()
    assert transposes == Movement(("blocks.*.attn",), ("Transpose",), ("Convolution",), ("MatMul",), 2, 3.0, 0.3)
    assert reorders.ms == 0.5


def test_an_inserted_layer_has_the_source_layers_of_its_readers() -> None:
    reorders = found()[1]
    assert (reorders.layers, reorders.before, reorders.after) == (("up",), ("MatMul",), ("Convolution",))


def test_an_inserted_layer_before_the_output_has_those_of_what_it_reads() -> None:
    layers = (LayerTime("conv", "Conv", 1.0, (), (0,)), LayerTime("reorder", "ReorderOutput", 1.0, ("conv",)))
    (reorder,) = found(layers, ("up.3",))
    assert (reorder.layers, reorder.after) == (("up.*",), ("output",))


def test_movement_at_the_input() -> None:
    (reorder,) = found((LayerTime("reorder", "Reorder", 1.0), LayerTime("conv", "Conv", 1.0, ("reorder",))), ())
    assert (reorder.before, reorder.layers) == (("input",), ())


@pytest.mark.parametrize(("path", "pattern"), [("a.10.b2.0", "a.*.b2.*"), ("0", "*"), ("conv1.1x1", "conv1.1x1")])
def test_numbers_of_layers_are_left_out(path: str, pattern: str) -> None:
    (move,) = found((LayerTime("a", "Transpose", 1.0, (), (0,)),), (path,))
    assert move.layers == (pattern,)


def test_a_graph_whose_layers_take_no_time_moves_nothing() -> None:
    assert found((LayerTime("view", "Reshape", 0.0),), ()) == ()
