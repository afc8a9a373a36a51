"""Where INT8 is possible at all: operators with one computed input and one constant weight.

INT8 never goes on anything else: attention statistics, sums, concats, residual adds and pools cost decibels and gain
nothing. Some weighted operators are statistics in disguise; they get an `obstacle` that says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx

from sr_edge.errors import CalibrationError
from sr_edge.export.graph import Constant, attribute, view_graph

FLOAT32_ISLAND = "fp32"
"""Nodes with this in their name must stay in float32 (norms, denominators, statistics)."""


@dataclass(frozen=True)
class Site:
    """One operator that multiplies `activation` by the constant `weight`.

    `channel_axis` is the weight's axis of output channels. `obstacle` says why it can't be INT8; empty if it can.
    """

    node: str
    op_type: str
    activation: str
    weight: str
    channel_axis: int
    obstacle: str = ""


def find_sites(model: onnx.ModelProto) -> tuple[Site, ...]:
    """Every Conv, ConvTranspose, MatMul and Gemm, in graph order.

    Raises:
        CalibrationError: the graph holds QuantizeLinear already, or weights that are not finite.
    """
    quantized = next((node.name for node in model.graph.node if node.op_type == "QuantizeLinear"), None)
    if quantized is not None:
        raise CalibrationError(f"the graph is quantized already (node {quantized}); calibrate the float model")
    known = view_graph(model).constants
    return tuple(_site(node, known) for node in model.graph.node if node.op_type in _CHANNEL_AXIS)


_CHANNEL_AXIS = {"Conv": 0, "ConvTranspose": 1, "MatMul": 1, "Gemm": 1}


def _site(node: onnx.NodeProto, known: Mapping[str, Constant]) -> Site:
    activation, weight = node.input[0], node.input[1]
    axis = 0 if _is_transposed(node) else _CHANNEL_AXIS[node.op_type]
    return Site(node.name, node.op_type, activation, weight, axis, _obstacle(node, known))


def _obstacle(node: onnx.NodeProto, known: Mapping[str, Constant]) -> str:
    if FLOAT32_ISLAND in node.name:
        return f"its name contains {FLOAT32_ISLAND}: it must stay in float32"
    if node.input[0] in known:
        return "its first operand is constant; INT8 takes the weight as the second"
    if node.input[1] not in known:
        return "it has no constant weight: both operands are computed, as in attention"
    return _weight_obstacle(node, known[node.input[1]])


def _weight_obstacle(node: onnx.NodeProto, weight: Constant) -> str:
    if weight.dtype != np.float32:
        return f"its weight is {weight.dtype}; INT8 is written from the float32 graph"
    if not np.isfinite(weight).all():
        raise CalibrationError(f"the weight of node {node.name} holds NaN or infinity; train or export it again")
    if node.op_type in ("MatMul", "Gemm"):
        return "" if weight.ndim == 2 else f"its weight has rank {weight.ndim}; INT8 takes a matrix"
    if _is_channel_mean(weight):
        return "it is a mean over channels (constant weights 1/C): a statistic"
    if _is_channel_affine(weight):
        return "it scales each channel by itself (a diagonal 1x1): no arithmetic to save"
    return ""


def _is_channel_mean(weight: Constant) -> bool:
    pointwise = all(side == 1 for side in weight.shape[2:])
    return pointwise and weight.shape[1] > 1 and bool(np.allclose(weight, 1.0 / weight.shape[1], rtol=1e-5, atol=0.0))


def _is_channel_affine(weight: Constant) -> bool:
    outputs, inputs, *kernel = weight.shape
    if outputs != inputs or outputs == 1 or any(side != 1 for side in kernel):
        return False
    matrix = weight.reshape(outputs, inputs)
    return not np.any(matrix - np.diag(np.diag(matrix)))


def _is_transposed(node: onnx.NodeProto) -> bool:
    transposed = attribute(node, "transB")
    return node.op_type == "Gemm" and transposed is not None and bool(transposed.i)
