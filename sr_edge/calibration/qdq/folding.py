"""Folds the division of a tensor's channels into its producer, where that is exact, so that no operator is added.

The output channels of a layer are divided by dividing its weight and bias. A positive factor passes through Relu,
LeakyRelu and PRelu; a constant that is added is divided as well; a constant that is multiplied, such as the gain of a
normalisation, is divided instead.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import onnx

from sr_edge.calibration.data.patch import Float32Array
from sr_edge.calibration.graph.biases import BIAS_SLOT
from sr_edge.export.graph.view import GraphView, attribute

Divisors = Mapping[tuple[str, int], Float32Array]
"""By node name and input slot, the divisor of the constant in that slot, shaped to broadcast with it."""

LAST = -1
CHANNELS = 1


def fold_division(
    view: GraphView, tensor: str, smoothing: Float32Array, axis: int, readers: Collection[str]
) -> Divisors | None:
    """The divisors of constants before `tensor` that divide its channels; None if that would change other tensors.

    Args:
        view: The float graph, in which every node has a unique name.
        tensor: The tensor to divide.
        smoothing: (channels,) Positive divisors.
        axis: The channel axis: CHANNELS, or LAST for tensors of tokens.
        readers: The names of all nodes that take the divided tensor.
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
        before = _fold_before(view, node.input[1 - slot], smoothing, axis)
        return None if before is None else {**before, (node.name, slot): smoothing.reshape(_beside(axis))}
    return None


def _divided_slots(view: GraphView, node: onnx.NodeProto, axis: int) -> dict[int, tuple[int, ...]] | None:
    """The slots of the constants that scale the output of the node, and the shape of the divisor for each."""
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
    """The slots of weight and bias; the bias is divided even if the layer gets it only by a bias correction."""
    return {1: weight_shape, BIAS_SLOT: (-1,)}


def _has_weight(view: GraphView, node: onnx.NodeProto) -> bool:
    return node.input[1] in view.constants and node.input[0] not in view.constants


def _normalizes_last(node: onnx.NodeProto) -> bool:
    axis = attribute(node, "axis")
    return axis is None or axis.i == -1


def _beside(axis: int) -> tuple[int, ...]:
    """The shape in which a vector of channels broadcasts along `axis`, without the batch axis."""
    return (-1, 1, 1) if axis == CHANNELS else (-1,)


def _is_per_channel(shape: tuple[int, ...], channels: int, axis: int) -> bool:
    """Whether a constant of that shape has one value per channel or a single value."""
    if all(dim == 1 for dim in shape):
        return True
    expected = (channels, 1, 1) if axis == CHANNELS else (channels,)
    return tuple(shape[-len(expected) :]) == expected and all(dim == 1 for dim in shape[: -len(expected)])
