"""Where INT8 is possible at all: operators with one computed input and one constant weight.

INT8 never goes on anything else: attention statistics, sums, concats, residual adds and pools cost decibels and gain
nothing. Some weighted operators are statistics in disguise; they get an `obstacle` that says so.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np
import onnx

from sr_edge.errors import CalibrationError
from sr_edge.export.graph import Constant, GraphView, attribute, view_graph
from sr_edge.export.statistics import is_average, is_pooled, only_denominates

FLOAT32_ISLAND = "fp32"
"""Nodes with this in their name must stay in float32 (norms, denominators, statistics)."""


@dataclass(frozen=True)
class QuantizableOp:
    """One operator that multiplies `activation` by the constant `weight`.

    `channel_axis` is the weight's axis of output channels. `obstacle` says why it can't be INT8; empty if it can.
    """

    node: str
    op_type: str
    activation: str
    weight: str
    channel_axis: int
    obstacle: str = ""


def find_quantizable_ops(model: onnx.ModelProto) -> tuple[QuantizableOp, ...]:
    """Every Conv, ConvTranspose, MatMul and Gemm, in graph order.

    Raises:
        CalibrationError: the graph holds QuantizeLinear already, or weights that are not finite.
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
    """A tensor has one scale and one smoothing: only convolutions may share it with convolutions."""
    if op.obstacle or op.op_type in _SPATIAL or op.activation not in spatial:
        return op
    return replace(op, obstacle="a convolution reads the same input along another axis")


def _obstacle(view: GraphView, at: int) -> str:
    node, known = view.nodes[at], view.constants
    if FLOAT32_ISLAND in node.name:
        return f"its name contains {FLOAT32_ISLAND}: it must stay in float32"
    if node.input[0] in known:
        return "its first operand is constant; INT8 takes the weight as the second"
    if node.input[1] not in known:
        return "it has no constant weight: both operands are computed, as in attention"
    if _is_set(node, "transA"):
        return "its input is transposed first; INT8 takes it as it comes"
    return _weight_obstacle(node, known[node.input[1]]) or _statistics_obstacle(view, at)


def _weight_obstacle(node: onnx.NodeProto, weight: Constant) -> str:
    if weight.dtype != np.float32:
        return f"its weight is {weight.dtype}; INT8 is written from the float32 graph"
    if not np.isfinite(weight).all():
        raise CalibrationError(
            f"the weight of node {node.name} contains NaN or infinity",
            found=node.name,
            wanted="finite weights",
            remedy="train or export the network again",
        )
    rank = 4 if node.op_type in _SPATIAL else 2
    if weight.ndim != rank:
        return f"its weight has rank {weight.ndim}; INT8 takes one of rank {rank} in a {node.op_type}"
    if _is_channel_affine(weight):
        return "it scales each channel by itself (a diagonal 1x1): no arithmetic to save"
    return ""


def _statistics_obstacle(view: GraphView, at: int) -> str:
    """Why the layer is a statistic, whatever its name; empty where it is not.

    Attention blocks multiply by constant weights in several roles. Projections of queries, keys, values and of the sum,
    and the feed-forward layers, may be INT8 like any other layer. Products of two computed tensors (scores, weighted
    sums) have no weight and are never candidates.
    """
    node = view.nodes[at]
    if is_average(view, at):
        return "it is a sum or mean over channels (all weights alike): a statistic"
    if only_denominates(view, node.output[0]):
        return "it only feeds a denominator or a root: a statistic"
    if is_pooled(view, node.input[0]):
        return "it reads values pooled over the whole image: hardly any arithmetic to save"
    return ""


def _is_channel_affine(weight: Constant) -> bool:
    outputs, inputs, *kernel = weight.shape
    if outputs != inputs or outputs == 1 or any(side != 1 for side in kernel):
        return False
    matrix = weight.reshape(outputs, inputs)
    return not np.any(matrix - np.diag(np.diag(matrix)))


def _is_set(node: onnx.NodeProto, name: str) -> bool:
    found = attribute(node, name)
    return node.op_type == "Gemm" and found is not None and bool(found.i)
