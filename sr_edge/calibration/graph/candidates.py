"""Finds the operators that can be INT8: those with one computed input and one constant weight.

Nothing else becomes INT8: in attention statistics, sums, concatenations, residual additions and pooling, INT8 loses
quality and saves no time. Some operators with a weight compute a statistic as well; their `obstacle` says so.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np
import onnx

from sr_edge.errors import CalibrationError
from sr_edge.export.graph.statistics import is_average, is_pooled, only_denominates
from sr_edge.export.graph.view import Constant, GraphView, attribute, view_graph

FLOAT32_ISLAND = "fp32"
"""Nodes with this in their name must stay float32: norms, denominators and statistics."""


@dataclass(frozen=True)
class QuantizableOp:
    """One operator that multiplies `activation` by the constant `weight`.

    `channel_axis` is the axis of the output channels in the weight. `obstacle` is the reason why the operator cannot be
    INT8; empty if it can.
    """

    node: str
    op_type: str
    activation: str
    weight: str
    channel_axis: int
    obstacle: str = ""


def find_quantizable_ops(model: onnx.ModelProto) -> tuple[QuantizableOp, ...]:
    """All Conv, ConvTranspose, MatMul and Gemm operators, in graph order.

    Raises:
        CalibrationError: The graph contains QuantizeLinear already, or weights that are not finite.
    """
    quantized = next((node.name for node in model.graph.node if node.op_type == "QuantizeLinear"), None)
    if quantized is not None:
        raise CalibrationError(
            f"the graph is already quantized: its node {quantized} is a QuantizeLinear",
            found=quantized,
            wanted="a float graph",
            remedy="calibrate the float model",
        )
    view = view_graph(model)
    ops = [_quantizable_op(view, at) for at, node in enumerate(view.nodes) if node.op_type in _CHANNEL_AXIS]
    spatial = {op.activation for op in ops if op.op_type in _SPATIAL and not op.obstacle}
    return tuple(_without_other_axes(op, spatial) for op in ops)


_CHANNEL_AXIS = {"Conv": 0, "ConvTranspose": 1, "MatMul": 1, "Gemm": 1}


_SPATIAL = ("Conv", "ConvTranspose")


def _quantizable_op(view: GraphView, at: int) -> QuantizableOp:
    node = view.nodes[at]
    axis = 0 if _is_set(node, "transB") else _CHANNEL_AXIS[node.op_type]
    return QuantizableOp(node.name, node.op_type, node.input[0], node.input[1], axis, _obstacle(view, at))


def _without_other_axes(op: QuantizableOp, spatial: Collection[str]) -> QuantizableOp:
    """A tensor has one scale and one smoothing axis, so convolutions share it with convolutions only."""
    if op.obstacle or op.op_type in _SPATIAL or op.activation not in spatial:
        return op
    return replace(op, obstacle="a convolution reads the same input along another axis")


def _obstacle(view: GraphView, at: int) -> str:
    node, constants = view.nodes[at], view.constants
    if FLOAT32_ISLAND in node.name:
        return f"its name contains {FLOAT32_ISLAND}: it must stay in float32"
    if node.input[0] in constants:
        return "its first input is constant, but the weight must be the second input"
    if node.input[1] not in constants:
        return "it has no constant weight: both inputs are computed, as in attention"
    if _is_set(node, "transA"):
        return "it transposes its input (transA)"
    return _weight_obstacle(node, constants[node.input[1]]) or _statistics_obstacle(view, at)


def _weight_obstacle(node: onnx.NodeProto, weight: Constant) -> str:
    if weight.dtype != np.float32:
        return f"its weight is {weight.dtype}, but INT8 is written from a float32 graph"
    if not np.isfinite(weight).all():
        raise CalibrationError(
            f"the weight of node {node.name} contains NaN or infinity",
            found=node.name,
            wanted="finite weights",
            remedy="train or export the network again",
        )
    rank = 4 if node.op_type in _SPATIAL else 2
    if weight.ndim != rank:
        return f"its weight has rank {weight.ndim}, but INT8 needs rank {rank} in a {node.op_type}"
    if _is_channel_affine(weight):
        return "it only scales each channel (a diagonal 1x1 weight), so INT8 saves hardly any arithmetic"
    return ""


def _statistics_obstacle(view: GraphView, at: int) -> str:
    """The reason why the layer is a statistic, whatever its name; empty if it is none.

    Attention blocks multiply by constant weights in several roles. Projections of queries, keys, values and of the
    result, and the feed-forward layers, may be INT8 like any other layer. Products of two computed tensors (scores,
    weighted sums) have no weight and are never candidates.
    """
    node = view.nodes[at]
    if is_average(view, at):
        return "it is a statistic: a sum or mean over channels, with all weights equal"
    if only_denominates(view, node.output[0]):
        return "it is a statistic: it only feeds a denominator or a root"
    if is_pooled(view, node.input[0]):
        return "it reads values pooled over the whole image, so INT8 saves hardly any arithmetic"
    return ""


def _is_channel_affine(weight: Constant) -> bool:
    outputs, inputs, *kernel = weight.shape
    if outputs != inputs or outputs == 1 or any(size != 1 for size in kernel):
        return False
    matrix = weight.reshape(outputs, inputs)
    return not np.any(matrix - np.diag(np.diag(matrix)))


def _is_set(node: onnx.NodeProto, name: str) -> bool:
    value = attribute(node, name)
    return node.op_type == "Gemm" and value is not None and bool(value.i)
