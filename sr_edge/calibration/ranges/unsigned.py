"""Finds the tensors that are the input image, which is never negative and usually has 8 bits.

Signed INT8 spends half of its levels on negative values: it keeps 128 of the 256 levels of an image, and the first
    layer makes more noise than all others together. If half of the input range is subtracted first, all 256 levels are
    kept. Zero padding would then become half of the input range, so the image is padded before the subtraction; the
    bias of the layer compensates for the subtraction.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx

from sr_edge.calibration.graph.im2col import Layer
from sr_edge.export.graph.view import GraphView

INPUT_RANGES = (1.0, 255.0)
"""The input ranges of networks: 0 to 1 or 0 to 255. The levels of 8-bit images are multiples of 1/255 of the range."""

_KEEPS_ORDER = ("Cast", "Identity", "Transpose")
_SCALES = ("Mul", "Div")


def may_be_unsigned(view: GraphView, tensor: str, readers: Sequence[Layer]) -> bool:
    """Whether `tensor` is the input image, up to a positive factor, and all `readers` can take unsigned levels.

    They can if they are convolutions with the same explicit padding and a bias that can be corrected.

    Args:
        view: The float graph.
        tensor: The input of the readers.
        readers: All quantizable layers that read the tensor; layers that stay float may read it as well.
    """
    return _is_picture(view, tensor) and all(_takes_padded(layer) for layer in readers) and _pad_alike(readers)


def candidate_input_ranges(largest: float) -> tuple[float, ...]:
    """The input ranges that an image with that largest sample may have; the search tries all of them."""
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
    """The tensor that a Mul or Div scales by one positive constant; None for all other uses."""
    computed, factor = node.input
    if node.op_type == "Mul" and computed in view.constants:
        computed, factor = factor, computed
    value = view.constants.get(factor)
    return computed if value is not None and value.size == 1 and float(value.item()) > 0.0 else None


def _takes_padded(layer: Layer) -> bool:
    return layer.op.op_type == "Conv" and layer.auto_pad in ("NOTSET", "", "VALID") and layer.is_correctable


def _pad_alike(readers: Sequence[Layer]) -> bool:
    return len({layer.padding for layer in readers}) == 1
