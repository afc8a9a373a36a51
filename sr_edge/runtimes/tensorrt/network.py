"""Inspects a parsed network: types of its convolutions and matrix multiplications, and the memory that it needs."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from sr_edge.errors import PrecisionUnavailable
from sr_edge.runtimes.tensorrt.api import TrtILayer, TrtINetworkDefinition, TrtITensor, TrtModule
from sr_edge.spec import Precision


@dataclass(frozen=True)
class NetworkTypes:
    """Types of the convolutions and matrix multiplications of a strongly typed network.

    Attributes:
        layers: number of all layers of the network.
        counts: convolutions and matrix multiplications by the precision of their inputs.
        quantized: names of those whose inputs and weights are dequantized values; `counts` has them as INT8.
        float_precision: float type of most of the others, or where all are quantized, of most layers of the network.
    """

    layers: int
    counts: dict[Precision, int]
    quantized: tuple[str, ...]
    float_precision: Precision

    def require(self, precision: Precision, file: str) -> None:
        """Raises PrecisionUnavailable unless the network is of `precision`: TensorRT keeps the types of a graph."""
        counts = ", ".join(f"{count} in {kind}" for kind, count in self.counts.items()) or "none"
        if precision is Precision.INT8 and not self.quantized:
            raise PrecisionUnavailable(
                f"int8 was requested, but no layer of {file} is between QuantizeLinear and DequantizeLinear "
                f"(convolutions and matrix multiplications: {counts})",
                found=self.precision,
                wanted=precision,
                remedy="calibrate the model with `sr-edge calibrate` or `sr-edge deploy` first",
            )
        if self.precision is not precision:
            raise PrecisionUnavailable(
                f"{precision} was requested, but {file} is written in {self.precision} (convolutions and matrix "
                f"multiplications: {counts}), and TensorRT keeps the types of a graph",
                found=self.precision,
                wanted=precision,
                remedy=f"request {self.precision}, or export the model in {precision}",
            )

    @property
    def precision(self) -> Precision:
        """INT8 where any layer is quantized, else the float type of most layers."""
        return Precision.INT8 if self.quantized else self.float_precision


@dataclass(frozen=True)
class MemoryEstimate:
    """Lower bound of a network's device memory: its weights, and the inputs and outputs of its largest layer."""

    weights_bytes: int
    activations_bytes: int

    @property
    def build_bytes(self) -> int:
        """Memory of the build, which keeps the weights twice: as parsed, and in the engine's layout."""
        return 2 * self.weights_bytes + self.activations_bytes


def network_types(trt: TrtModule, network: TrtINetworkDefinition) -> NetworkTypes:
    """Reads the types of a parsed network."""
    kinds = trt.LayerType
    multiplying = {kinds.CONVOLUTION, kinds.DECONVOLUTION, kinds.MATRIX_MULTIPLY}
    producers = {layer.get_output(0).name: layer for layer in _layers(network) if layer.num_outputs}
    counts: Counter[Precision] = Counter()
    quantized = []
    for layer in _layers(network):
        if layer.type not in multiplying:
            continue
        inputs = _inputs(layer)[:2]
        if inputs and all(_is_dequantized(trt, tensor, producers) for tensor in inputs):
            quantized.append(layer.name)
            counts[Precision.INT8] += 1
        elif (float_type := _float_type_of(trt, inputs[0])) is not None:
            counts[float_type] += 1
    return NetworkTypes(network.num_layers, dict(counts), tuple(quantized), _float_precision(trt, network, counts))


def estimate_memory(trt: TrtModule, network: TrtINetworkDefinition, graph_bytes: int) -> MemoryEstimate:
    """Estimates the memory of a network; `graph_bytes` is the size of the ONNX file, which is nearly all weights."""
    largest = 0
    for layer in _layers(network):
        tensors = [*_inputs(layer), *(layer.get_output(index) for index in range(layer.num_outputs))]
        largest = max(largest, sum(_tensor_bytes(trt, tensor) for tensor in tensors))
    return MemoryEstimate(graph_bytes, largest)


def _layers(network: TrtINetworkDefinition) -> Iterator[TrtILayer]:
    return (network.get_layer(index) for index in range(network.num_layers))


def _inputs(layer: TrtILayer) -> list[TrtITensor]:
    tensors = (layer.get_input(index) for index in range(layer.num_inputs))
    return [tensor for tensor in tensors if tensor is not None]


def _is_dequantized(trt: TrtModule, tensor: TrtITensor, producers: dict[str, TrtILayer]) -> bool:
    """Whether `tensor` is the output of a DequantizeLinear, possibly followed by casts and reshapes."""
    passing = {trt.LayerType.CAST, trt.LayerType.SHUFFLE}
    layer = producers.get(tensor.name)
    while layer is not None and layer.type in passing:
        source = layer.get_input(0)
        layer = producers.get(source.name) if source is not None else None
    return layer is not None and layer.type == trt.LayerType.DEQUANTIZE


def _float_type_of(trt: TrtModule, tensor: TrtITensor) -> Precision | None:
    kinds = {trt.DataType.FLOAT: Precision.FP32, trt.DataType.HALF: Precision.FP16, trt.DataType.BF16: Precision.BF16}
    return kinds.get(tensor.dtype)


def _float_precision(trt: TrtModule, network: TrtINetworkDefinition, counts: Counter[Precision]) -> Precision:
    """The float type of most float convolutions and matrix multiplications; without any, that of most outputs."""
    float_counts = counts - Counter({Precision.INT8: counts[Precision.INT8]})
    if not float_counts:
        outputs = [layer.get_output(0) for layer in _layers(network) if layer.num_outputs]
        float_types = (_float_type_of(trt, tensor) for tensor in outputs)
        float_counts.update(float_type for float_type in float_types if float_type is not None)
    return float_counts.most_common(1)[0][0] if float_counts else Precision.FP32


def _tensor_bytes(trt: TrtModule, tensor: TrtITensor) -> int:
    """Size of a tensor in bytes; a dynamic dimension, -1, counts as 1, so this is a lower bound."""
    kinds = trt.DataType
    element = {kinds.HALF: 2, kinds.BF16: 2, kinds.INT8: 1, kinds.UINT8: 1}.get(tensor.dtype, 4)
    return element * math.prod(abs(int(size)) for size in tensor.shape)
