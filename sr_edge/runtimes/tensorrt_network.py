"""What a parsed network holds: the types of its convolutions and matmuls, and how much memory they ask for."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from sr_edge.errors import PrecisionUnavailable
from sr_edge.runtimes.tensorrt_api import TrtILayer, TrtINetworkDefinition, TrtITensor, TrtModule
from sr_edge.spec import Precision


@dataclass(frozen=True)
class NetworkTypes:
    """Convolutions and matmuls of a strongly typed network by the type that their inputs have in it.

    `quantized` are the names of those whose inputs and weights are all dequantized values (`counts` has them as INT8),
    `float_precision` is the float type of the others, or of most of the network where there is no other.
    """

    layers: int
    counts: dict[Precision, int]
    quantized: tuple[str, ...]
    float_precision: Precision

    def require(self, precision: Precision, file: str) -> None:
        """Raises PrecisionUnavailable unless the network is of `precision`: TensorRT keeps the types of the graph."""
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
class MemoryNeed:
    """Device memory in bytes that a network needs at least: its weights, and the tensors around its largest layer."""

    weights_bytes: int
    activations_bytes: int

    @property
    def building_bytes(self) -> int:
        """While building, the weights are there twice: as parsed, and as the engine lays them out."""
        return 2 * self.weights_bytes + self.activations_bytes


def network_types(trt: TrtModule, network: TrtINetworkDefinition) -> NetworkTypes:
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
        elif (found := _float_type_of(trt, inputs[0])) is not None:
            counts[found] += 1
    return NetworkTypes(network.num_layers, dict(counts), tuple(quantized), _float_precision(trt, network, counts))


def memory_need(trt: TrtModule, network: TrtINetworkDefinition, graph_bytes: int) -> MemoryNeed:
    """`graph_bytes` is the size of the ONNX file, nearly all weights."""
    largest = 0
    for layer in _layers(network):
        tensors = [*_inputs(layer), *(layer.get_output(index) for index in range(layer.num_outputs))]
        largest = max(largest, sum(_tensor_bytes(trt, tensor) for tensor in tensors))
    return MemoryNeed(graph_bytes, largest)


def _layers(network: TrtINetworkDefinition) -> Iterator[TrtILayer]:
    return (network.get_layer(index) for index in range(network.num_layers))


def _inputs(layer: TrtILayer) -> list[TrtITensor]:
    found = (layer.get_input(index) for index in range(layer.num_inputs))
    return [tensor for tensor in found if tensor is not None]


def _is_dequantized(trt: TrtModule, tensor: TrtITensor, producers: dict[str, TrtILayer]) -> bool:
    """Whether `tensor` comes out of a DequantizeLinear, through nothing but casts and reshapes."""
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
    """The float type that most of the float convolutions and matmuls have; without such, that most layers give."""
    floats = counts - Counter({Precision.INT8: counts[Precision.INT8]})
    if not floats:
        outputs = [layer.get_output(0) for layer in _layers(network) if layer.num_outputs]
        floats.update(found for tensor in outputs if (found := _float_type_of(trt, tensor)) is not None)
    return floats.most_common(1)[0][0] if floats else Precision.FP32


def _tensor_bytes(trt: TrtModule, tensor: TrtITensor) -> int:
    """A dynamic side, -1, counts as one: the need is a lower bound."""
    kinds = trt.DataType
    element = {kinds.HALF: 2, kinds.BF16: 2, kinds.INT8: 1, kinds.UINT8: 1}.get(tensor.dtype, 4)
    return element * math.prod(abs(int(side)) for side in tensor.shape)
