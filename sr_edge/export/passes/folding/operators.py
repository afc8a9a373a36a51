"""Reads the linear operators of a graph as linear maps of one tensor."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from sr_edge.export.graph.view import GraphView, attribute, integer_attribute, integers_attribute, text_attribute
from sr_edge.export.passes.folding.linear_map import MAX_ELEMENTS, Array, LinearMap, Pair, dense, dilated
from sr_edge.export.passes.rewrites.edit import constant_integers, constant_shape

Maps = Mapping[str, LinearMap]
"""The maps of tensors, all of the same input."""


def is_linear(view: GraphView, index: int) -> bool:
    """Whether the operator of a node can be read, whatever its constants are."""
    node = view.nodes[index]
    return node.op_type in _READERS and node.domain in ("", "ai.onnx") and len(node.output) == 1


def linear_map(view: GraphView, index: int, maps: Maps) -> LinearMap | None:
    """The map of the output of a linear node; None if it is not linear in the tensor that `maps` is about.

    Args:
        view: the graph.
        index: the node, for which `is_linear` is true.
        maps: the maps of all its inputs that are not constants.
    """
    node = view.nodes[index]
    with np.errstate(over="ignore", invalid="ignore"):  # what is too large for float32 is not written
        linear = _READERS[node.op_type](view, node, maps)
    shape = constant_shape(view, node.output[0])
    return linear if linear is not None and shape is not None and shape[1:] == (linear.channels, *linear.size) else None


def convolution_macs(view: GraphView, index: int) -> int:
    """Multiply-accumulates of a convolution for one picture; 0 for other operators."""
    node = view.nodes[index]
    if node.op_type != "Conv":
        return 0
    sizes = constant_shape(view, node.output[0]) or ()
    return int(view.constants[node.input[1]].size * np.prod(sizes[2:]))


def _convolution(view: GraphView, node: onnx.NodeProto, maps: Maps) -> LinearMap | None:
    weight = _constant(view, node.input[1])
    bias = _constant(view, node.input[2]) if len(node.input) > 2 and node.input[2] else np.zeros(1)
    inner = maps.get(node.input[0])
    if inner is None or weight is None or bias is None or weight.ndim != 4 or not _has_plain_pads(node):
        return None
    groups = integer_attribute(node, "group", 1)
    if weight.shape[1] * groups != inner.channels or weight.shape[0] % groups or bias.size not in (1, weight.shape[0]):
        return None
    dilations = integers_attribute(node, "dilations", (1, 1))
    if weight.size * groups > MAX_ELEMENTS:
        return None
    whole = dilated(dense(weight, groups), dilations)
    convolved = inner.convolved(whole, *_pads(node), _strides(node))
    return None if convolved is None else convolved.shifted(bias.reshape(-1, 1, 1))


def _pooling(view: GraphView, node: onnx.NodeProto, maps: Maps) -> LinearMap | None:
    """An average over windows without padding, or with zeros that count."""
    inner, size = maps.get(node.input[0]), integers_attribute(node, "kernel_shape")
    if inner is None or len(size) != 2 or not _has_plain_pads(node):
        return None
    starts, ends = _pads(node)
    counts_zeros = integer_attribute(node, "count_include_pad", 0) or not any((*starts, *ends))
    plain = integers_attribute(node, "dilations", (1, 1)) == [1, 1] and not integer_attribute(node, "ceil_mode", 0)
    if not counts_zeros or not plain or inner.channels**2 * size[0] * size[1] > MAX_ELEMENTS:
        return None
    weight = dense(np.full((inner.channels, 1, *size), 1.0 / (size[0] * size[1])), inner.channels)
    return inner.convolved(weight, starts, ends, _strides(node))


def _normalization(view: GraphView, node: onnx.NodeProto, maps: Maps) -> LinearMap | None:
    inner = maps.get(node.input[0])
    parameters = [_constant(view, name) for name in node.input[1:5]]
    if inner is None or integer_attribute(node, "training_mode", 0):
        return None
    if any(value is None or value.size != inner.channels for value in parameters):
        return None
    scale, bias, mean, variance = (np.reshape(value, (-1, 1, 1)) for value in parameters if value is not None)
    given = attribute(node, "epsilon")
    factor = scale / np.sqrt(variance + (1e-5 if given is None else given.f))
    return inner.scaled(factor).shifted(bias - mean * factor)


def _sum(view: GraphView, node: onnx.NodeProto, maps: Maps) -> LinearMap | None:
    first, second = (maps.get(name) for name in node.input)
    sign = -1.0 if node.op_type == "Sub" else 1.0
    if first is not None and second is not None:
        return first.plus(second.scaled(np.full((1, 1, 1), sign)))
    if first is not None:
        constant = _broadcast(view, node.input[1], first)
        return None if constant is None else first.shifted(sign * constant)
    constant = None if second is None else _broadcast(view, node.input[0], second)
    return None if second is None or constant is None else second.scaled(np.full((1, 1, 1), sign)).shifted(constant)


def _product(view: GraphView, node: onnx.NodeProto, maps: Maps) -> LinearMap | None:
    at = next((position for position, name in enumerate(node.input) if name in maps), None)
    if at is None or (node.op_type == "Div" and at == 1):
        return None
    inner = maps[node.input[at]]
    factors = _broadcast(view, node.input[1 - at], inner)
    if factors is None or factors.shape[1:] != (1, 1) or (node.op_type == "Div" and not np.all(factors)):
        return None
    return inner.scaled(1.0 / factors if node.op_type == "Div" else factors)


def _negation(view: GraphView, node: onnx.NodeProto, maps: Maps) -> LinearMap | None:
    inner = maps.get(node.input[0])
    return None if inner is None else inner.scaled(np.full((1, 1, 1), -1.0))


def _identity(view: GraphView, node: onnx.NodeProto, maps: Maps) -> LinearMap | None:
    return maps.get(node.input[0])


def _padding(view: GraphView, node: onnx.NodeProto, maps: Maps) -> LinearMap | None:
    """Zeros around rows and columns."""
    inner, pads = maps.get(node.input[0]), constant_integers(view, node, 1)
    value = _constant(view, node.input[2]) if len(node.input) > 2 and node.input[2] else np.zeros(1)
    names_axes = len(node.input) > 3 and node.input[3]
    if inner is None or pads is None or len(pads) != 8 or names_axes or value is None or np.any(value):
        return None
    if text_attribute(node, "mode", "constant") != "constant" or any(pads[axis] for axis in (0, 1, 4, 5)):
        return None
    return inner.padded((pads[2], pads[3]), (pads[6], pads[7]))


def _concatenation(view: GraphView, node: onnx.NodeProto, maps: Maps) -> LinearMap | None:
    parts = [maps[name] for name in node.input if name in maps]
    if len(parts) != len(node.input) or integer_attribute(node, "axis", 0) not in (1, -3):
        return None
    return LinearMap.concatenated(parts)


def _assignment(view: GraphView, node: onnx.NodeProto, maps: Maps) -> LinearMap | None:
    """Constants that are written to constant positions, such as the bias to the border that padding added."""
    inner, shape = maps.get(node.input[0]), constant_shape(view, node.input[0])
    indices, updates = view.constants.get(node.input[1]), _constant(view, node.input[2])
    is_plain = text_attribute(node, "reduction", "none") == "none"
    if inner is None or shape is None or shape[0] != 1 or indices is None or updates is None or not is_plain:
        return None
    positions: tuple[npt.NDArray[Any], ...] = tuple(np.moveaxis(indices, -1, 0))
    inside = all(np.all((-size <= at) & (at < size)) for at, size in zip(positions, shape, strict=False))
    mask, values = np.zeros(shape, bool), np.zeros(shape)
    if len(positions) > len(shape) or not inside or mask[positions].shape != updates.shape:
        return None
    mask[positions], values[positions] = True, updates
    return inner.assigned(mask[0], values[0])


_READERS: Mapping[str, Callable[[GraphView, onnx.NodeProto, Maps], LinearMap | None]] = {
    "Add": _sum,
    "AveragePool": _pooling,
    "BatchNormalization": _normalization,
    "Concat": _concatenation,
    "Conv": _convolution,
    "Div": _product,
    "Identity": _identity,
    "Mul": _product,
    "Neg": _negation,
    "Pad": _padding,
    "ScatterND": _assignment,
    "Sub": _sum,
}


def _constant(view: GraphView, name: str) -> Array | None:
    """A constant input in float64; None if it is computed, not of floats, or not finite."""
    value = view.constants.get(name)
    if value is None or not np.issubdtype(value.dtype, np.floating) or not np.all(np.isfinite(value)):
        return None
    return value.astype(np.float64)


def _broadcast(view: GraphView, name: str, inner: LinearMap) -> Array | None:
    """A constant operand of three axes, each of size 1 or whole; None if it is none, or makes the tensor larger."""
    value = _constant(view, name)
    if value is None or value.ndim > 4 or (value.ndim == 4 and value.shape[0] != 1):
        return None
    aligned: Array = value.reshape((1,) * max(0, 3 - value.ndim) + value.shape[max(0, value.ndim - 3) :])
    whole = (inner.channels, *inner.size)
    return aligned if all(axis in (1, size) for axis, size in zip(aligned.shape, whole, strict=True)) else None


def _has_plain_pads(node: onnx.NodeProto) -> bool:
    return text_attribute(node, "auto_pad", "NOTSET") == "NOTSET"


def _pads(node: onnx.NodeProto) -> tuple[Pair, Pair]:
    pads = integers_attribute(node, "pads", (0, 0, 0, 0))
    return (pads[0], pads[1]), (pads[2], pads[3])


def _strides(node: onnx.NodeProto) -> Pair:
    rows, columns = integers_attribute(node, "strides", (1, 1))
    return rows, columns
