"""Replaces nodes of an ONNX graph by others, in a copy of the model."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Concatenate, ParamSpec

import numpy as np
import onnx

from sr_edge.export.graph.view import Constant, GraphView, attribute, captured_tensors, default_opset
from sr_edge.export.passes.cleanup import drop_unused_constants
from sr_edge.export.passes.pass_result import PassResult

OLDEST_OPSET = 13
"""The first opset in which all operators have the form that rewrites read and write."""

FLOAT_DTYPES: Mapping[int, type[np.floating[Any]]] = {
    onnx.TensorProto.FLOAT: np.float32,
    onnx.TensorProto.DOUBLE: np.float64,
}
"""The element types that constants of a rewrite are written in, by their ONNX number."""


Options = ParamSpec("Options")


def leaving_old_opsets(
    rewrite: Callable[Concatenate[onnx.ModelProto, Options], PassResult],
) -> Callable[Concatenate[onnx.ModelProto, Options], PassResult]:
    """Makes a pass return graphs with an opset older than OLDEST_OPSET unchanged, and give that as the reason."""

    @functools.wraps(rewrite)
    def checked(model: onnx.ModelProto, /, *args: Options.args, **kwargs: Options.kwargs) -> PassResult:
        if default_opset(model) < OLDEST_OPSET:
            return PassResult(model, False, f"the opset is older than {OLDEST_OPSET}")
        return rewrite(model, *args, **kwargs)

    return checked


class GraphEdit:
    """Collects the replacements of nodes and the new constants of a pass.

    New nodes, tensors and constants get names that no graph or subgraph of the model uses. A constant that two
    replacements share, such as a transposition of one weight, is stored once.

    Args:
        view: the graph to be changed; it is not modified.
    """

    def __init__(self, view: GraphView) -> None:
        self._view = view
        self._names = _all_names(view.model.graph)
        self._replacements: dict[int, list[onnx.NodeProto]] = {}
        self._constants: dict[str, Constant] = {}
        self._stored: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self._sources: dict[str, str] = {}
        self._fixed = view.output_names | captured_tensors(view.model)

    def constant(self, value: Constant, hint: str) -> str:
        """The name of a new initializer with this value."""
        value = np.array(value, order="C")  # ascontiguousarray would give a scalar an axis
        key = (value.dtype.str, value.shape, value.tobytes())
        if key not in self._stored:
            self._stored[key] = self.new_name(hint)
            self._constants[self._stored[key]] = value
        return self._stored[key]

    def new_name(self, hint: str) -> str:
        """A name that no tensor and no node has, which is `hint` if that is free."""
        name, number = hint, 0
        while name in self._names:
            number += 1
            name = f"{hint}_{number}"
        self._names.add(name)
        return name

    def replacing(self, index: int) -> NodeChain:
        """The nodes, none at first, that will stand in place of a node; an empty chain removes it."""
        chain = NodeChain(self, self._view.nodes[index], self._view.name(index))
        self._replacements[index] = chain.nodes
        return chain

    def result(self, reason: str) -> PassResult:
        """The changed copy of the model, or the model itself where no node was replaced.

        Args:
            reason: what was changed, or why nothing was.
        """
        if not self._replacements:
            return PassResult(self._view.model, False, reason)
        return PassResult(drop_unused_constants(self.copy_of_model()).model, True, reason)

    def replace_each(
        self, operator: str, product: str, replace: Callable[[GraphView, int, GraphEdit], str]
    ) -> PassResult:
        """Replaces every node of an operator that can be replaced.

        Args:
            operator: operator of the default domain.
            product: what the nodes become, in the plural.
            replace: replaces the node of an index; returns why it cannot be replaced, or "".

        Returns:
            The result, whose reason has the number of replaced nodes and names every node that was left alone.
        """
        reasons = {
            self._view.name(index): replace(self._view, index, self)
            for index, node in enumerate(self._view.nodes)
            if node.op_type == operator and node.domain in ("", "ai.onnx")
        }
        if not reasons:
            return self.result(f"the graph has no {operator}")
        replaced = sum(not reason for reason in reasons.values())
        done = [f"{replaced} {operator} nodes are {product} now"] if replaced else []
        left_alone = [f"{name} is left alone: {reason}" for name, reason in reasons.items() if reason]
        return self.result("; ".join([*done, *left_alone]))

    def remove_unused_nodes(self) -> None:
        """Removes the nodes of which, after the replacements so far, nothing reads an output."""
        needed = set(self._fixed)
        for index in reversed(range(len(self._view.nodes))):
            nodes = self._replacements.get(index, [self._view.nodes[index]])
            if not any(needed & set(node.output) for node in nodes):
                self._replacements[index] = []
            else:
                needed |= {self._source(tensor) for node in nodes for tensor in node.input}

    def replacement(self, index: int) -> list[onnx.NodeProto]:
        """The nodes in place of a node for which `replacing` was called."""
        return self._replacements[index]

    def copy_of_model(self) -> onnx.ModelProto:
        """A copy of the model with all replacements, and with the constants that nothing reads any more."""
        edited = onnx.ModelProto()
        edited.CopyFrom(self._view.model)
        kept = {index: [node] for index, node in enumerate(edited.graph.node)}
        nodes = [node for one in (kept | self._replacements).values() for node in one]
        copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
        for node in copies:
            node.input[:] = [self._source(tensor) for tensor in node.input]
        del edited.graph.node[:]
        edited.graph.node.extend(copies)
        tensors = (onnx.numpy_helper.from_array(value, name) for name, value in self._constants.items())
        edited.graph.initializer.extend(tensors)
        edited.graph.ClearField("value_info")  # the inferred shapes, of which some have changed
        return edited

    def _source(self, tensor: str) -> str:
        """The tensor that nodes read in place of this one."""
        while tensor in self._sources:
            tensor = self._sources[tensor]
        return tensor


class NodeChain:
    """Nodes that replace one node, in the order in which they are added."""

    def __init__(self, edit: GraphEdit, replaced: onnx.NodeProto, name: str) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self._edit, self._replaced, self._name = edit, replaced, name

    @property
    def opset(self) -> int:
        """The version of the default operator set of the model."""
        return default_opset(self._edit._view.model)

    def add(self, operator: str, inputs: Sequence[str], *, output: str = "", **attributes: Any) -> str:
        """Adds a node with one output.

        Args:
            operator: operator of the default domain.
            inputs: names of its inputs.
            output: name of its output; a new one if empty.
            attributes: its attributes.

        Returns:
            The name of its output.
        """
        name = self._edit.new_name(f"{self._name}/{operator}")
        output = output or self._edit.new_name(f"{name}_output")
        self.nodes.append(onnx.helper.make_node(operator, inputs, [output], name=name, **attributes))
        return output

    def add_like(self, node: onnx.NodeProto, inputs: Sequence[str]) -> str:
        """Adds a node with the operator and the attributes of another one."""
        output = self.add(node.op_type, inputs)
        self.nodes[-1].attribute.extend(node.attribute)
        return output

    def pass_on(self, source: str, output: str) -> None:
        """Lets all nodes that read an output of the replaced node read another tensor instead.

        Outputs of the graph and tensors that subgraphs read keep their names: they become the output of an Identity.

        Args:
            source: a tensor that an earlier node computes, or this chain.
            output: the output that the replaced node computed.
        """
        if output in self._edit._fixed:
            self.add("Identity", [source], output=output)
        else:
            self._edit._sources[output] = source

    def constant(self, value: Constant, what: str) -> str:
        """The name of a new initializer, named after the replaced node and `what` it is."""
        return self._edit.constant(value, f"{self._name}/{what}")

    def reshape(self, tensor: str, shape: Sequence[int], *, output: str = "") -> str:
        """Adds a Reshape to a constant shape."""
        target = self.constant(np.array(shape, np.int64), "shape")
        return self.add("Reshape", [tensor, target], output=output)

    def transpose(self, tensor: str, order: Sequence[int], *, output: str = "") -> str:
        """Adds a Transpose, unless it would change nothing and `output` may be the tensor itself."""
        if list(order) == list(range(len(order))) and not output:
            return tensor
        return self.add("Transpose", [tensor], output=output, perm=list(order))

    def copy(self, **attributes: Any) -> onnx.NodeProto:
        """Adds a copy of the replaced node with some attributes changed, and returns it for other changes."""
        node = onnx.NodeProto()
        node.CopyFrom(self._replaced)
        for key, value in attributes.items():
            set_attribute(node, key, value)
        self.nodes.append(node)
        return node


def constant_shape(view: GraphView, tensor: str) -> tuple[int, ...] | None:
    """The shape of a tensor if all of its sizes are known and positive; otherwise None."""
    shape = view.shapes.get(tensor)
    sizes = tuple(size for size in shape or () if isinstance(size, int) and size > 0)
    return sizes if shape is not None and len(sizes) == len(shape) else None


def constant_integers(view: GraphView, node: onnx.NodeProto, position: int) -> list[int] | None:
    """The numbers in a constant input; an empty list where the node does not have it, and None where it is computed."""
    if position >= len(node.input) or not node.input[position]:
        return []
    value = view.constants.get(node.input[position])
    return None if value is None else [int(number) for number in np.ravel(value)]


def set_attribute(node: onnx.NodeProto, name: str, value: Any) -> None:
    """Sets an attribute of a node, whether it has one of that name or not."""
    existing = attribute(node, name)
    if existing is not None:
        node.attribute.remove(existing)
    node.attribute.append(onnx.helper.make_attribute(name, value))


def _all_names(graph: onnx.GraphProto) -> set[str]:
    """The names of all tensors and nodes, also of those inside subgraphs."""
    names = {value.name for value in (*graph.input, *graph.output, *graph.initializer)}
    for node in graph.node:
        names |= {node.name, *node.input, *node.output}
        for entry in node.attribute:
            for subgraph in (*([entry.g] if entry.HasField("g") else []), *entry.graphs):
                names |= _all_names(subgraph)
    return names
