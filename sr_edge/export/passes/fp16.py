"""Conversion of a float32 graph to half precision: fp16 weights, explicit Cast nodes, islands of fp32 nodes.

The result is strongly typed (no node mixes fp16 and fp32), as TensorRT 10.3 to 11.4 and TensorRT for RTX require. Graph
inputs and outputs keep their types. islands.py decides which nodes stay in fp32.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx

from sr_edge.errors import ExportError
from sr_edge.export.graph.view import GraphView, view_graph
from sr_edge.export.passes.fp32_islands import (
    FORCED_RULES,
    ISLAND_RULES,
    IslandRule,
    find_islands,
    half_types,
    operator_schema,
)
from sr_edge.export.passes.pass_result import PassResult

FLOAT: int = onnx.TensorProto.FLOAT
HALF: int = onnx.TensorProto.FLOAT16
LARGEST_HALF = float(np.finfo(np.float16).max)
_SUFFIX = {FLOAT: "_fp32", HALF: "_fp16"}


def to_fp16(
    model: onnx.ModelProto,
    rules: tuple[IslandRule, ...] = ISLAND_RULES,
    magnitudes: Mapping[str, float] | None = None,
) -> PassResult:
    """Converts a float32 graph to half precision; `model` is not modified.

    Args:
        model: a float32 graph, simplified. INT8 convolutions (behind DequantizeLinear) keep their fp32 scales.
        rules: which nodes stay in fp32. FORCED_RULES alone give the naive cast, which serves only as a control.
        magnitudes: the largest magnitude of each tensor, from `observe_magnitudes`; nodes whose tensors may leave the
            range of float16 stay in fp32.

    Returns:
        The converted graph; the graph as it was where every float node stays in fp32.

    Raises:
        ExportError: the graph has fp16 tensors already, or a module whose name demands fp16 has a constant that fp16
            cannot represent.
    """
    view = view_graph(model)
    if HALF in view.types.values():
        raise ExportError(
            "the graph is in half precision already", found="fp16", wanted="fp32", remedy="start from the fp32 graph"
        )
    islands = find_islands(view, tuple(dict.fromkeys((*FORCED_RULES, *rules))), magnitudes)
    half = _HalfGraph(view, islands)
    if HALF not in half.made_as.values():
        return PassResult(model, False, f"all {len(islands)} float nodes stay in float32")
    reason = f"converted to float16, with {len(islands)} of {len(view.nodes)} nodes in float32"
    return PassResult(half.write(), True, reason)


class _HalfGraph:
    """Rewrites one graph node by node, and collects the constants and casts that the rewritten nodes need.

    `made_as` has the float type in which each computed float tensor is produced.
    """

    def __init__(self, view: GraphView, islands: Mapping[int, str]) -> None:
        self.view = view
        self.islands = islands
        self.constants: dict[str, onnx.TensorProto] = {}
        self.made_as = self._output_types()

    def write(self) -> onnx.ModelProto:
        nodes = [self._rewritten(at) for at, node in enumerate(self.view.nodes) if node.op_type != "Constant"]
        casts = self._casts(nodes)
        model = onnx.ModelProto()
        model.CopyFrom(self.view.model)
        graph = model.graph
        for field in ("node", "initializer", "value_info"):
            graph.ClearField(field)
        for value in self.view.model.graph.input:
            graph.node.extend(casts.pop(value.name, ()))
        for node in nodes:
            graph.node.append(node)
            for tensor in node.output:
                graph.node.extend(casts.pop(tensor, ()))
        graph.initializer.extend(self.constants.values())
        return onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)

    def _output_types(self) -> dict[str, int]:
        """The float type in which every computed float tensor is produced."""
        made = {value.name: FLOAT for value in self.view.model.graph.input if self.view.is_float(value.name)}
        for at, node in enumerate(self.view.nodes):
            made.update({tensor: self._type_of(at) for tensor in node.output if self.view.is_float(tensor)})
        return made

    def _type_of(self, at: int) -> int:
        return FLOAT if at in self.islands else HALF

    def _rewritten(self, at: int) -> onnx.NodeProto:
        node = onnx.NodeProto()
        node.CopyFrom(self.view.nodes[at])
        for position, tensor in enumerate(node.input):
            if tensor in self.view.constants:
                node.input[position] = self._constant(tensor, self._wanted(at, position))
            elif tensor in self.made_as:
                node.input[position] = self._converted(tensor, self._wanted(at, position))
        for position, tensor in enumerate(node.output):
            if tensor in self.made_as:
                node.output[position] = self._source(tensor)
        if node.op_type == "Cast" and self.view.is_float(self.view.nodes[at].output[0]):
            node.attribute[0].i = self._type_of(at)
        return node

    def _wanted(self, at: int, position: int) -> int:
        """The float type that a node reads at one input: its own, unless its operator fixes it (scales of Resize)."""
        schema = operator_schema(self.view, at)
        formal = schema.inputs[min(position, len(schema.inputs) - 1)]
        return self._type_of(at) if formal.type_str in half_types(schema) else FLOAT

    def _source(self, tensor: str) -> str:
        """The name under which the tensor is produced; an fp16 graph output gets its own name only after its Cast."""
        is_cast_output = tensor in self.view.output_names and self.made_as[tensor] == HALF
        return tensor + _SUFFIX[HALF] if is_cast_output else tensor

    def _converted(self, tensor: str, wanted: int) -> str:
        """The name of the tensor in the wanted type, behind a Cast where it is produced in the other one."""
        if self.made_as[tensor] == wanted:
            return self._source(tensor)
        return tensor if tensor in self.view.output_names else tensor + _SUFFIX[wanted]

    def _casts(self, nodes: list[onnx.NodeProto]) -> dict[str, list[onnx.NodeProto]]:
        """The Cast nodes whose results are read, by the tensor that they convert."""
        read = {tensor for node in nodes for tensor in node.input} | self.view.output_names
        casts: dict[str, list[onnx.NodeProto]] = {}
        for tensor, made in self.made_as.items():
            target = FLOAT if made == HALF else HALF
            source, result = self._source(tensor), self._converted(tensor, target)
            if result in read and result != source:
                name = f"{source}{_SUFFIX[target]}_cast"
                casts[source] = [onnx.helper.make_node("Cast", [source], [result], name=name, to=target)]
        return casts

    def _constant(self, name: str, wanted: int) -> str:
        """The name of the constant in the wanted type; the type that is requested first keeps the original name."""
        value = self.view.constants[name]
        if np.issubdtype(value.dtype, np.floating):
            value = _half(name, value) if wanted == HALF else value.astype(np.float32)
        stored = onnx.numpy_helper.from_array(np.asarray(value), name)
        if self.constants.setdefault(name, stored).data_type != stored.data_type:
            stored.name = name + _SUFFIX[wanted]
            self.constants.setdefault(stored.name, stored)
        return stored.name


def _half(name: str, value: np.typing.NDArray[np.generic]) -> np.typing.NDArray[np.float16]:
    with np.errstate(over="ignore"):
        half = value.astype(np.float16)
    if np.isinf(half).sum() > np.isinf(value.astype(np.float64)).sum():
        raise ExportError(
            f"constant {name!r} has values above {LARGEST_HALF:g}, the largest number of float16",
            found=name,
            wanted=LARGEST_HALF,
            remedy="rename the module that uses it so that its name contains fp32, which keeps it in float32",
        )
    return half
