"""Which tensors are pictures as they come in: never negative, 8 bits as a rule, read by convolutions alone.

A signed INT8 tensor spends half of its levels on values below zero: of a picture's 256 levels it keeps 128, and the
first layer makes more noise than all others together. With half of white subtracted first, the levels are the picture's
own. Zero padding would become half of white, so the picture is padded before; the layer's bias takes back what the
subtraction changes.
"""

from __future__ import annotations

from collections.abc import Sequence

from sr_edge.calibration.columns import Layer
from sr_edge.export.graph import GraphView

WHITES = (1.0, 255.0)
"""What networks call white; levels of 8 bits are whole multiples of a 255th of it."""

_KEEPS_ORDER = ("Cast", "Identity", "Transpose")
_SCALES = ("Mul", "Div")


def may_be_unsigned(view: GraphView, tensor: str, readers: Sequence[Layer]) -> bool:
    """Whether `tensor` is the graph's picture, but for a positive factor, and all `readers` can take its levels."""
    return _is_picture(view, tensor) and all(_takes_padded(layer) for layer in readers) and _pad_alike(readers)


def whites(largest: float) -> tuple[float, ...]:
    """The values of white under which a picture with that largest sample may be stored, to be tried all."""
    return (*(white for white in WHITES if white > largest), largest)


def _is_picture(view: GraphView, tensor: str) -> bool:
    inputs = {value.name for value in view.model.graph.input} - view.constants.keys()
    while tensor not in inputs:
        at = view.producer.get(tensor)
        if at is None:
            return False
        node = view.nodes[at]
        if node.op_type in _SCALES:
            factor = view.constants.get(node.input[1])
            if factor is None or factor.size != 1 or not float(factor.item()) > 0.0:
                return False
        elif node.op_type not in _KEEPS_ORDER:
            return False
        tensor = node.input[0]
    return len(view.shapes.get(tensor, ())) == 4


def _takes_padded(layer: Layer) -> bool:
    return layer.site.op_type == "Conv" and layer.auto_pad in ("NOTSET", "", "VALID") and layer.is_correctable


def _pad_alike(readers: Sequence[Layer]) -> bool:
    return len({layer.pads for layer in readers}) == 1
