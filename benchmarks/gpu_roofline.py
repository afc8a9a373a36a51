"""The shortest time that a network could take at the rates of a GPU.

The roofline of a network is the time that its convolutions and matrix products would take at these rates, each bound
by its arithmetic or by the bytes of its inputs, output and weights, whichever takes longer, with everything between
them free (S. Williams et al., "Roofline", CACM 52(4), 2009).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import onnx
from gpu_rates import DeviceRates

from sr_edge.spec import Precision

_BYTES = {Precision.FP16: 2, Precision.INT8: 1}


@dataclass(frozen=True)
class LayerCost:
    """One convolution or matrix product: multiply-accumulates, and values of inputs, output and weights."""

    macs: int
    values: int


def graph_costs(graph: Path) -> tuple[LayerCost, ...]:
    """What each convolution and matrix product of a graph with fixed shapes costs."""
    model = onnx.shape_inference.infer_shapes(onnx.load(graph))
    return tuple(_costs(model.graph))


def _costs(graph: onnx.GraphProto) -> Iterator[LayerCost]:
    shapes = {value.name: _shape(value) for value in (*graph.value_info, *graph.input, *graph.output)}
    shapes |= {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type not in ("Conv", "ConvTranspose", "MatMul", "Gemm"):
            continue
        first, second, out = (shapes.get(name, ()) for name in (*node.input[:2], node.output[0]))
        if first and second and out:
            values = math.prod(first) + math.prod(second) + math.prod(out)
            yield LayerCost(_macs(node.op_type, first, second, out), values)


def _macs(kind: str, first: tuple[int, ...], second: tuple[int, ...], out: tuple[int, ...]) -> int:
    """Conv: each output value is a sum over a filter; ConvTranspose: each input value meets one; else inner sizes."""
    if kind == "Conv":
        return math.prod(out) * math.prod(second[1:])
    if kind == "ConvTranspose":
        return math.prod(first) * math.prod(second[1:])
    return math.prod(out) * first[-1]


def _shape(value: onnx.ValueInfoProto) -> tuple[int, ...]:
    """Empty where a size is not known."""
    sizes = tuple(dimension.dim_value for dimension in value.type.tensor_type.shape.dim)
    return sizes if all(sizes) else ()


def roofline_ms(costs: tuple[LayerCost, ...], precision: Precision, rates: DeviceRates) -> float | None:
    """The shortest time that the layers could take at these rates; None where a rate or the graph is not known."""
    macs_per_s, width = rates.matmul_macs_per_s.get(str(precision)), _BYTES.get(precision)
    if not (costs and macs_per_s and width and rates.copy_bytes_per_s):
        return None
    seconds = (max(cost.macs / macs_per_s, width * cost.values / rates.copy_bytes_per_s) for cost in costs)
    return 1e3 * sum(seconds)
