"""Which tensors are the picture as it comes in: never negative, of 8 bits as a rule.

A signed INT8 tensor spends half of its levels on values below zero: of a picture's 256 levels it keeps 128, and the
first layer makes more noise than all others together. With half of white subtracted first, the levels are the picture's
own. Zero padding would become half of white, so the picture is padded before; the layer's bias takes back what the
subtraction changes.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx

from sr_edge.calibration.columns import Layer
from sr_edge.export.graph import GraphView

INPUT_RANGES = (1.0, 255.0)
"""What networks call white; levels of 8 bits are whole multiples of a 255th of it."""

_KEEPS_ORDER = ("Cast", "Identity", "Transpose")
_SCALES = ("Mul", "Div")


def may_be_unsigned(view: GraphView, tensor: str, readers: Sequence[Layer]) -> bool:
    """Whether `tensor` is the graph's picture, but for a positive factor, and all `readers` can take its levels.

    Args:
        view: of the float graph.
        tensor: what the readers read; others, which stay float, may read it too.
        readers: all layers that may be INT8: convolutions, with one padding that is said in numbers, and a bias that is
            constant or not there.
    """
    return _is_picture(view, tensor) and all(_takes_padded(layer) for layer in readers) and _pad_alike(readers)


def candidate_input_ranges(largest: float) -> tuple[float, ...]:
    """The values of white under which a picture with that largest sample may be stored, to be tried all."""
    return (*(input_range for input_range in INPUT_RANGES if input_range > largest), largest)


def _is_picture(view: GraphView, tensor: str) -> bool:
    inputs = {value.name for value in view.model.graph.input} - view.constants.keys()
    while tensor not in inputs:
        at = view.producer.get(tensor)
        if at is None:
            return False
        node = view.nodes[at]
        source = _scaled_source(view, node) if node.op_type in _SCALES else node.input[0]
        if source is None or node.op_type not in (*_SCALES, *_KEEPS_ORDER):
            return False
        tensor = source
    return len(view.shapes.get(tensor, ())) == 4


def _scaled_source(view: GraphView, node: onnx.NodeProto) -> str | None:
    """What a Mul or Div multiplies by one positive constant; None where it does something else."""
    computed, factor = node.input
    if node.op_type == "Mul" and computed in view.constants:
        computed, factor = factor, computed
    value = view.constants.get(factor)
    return computed if value is not None and value.size == 1 and float(value.item()) > 0.0 else None


def _takes_padded(layer: Layer) -> bool:
    return layer.op.op_type == "Conv" and layer.auto_pad in ("NOTSET", "", "VALID") and layer.is_correctable


def _pad_alike(readers: Sequence[Layer]) -> bool:
    return len({layer.padding for layer in readers}) == 1
