"""Folds the division of a tensor's channels into what made the tensor, where that is exact: no operator is added.

A layer's output channels are divided by dividing its weight and bias. Relu, LeakyRelu and PRelu let a positive factor
through; a constant that is added is divided likewise; a scale that is multiplied (a norm's own gain) takes the factor.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import onnx

from sr_edge.calibration.biases import BIAS_SLOT
from sr_edge.calibration.patch import Float32Array
from sr_edge.export.graph import GraphView, attribute

Divisors = Mapping[tuple[str, int], Float32Array]
"""By what to divide the constant in an input slot of a node, shaped to broadcast with it."""

LAST = -1
CHANNELS = 1


def fold_division(
    view: GraphView, tensor: str, smoothing: Float32Array, axis: int, readers: Collection[str]
) -> Divisors | None:
    """How to divide the channels of `tensor` in what makes it; None where that would change something else.

    Args:
        view: of the float graph; every node has its own name.
        tensor: what is divided.
        smoothing: (channels,) positive divisors.
        axis: CHANNELS, or LAST for tensors of tokens.
        readers: the names of all nodes that want the divided tensor.
    """
    names = {view.nodes[at].name for at in view.consumers.get(tensor, ())}
    if tensor in view.output_names or not names <= set(readers):
        return None
    return _fold(view, tensor, smoothing, axis)


def _fold(
    view: GraphView, tensor: str, smoothing: Float32Array, axis: int
) -> dict[tuple[str, int], Float32Array] | None:
    at = view.producer.get(tensor)
    if at is None:
        return None
    node = view.nodes[at]
    if node.op_type in ("Relu", "LeakyRelu") or (node.op_type == "PRelu" and node.input[1] in view.constants):
        return _fold_before(view, node.input[0], smoothing, axis)
    if node.op_type in ("Add", "Sub"):
        return _fold_sum(view, node, smoothing, axis)
    shapes = _divided_slots(view, node, axis)
    if shapes is None:
        return None
    constants = [view.constants.get(name) for slot, name in enumerate(node.input) if slot in shapes and name]
    if any(constant is None or constant.dtype != np.float32 for constant in constants):
        return None
    return {(node.name, slot): smoothing.reshape(shape) for slot, shape in shapes.items()}


def _fold_before(
    view: GraphView, tensor: str, smoothing: Float32Array, axis: int
) -> dict[tuple[str, int], Float32Array] | None:
    if len(view.consumers.get(tensor, ())) != 1 or tensor in view.output_names:
        return None
    return _fold(view, tensor, smoothing, axis)


def _fold_sum(
    view: GraphView, node: onnx.NodeProto, smoothing: Float32Array, axis: int
) -> dict[tuple[str, int], Float32Array] | None:
    for slot, name in enumerate(node.input):
        constant = view.constants.get(name)
        if constant is None or not _is_per_channel(constant.shape, smoothing.size, axis):
            continue
        others_above = _fold_before(view, node.input[1 - slot], smoothing, axis)
        return None if others_above is None else {**others_above, (node.name, slot): smoothing.reshape(_beside(axis))}
    return None


def _divided_slots(view: GraphView, node: onnx.NodeProto, axis: int) -> dict[int, tuple[int, ...]] | None:
    """The constant inputs that set the scale of the node's output, and the shape of a divisor for each."""
    op_type = node.op_type
    if op_type == "Conv" and axis == CHANNELS and _has_weight(view, node):
        return _with_bias((-1, *[1] * (view.constants[node.input[1]].ndim - 1)))
    if op_type == "ConvTranspose" and axis == CHANNELS and _has_weight(view, node):
        group = attribute(node, "group")
        return _with_bias((1, -1, 1, 1)) if group is None or group.i == 1 else None
    if op_type == "MatMul" and axis == LAST and _has_weight(view, node) and view.constants[node.input[1]].ndim == 2:
        return {1: (1, -1)}
    if op_type == "LayerNormalization" and axis == LAST and _normalizes_last(node):
        return _with_bias((-1,))
    if op_type in ("InstanceNormalization", "BatchNormalization") and axis == CHANNELS and len(node.output) == 1:
        return {1: (-1,), 2: (-1,)}
    if op_type == "Mul":
        return _gain_slot(view, node, axis)
    return None


def _gain_slot(view: GraphView, node: onnx.NodeProto, axis: int) -> dict[int, tuple[int, ...]] | None:
    for slot, name in enumerate(node.input):
        constant, other = view.constants.get(name), node.input[1 - slot]
        if constant is not None and constant.size > 1 and other not in view.constants:
            channels = constant.shape[axis - 4 if axis == CHANNELS and constant.ndim >= 3 else LAST]
            if _is_per_channel(constant.shape, channels, axis):
                return {slot: _beside(axis)}
    return None


def _with_bias(weight_shape: tuple[int, ...]) -> dict[int, tuple[int, ...]]:
    """The bias is divided too, also one that the layer is only given later."""
    return {1: weight_shape, BIAS_SLOT: (-1,)}


def _has_weight(view: GraphView, node: onnx.NodeProto) -> bool:
    return node.input[1] in view.constants and node.input[0] not in view.constants


def _normalizes_last(node: onnx.NodeProto) -> bool:
    axis = attribute(node, "axis")
    return axis is None or axis.i == -1


def _beside(axis: int) -> tuple[int, ...]:
    """The shape in which a vector of channels broadcasts along `axis`, batch left out."""
    return (-1, 1, 1) if axis == CHANNELS else (-1,)


def _is_per_channel(shape: tuple[int, ...], channels: int, axis: int) -> bool:
    """Whether a constant of that shape has one value a channel, or one for all."""
    if all(side == 1 for side in shape):
        return True
    wanted = (channels, 1, 1) if axis == CHANNELS else (channels,)
    return tuple(shape[-len(wanted) :]) == wanted and all(side == 1 for side in shape[: -len(wanted)])
