"""TensorRT's Python API over ONNX Runtime: a network is an ONNX file, an engine its bytes.

As much of it as sr_edge.runtimes uses. Engines compute real pictures, in the precision of ONNX Runtime's CPU kernels,
out of and into the memory of the CUDA that stands in beside this.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable
from enum import IntEnum
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime  # type: ignore[import-untyped]  # ships no types
from cuda.bindings import runtime as cuda  # type: ignore[attr-defined, import-untyped, unused-ignore]

# TensorRT's own names:

__version__ = "11.4.1+stand.in"


class DataType(IntEnum):
    FLOAT, HALF, BF16, INT8, UINT8, OTHER = range(6)


class LayerType(IntEnum):
    CONVOLUTION, DECONVOLUTION, MATRIX_MULTIPLY, DEQUANTIZE, QUANTIZE, SHUFFLE, CAST, CONSTANT, OTHER = range(9)


class TensorIOMode(IntEnum):
    INPUT, OUTPUT = range(2)


class BuilderFlag(IntEnum):
    TF32, GPU_FALLBACK, VERSION_COMPATIBLE = range(3)


class NetworkDefinitionCreationFlag(IntEnum):
    STRONGLY_TYPED = 1


class MemoryPoolType(IntEnum):
    WORKSPACE = 0


class DeviceType(IntEnum):
    GPU, DLA = range(2)


class HardwareCompatibilityLevel(IntEnum):
    NONE, AMPERE_PLUS = range(2)


class ILogger:
    pass


class IProgressMonitor:
    pass


_TYPES: dict[int, DataType] = {
    onnx.TensorProto.FLOAT: DataType.FLOAT,
    onnx.TensorProto.FLOAT16: DataType.HALF,
    onnx.TensorProto.INT8: DataType.INT8,
    onnx.TensorProto.UINT8: DataType.UINT8,
}
_ELEMENTS = {"tensor(uint8)": "uint8", "tensor(float)": "float32"}
_KINDS = {
    "Conv": LayerType.CONVOLUTION,
    "ConvTranspose": LayerType.DECONVOLUTION,
    "MatMul": LayerType.MATRIX_MULTIPLY,
    "Gemm": LayerType.MATRIX_MULTIPLY,
    "DequantizeLinear": LayerType.DEQUANTIZE,
    "QuantizeLinear": LayerType.QUANTIZE,
    "Reshape": LayerType.SHUFFLE,
    "Transpose": LayerType.SHUFFLE,
    "Cast": LayerType.CAST,
}


class Network:
    """`INetworkDefinition` of an ONNX file."""

    def __init__(self) -> None:
        self.content = b""
        self._layers: list[Any] = []
        self._inputs: list[Any] = []
        self.num_layers = self.num_inputs = self.num_outputs = 0

    def read(self, content: bytes) -> None:
        self.content = content
        graph = onnx.shape_inference.infer_shapes(onnx.load_from_string(content)).graph
        tensors = {tensor.name: _constant(tensor) for tensor in graph.initializer}
        tensors |= {value.name: _tensor(value) for value in (*graph.value_info, *graph.input, *graph.output)}
        self._layers = [_layer(node, tensors) for node in graph.node]
        self._inputs = [tensors[value.name] for value in graph.input]
        self.num_layers, self.num_inputs, self.num_outputs = len(self._layers), len(self._inputs), len(graph.output)

    def get_layer(self, index: int) -> Any:
        return self._layers[index]

    def get_input(self, index: int) -> Any:
        return self._inputs[index]


def _constant(tensor: onnx.TensorProto) -> Any:
    return SimpleNamespace(
        name=tensor.name, dtype=_TYPES.get(tensor.data_type, DataType.OTHER), shape=tuple(tensor.dims)
    )


def _tensor(value: onnx.ValueInfoProto) -> Any:
    kind = value.type.tensor_type
    shape = tuple(dimension.dim_value or -1 for dimension in kind.shape.dim)
    return SimpleNamespace(name=value.name, dtype=_TYPES.get(kind.elem_type, DataType.OTHER), shape=shape)


def _layer(node: onnx.NodeProto, tensors: dict[str, Any]) -> Any:
    def tensor(name: str) -> Any:
        return tensors.get(name, SimpleNamespace(name=name, dtype=DataType.OTHER, shape=()))

    return SimpleNamespace(
        name=node.name or node.output[0],
        type=_KINDS.get(node.op_type, LayerType.OTHER),
        num_inputs=len(node.input),
        num_outputs=len(node.output),
        get_input=lambda index: tensor(node.input[index]),
        get_output=lambda index: tensor(node.output[index]),
    )


class Config:
    """`IBuilderConfig`: takes every setting and follows none."""

    def __init__(self) -> None:
        self.builder_optimization_level = 3
        self.progress_monitor: Any = None
        self._limit_bytes = 1 << 30

    def set_flag(self, flag: int) -> None:
        pass

    def clear_flag(self, flag: int) -> None:
        pass

    def set_memory_pool_limit(self, pool: int, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes

    def get_memory_pool_limit(self, pool: int) -> int:
        return self._limit_bytes


class Builder:
    num_DLA_cores = 0  # noqa: N815

    def __init__(self, logger: Any) -> None:
        pass

    def create_network(self, flags: int) -> Network:
        return Network()

    def create_builder_config(self) -> Config:
        return Config()

    def build_serialized_network(self, network: Network, config: Config) -> bytes:
        return network.content


class OnnxParser:
    num_errors = 0

    def __init__(self, network: Network, logger: Any) -> None:
        self._network = network

    def parse_from_file(self, path: str) -> bool:
        with open(path, "rb") as file:  # noqa: PTH123  # TensorRT takes a text
            self._network.read(file.read())
        return True


class Runtime:
    def __init__(self, logger: Any) -> None:
        pass

    def deserialize_cuda_engine(self, plan: bytes) -> Engine:
        return Engine(plan)


class Engine:
    """`ICudaEngine` over one ONNX Runtime session."""

    device_memory_size_v2 = 4096

    def __init__(self, plan: bytes) -> None:
        self._session = onnxruntime.InferenceSession(plan, providers=["CPUExecutionProvider"])
        inputs = {port.name: port for port in self._session.get_inputs()}
        self._ports = {**inputs, **{port.name: port for port in self._session.get_outputs()}}
        self._modes = {name: TensorIOMode.INPUT if name in inputs else TensorIOMode.OUTPUT for name in self._ports}
        self.num_io_tensors = len(self._ports)

    def get_tensor_name(self, index: int) -> str:
        return list(self._ports)[index]

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return self._modes[name]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return tuple(self._ports[name].shape)

    def create_execution_context(self) -> Context:
        def run(views: dict[str, npt.NDArray[Any]]) -> None:
            inputs = {name: view for name, view in views.items() if self._modes[name] is TensorIOMode.INPUT}
            outputs = [name for name in views if name not in inputs]
            for name, found in zip(outputs, self._session.run(outputs, inputs), strict=True):
                views[name][...] = found

        elements = {name: _ELEMENTS[port.type] for name, port in self._ports.items()}
        shapes = {name: self.get_tensor_shape(name) for name in self._ports}
        return Context(run, shapes, elements)


class Context:
    """`IExecutionContext`: reads and writes at the addresses that it was given when its work was queued."""

    def __init__(
        self,
        run: Callable[[dict[str, npt.NDArray[Any]]], None],
        shapes: dict[str, tuple[int, ...]],
        elements: dict[str, str],
    ) -> None:
        self._run, self._shapes, self._elements = run, shapes, elements
        self._addresses: dict[str, int] = {}

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        return tuple(shape) == self._shapes[name]

    def set_tensor_address(self, name: str, address: int) -> bool:
        self._addresses[name] = address
        return True

    def execute_async_v3(self, stream: int) -> bool:
        views = {name: self._view(name, address) for name, address in self._addresses.items()}
        cuda.enqueue(stream, lambda: self._run(views))
        return True

    def _view(self, name: str, address: int) -> npt.NDArray[Any]:
        element, shape = np.dtype(self._elements[name]), self._shapes[name]
        memory = (ctypes.c_uint8 * (math.prod(shape) * element.itemsize)).from_address(address)
        return np.ctypeslib.as_array(memory).view(element).reshape(shape)
