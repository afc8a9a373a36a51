"""A read-only view of an ONNX graph: who makes a tensor, who reads it, its shape, its type, its constants.

Passes ask this view and then build a new model; the view never changes anything.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx

from sr_edge.errors import ExportError
from sr_edge.export.exporter_errors import one_line

Dim = int | str | None
Shape = tuple[Dim, ...]
Constant = npt.NDArray[np.generic]

FLOAT_TYPES = frozenset({onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE})


@dataclass(frozen=True)
class GraphView:
    """One main graph with inferred shapes; node positions in `nodes` are the identity of a node.

    Tensors whose shape onnx cannot infer are absent from `shapes`; a dim is an int, a symbol's name, or None.
    """

    model: onnx.ModelProto
    nodes: tuple[onnx.NodeProto, ...]
    shapes: Mapping[str, Shape]
    types: Mapping[str, int]

    @cached_property
    def producer(self) -> Mapping[str, int]:
        return {tensor: at for at, node in enumerate(self.nodes) for tensor in node.output if tensor}

    @cached_property
    def consumers(self) -> Mapping[str, tuple[int, ...]]:
        found: dict[str, list[int]] = {}
        for at, node in enumerate(self.nodes):
            for tensor in dict.fromkeys(node.input):
                if tensor:
                    found.setdefault(tensor, []).append(at)
        return {tensor: tuple(readers) for tensor, readers in found.items()}

    @cached_property
    def constants(self) -> Mapping[str, Constant]:
        """Initialisers and the outputs of Constant nodes."""
        graph = self.model.graph
        found = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
        for node in self.nodes:
            if node.op_type == "Constant":
                found[node.output[0]] = _constant_value(node)
        return found

    @cached_property
    def output_names(self) -> frozenset[str]:
        return frozenset(output.name for output in self.model.graph.output)

    def name(self, at: int) -> str:
        """The node's name, or for a nameless one its operator and position."""
        node = self.nodes[at]
        return node.name or f"{node.op_type}#{at}"

    def of_types(self, operators: Collection[str]) -> Iterator[tuple[str, onnx.NodeProto]]:
        """The nodes of these operators, each with its name."""
        return ((self.name(at), node) for at, node in enumerate(self.nodes) if node.op_type in operators)

    def computed_inputs(self, at: int) -> tuple[str, ...]:
        """The node's inputs that are not constants."""
        return tuple(tensor for tensor in self.nodes[at].input if tensor and tensor not in self.constants)

    def readers(self, at: int) -> tuple[int, ...]:
        """The nodes that read any output of this one."""
        return tuple(dict.fromkeys(reader for out in self.nodes[at].output for reader in self.consumers.get(out, ())))

    def is_float(self, tensor: str) -> bool:
        return self.types.get(tensor) in FLOAT_TYPES


def read_onnx(path: Path) -> onnx.ModelProto:
    """Loads an ONNX file; raises ExportError when it is absent or is no ONNX file."""
    try:
        model = onnx.load(path)
    except FileNotFoundError as error:
        raise ExportError(f"{path} does not exist", found=path, remedy="pass an .onnx file") from error
    except Exception as error:  # protobuf's and onnx's parse errors share no base class
        raise ExportError(
            f"{path} is not a readable ONNX file: {one_line(error)}", found=path, remedy="export it again"
        ) from error
    if not model.graph.node:
        raise ExportError(f"{path} has no graph", found=path, remedy="export it again")
    return model


def view_graph(model: onnx.ModelProto) -> GraphView:
    """Infers every shape and type of `model` (which is left alone) and indexes its main graph.

    Raises:
        ExportError: onnx finds shapes or types that contradict each other.
    """
    try:
        inferred = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    except onnx.shape_inference.InferenceError as error:
        raise ExportError(f"the graph's shapes or types contradict each other: {one_line(error)}") from error
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


def picture_inputs(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    """The graph's inputs of rank 4, which take pictures."""
    return [value for value in true_inputs(model) if len(value.type.tensor_type.shape.dim) == 4]


def scalar_inputs(model: onnx.ModelProto) -> list[str]:
    """The names of the graph's other inputs: the network's controls, of shape [1]."""
    return [value.name for value in true_inputs(model) if len(value.type.tensor_type.shape.dim) != 4]


def true_inputs(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    """The graph's inputs; constants that old files list as inputs are left out."""
    constants = {tensor.name for tensor in model.graph.initializer}
    return [value for value in model.graph.input if value.name not in constants]


def captured_tensors(model: onnx.ModelProto) -> frozenset[str]:
    """What the subgraphs of If, Loop and Scan read, which `GraphView.consumers` does not tell."""
    subgraphs = [found.g for node in model.graph.node for found in node.attribute if found.HasField("g")]
    names: set[str] = set()
    while subgraphs:
        graph = subgraphs.pop()
        names |= {output.name for output in graph.output}
        for node in graph.node:
            names |= set(node.input)
            subgraphs += [found.g for found in node.attribute if found.HasField("g")]
    return frozenset(names)


def attribute(node: onnx.NodeProto, name: str) -> onnx.AttributeProto | None:
    """The node's attribute of that name, or None where the operator's default holds."""
    return next((found for found in node.attribute if found.name == name), None)


def default_opset(model: onnx.ModelProto) -> int:
    """The version of the standard operator set that the model is written in; 0 when it uses none."""
    return next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0)


def _constant_value(node: onnx.NodeProto) -> Constant:
    for found in node.attribute:
        value = onnx.helper.get_attribute_value(found)
        if found.name == "value":
            return onnx.numpy_helper.to_array(value)
        if found.name in ("value_float", "value_floats"):
            return np.asarray(value, dtype=np.float32)
        if found.name in ("value_int", "value_ints"):
            return np.asarray(value, dtype=np.int64)
    raise ExportError(
        f"the Constant node {node.name!r} has neither numbers nor a dense tensor as its value",
        found=tuple(found.name for found in node.attribute),
        wanted=("value", "value_float", "value_floats", "value_int", "value_ints"),
        remedy="export the network without it",
    )


def _dim(dim: onnx.TensorShapeProto.Dimension) -> Dim:
    if dim.HasField("dim_value"):
        return int(dim.dim_value)
    return dim.dim_param or None
