"""A read-only view of an ONNX graph: the producer, consumers, shape and type of each tensor, and the constants.

Passes query the view and then build a new model; nothing changes the model through the view.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx

from sr_edge.errors import ExportError
from sr_edge.printable import one_line

Dim = int | str | None
Shape = tuple[Dim, ...]
Constant = npt.NDArray[np.generic]

FLOAT_TYPES = frozenset({onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE})


@dataclass(frozen=True)
class GraphView:
    """The main graph of a model with inferred shapes; a node is identified by its index in `nodes`.

    Tensors whose shape onnx cannot infer are absent from `shapes`; a dimension is an int, a symbol's name, or None.
    """

    model: onnx.ModelProto
    nodes: tuple[onnx.NodeProto, ...]
    shapes: Mapping[str, Shape]
    types: Mapping[str, int]

    @cached_property
    def producer(self) -> Mapping[str, int]:
        """The index of the node that computes each tensor."""
        return {tensor: index for index, node in enumerate(self.nodes) for tensor in node.output if tensor}

    @cached_property
    def consumers(self) -> Mapping[str, tuple[int, ...]]:
        """The indices of the nodes that read each tensor."""
        consumers: dict[str, list[int]] = {}
        for index, node in enumerate(self.nodes):
            for tensor in dict.fromkeys(node.input):
                if tensor:
                    consumers.setdefault(tensor, []).append(index)
        return {tensor: tuple(indices) for tensor, indices in consumers.items()}

    @cached_property
    def constants(self) -> Mapping[str, Constant]:
        """The initializers and the outputs of Constant nodes, by tensor name."""
        graph = self.model.graph
        constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
        for node in self.nodes:
            if node.op_type == "Constant":
                constants[node.output[0]] = _constant_value(node)
        return constants

    @cached_property
    def output_names(self) -> frozenset[str]:
        return frozenset(output.name for output in self.model.graph.output)

    def name(self, index: int) -> str:
        """The name of a node; for one without a name, its operator and index."""
        node = self.nodes[index]
        return node.name or f"{node.op_type}#{index}"

    def of_types(self, operators: Collection[str]) -> Iterator[tuple[str, onnx.NodeProto]]:
        """The nodes of these operators, each with its name."""
        return ((self.name(index), node) for index, node in enumerate(self.nodes) if node.op_type in operators)

    def computed_inputs(self, index: int) -> tuple[str, ...]:
        """The inputs of a node that are not constants."""
        return tuple(tensor for tensor in self.nodes[index].input if tensor and tensor not in self.constants)

    def readers(self, index: int) -> tuple[int, ...]:
        """The indices of the nodes that read any output of a node."""
        outputs = self.nodes[index].output
        return tuple(dict.fromkeys(reader for tensor in outputs for reader in self.consumers.get(tensor, ())))

    def is_float(self, tensor: str) -> bool:
        return self.types.get(tensor) in FLOAT_TYPES


def read_onnx(path: Path) -> onnx.ModelProto:
    """Loads an ONNX file.

    Raises:
        ExportError: The file does not exist or is not an ONNX file with a graph.
    """
    try:
        model = onnx.load(path)
    except FileNotFoundError as error:
        raise ExportError(f"{path} does not exist", found=path, remedy="pass an .onnx file") from error
    except Exception as error:  # protobuf's and onnx's parse errors share no base class
        raise ExportError(
            f"{path} is not a readable ONNX file: {one_line(str(error))}", found=path, remedy="export it again"
        ) from error
    if not model.graph.node:
        raise ExportError(f"{path} has no graph", found=path, remedy="export it again")
    return model


def view_graph(model: onnx.ModelProto) -> GraphView:
    """Infers all shapes and types of `model`, which is not changed, and indexes its main graph.

    Raises:
        ExportError: Shape inference detects shapes or types that contradict each other.
    """
    try:
        inferred = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    except onnx.shape_inference.InferenceError as error:
        raise ExportError(f"the graph's shapes or types contradict each other: {one_line(str(error))}") from error
    shapes: dict[str, Shape] = {}
    types: dict[str, int] = {}
    graph = inferred.graph
    for value in (*graph.input, *graph.value_info, *graph.output):
        kind = value.type.tensor_type
        types[value.name] = kind.elem_type
        if kind.HasField("shape"):
            shapes[value.name] = tuple(_dim(dim) for dim in kind.shape.dim)
    for tensor in graph.initializer:
        types[tensor.name] = tensor.data_type
        shapes[tensor.name] = tuple(tensor.dims)
    return GraphView(model=model, nodes=tuple(model.graph.node), shapes=shapes, types=types)


def picture_channels(image: onnx.ValueInfoProto) -> int:
    """The number of channels of an image, float NCHW or uint8 NHWC; 0 where it is dynamic."""
    kind = image.type.tensor_type
    return int(kind.shape.dim[3 if kind.elem_type == onnx.TensorProto.UINT8 else 1].dim_value)


def picture_inputs(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    """The inputs of rank 4, which take images."""
    return [value for value in graph_inputs(model) if len(value.type.tensor_type.shape.dim) == 4]


def scalar_inputs(model: onnx.ModelProto) -> list[str]:
    """The names of all other inputs: the controls of the network, of shape [1]."""
    return [value.name for value in graph_inputs(model) if len(value.type.tensor_type.shape.dim) != 4]


def graph_inputs(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    """The inputs without the initializers, which files of ONNX IR versions before 4 list as inputs, too."""
    constants = {tensor.name for tensor in model.graph.initializer}
    return [value for value in model.graph.input if value.name not in constants]


def captured_tensors(model: onnx.ModelProto) -> frozenset[str]:
    """The tensors that the subgraphs of If, Loop and Scan read; `GraphView.consumers` does not include these reads."""
    subgraphs = [entry.g for node in model.graph.node for entry in node.attribute if entry.HasField("g")]
    names: set[str] = set()
    while subgraphs:
        graph = subgraphs.pop()
        names |= {output.name for output in graph.output}
        for node in graph.node:
            names |= set(node.input)
            subgraphs += [entry.g for entry in node.attribute if entry.HasField("g")]
    return frozenset(names)


def attribute(node: onnx.NodeProto, name: str) -> onnx.AttributeProto | None:
    """The attribute of that name, or None if the node uses the default of the operator."""
    return next((entry for entry in node.attribute if entry.name == name), None)


def integer_attribute(node: onnx.NodeProto, name: str, default: int) -> int:
    """The value of an integer attribute."""
    value = attribute(node, name)
    return default if value is None else int(value.i)


def integers_attribute(node: onnx.NodeProto, name: str, default: Iterable[int] = ()) -> list[int]:
    """The value of an attribute that lists integers."""
    value = attribute(node, name)
    return list(default) if value is None else [int(number) for number in value.ints]


def text_attribute(node: onnx.NodeProto, name: str, default: str) -> str:
    """The value of a string attribute."""
    value = attribute(node, name)
    return default if value is None else value.s.decode()


def default_opset(model: onnx.ModelProto) -> int:
    """The version of the default operator set (ai.onnx) that the model imports; 0 where it imports none."""
    return next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0)


def _constant_value(node: onnx.NodeProto) -> Constant:
    for entry in node.attribute:
        value = onnx.helper.get_attribute_value(entry)
        if entry.name == "value":
            return onnx.numpy_helper.to_array(value)
        if entry.name in ("value_float", "value_floats"):
            return np.asarray(value, dtype=np.float32)
        if entry.name in ("value_int", "value_ints"):
            return np.asarray(value, dtype=np.int64)
    raise ExportError(
        f"the Constant node {node.name!r} has neither numbers nor a dense tensor as its value",
        found=tuple(entry.name for entry in node.attribute),
        wanted=("value", "value_float", "value_floats", "value_int", "value_ints"),
        remedy="export the network without it",
    )


def _dim(dim: onnx.TensorShapeProto.Dimension) -> Dim:
    if dim.HasField("dim_value"):
        return int(dim.dim_value)
    return dim.dim_param or None
