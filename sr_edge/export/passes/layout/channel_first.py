"""Converts islands of nodes that compute with channels last, between two Transposes, to channel-first tensors.

Vision networks written with linear layers and LayerNorm transpose their features to channels-last and back around each
of them. With channel-first tensors, a product with a constant matrix over the last axis is a 1x1 convolution, a
LayerNorm over the last axis is one over axis 1, elementwise operators stay what they are, and the Transposes and most
Reshapes disappear. `islands` selects the nodes; each sum and product is computed of the same numbers.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import onnx

from sr_edge.export.graph.view import Constant, GraphView, attribute, integer_attribute, view_graph
from sr_edge.export.passes.layout.arrangement import CHANNELS, channel_first_constant
from sr_edge.export.passes.layout.correspondence import MOVEMENT, REDUCTIONS, axis_of, groups_of
from sr_edge.export.passes.layout.islands import Islands
from sr_edge.export.passes.layout.normalization import Normalization, add_normalization
from sr_edge.export.passes.pass_result import PassResult
from sr_edge.export.passes.rewrites.axis_rows import BROADCASTING, UNARY, special_axes
from sr_edge.export.passes.rewrites.edit import FLOAT_DTYPES, GraphEdit, NodeChain, leaving_old_opsets, set_attribute

_NORMALIZATIONS = frozenset({"LayerNormalization"})


def channel_first_products(model: onnx.ModelProto) -> PassResult:
    """Converts channels-last islands without LayerNormalization; such nodes stay as they are, between Transposes."""
    return _converted(model, _NORMALIZATIONS)


def channel_first(model: onnx.ModelProto) -> PassResult:
    """Converts channels-last islands, and writes their LayerNormalization as means over the channels."""
    return _converted(model, frozenset())


@leaving_old_opsets
def _converted(model: onnx.ModelProto, left_alone: frozenset[str]) -> PassResult:
    if all(node.op_type != "Transpose" for node in model.graph.node):
        return PassResult(model, False, "the graph has no Transpose")
    islands = Islands(view_graph(model), left_alone)
    if not islands.nodes:
        return PassResult(model, False, "no Transpose can be saved by channel-first tensors")
    return _Conversion(islands).result()


class _Conversion:
    """Writes the nodes of islands for channel-first tensors.

    The channel-first tensor of an island's tensor has a name of its own, unless the graph has it already. Tensors that
    are the same channel-first tensor, such as the input and output of a Transpose, share it.
    """

    def __init__(self, islands: Islands) -> None:
        self._islands, self._view = islands, islands.view
        self._edit = GraphEdit(self._view)
        self._names: dict[str, str] = {}
        self._last_first: dict[tuple[str, tuple[int, ...]], str] = {}

    def result(self) -> PassResult:
        for index in self._islands.nodes:
            chain = self._edit.replacing(index)
            if index not in self._same:
                self._write(index, chain)
            for output in filter(None, self._view.nodes[index].output):
                self._give_outside(output, chain)
        moved = sum(map(self._islands.moves_elements, self._islands.nodes))
        operators = [node.op_type for node in self._islands.nodes.values()]
        products = operators.count("MatMul") + operators.count("Gemm")
        return self._edit.result(
            f"{moved} Transpose nodes are saved by channel-first tensors, and {products} matrix products are 1x1 "
            "convolutions"
        )

    @cached_property
    def _biases(self) -> dict[int, int]:
        """The products whose only reader adds constant numbers to the channels, each with the index of that Add."""
        found = {}
        for index, node in self._islands.nodes.items():
            readers = self._view.consumers.get(node.output[0], ())
            if node.op_type == "MatMul" and len(readers) == 1 and node.output[0] not in self._islands.fixed:
                width = self._view.constants[node.input[1]].shape[1]
                value = self._summand(readers[0], node.output[0])
                if value is not None and value.shape[-1:] == (width,) == (value.size,):
                    found[index] = readers[0]
        return found

    def _summand(self, index: int, tensor: str) -> Constant | None:
        """The constant that a node of an island adds to a tensor, if that is what it does."""
        node = self._islands.nodes.get(index)
        if node is None or node.op_type != "Add":
            return None
        return next((self._view.constants.get(other) for other in node.input if other != tensor), None)

    @cached_property
    def _same(self) -> dict[int, str]:
        """The nodes whose output is the same channel-first tensor as this tensor."""
        nodes = self._islands.nodes
        same = {index: node.input[0] for index, node in nodes.items() if node.op_type in MOVEMENT}
        return same | {add: nodes[product].output[0] for product, add in self._biases.items()}

    def _source(self, tensor: str) -> str:
        """The tensor of which another one is a different arrangement, or itself."""
        index = self._view.producer.get(tensor, -1)
        while index in self._same:
            tensor = self._same[index]
            index = self._view.producer.get(tensor, -1)
        return tensor

    @cached_property
    def _written_as(self) -> dict[str, str]:
        """The names of the channel-first tensors that the graph has already, by their source."""
        found: dict[str, str] = {}
        for node in self._islands.nodes.values():
            for tensor in filter(self._islands.is_channel_first, filter(None, node.output)):
                source = self._source(tensor)
                if self._view.producer.get(source, -1) in self._islands.nodes:
                    found.setdefault(source, tensor)
        return found

    def _channel_first(self, tensor: str, chain: NodeChain) -> str:
        """The name of the channel-first tensor; a tensor from outside of the island is converted once."""
        source = self._source(tensor)
        if self._islands.is_channel_first(source):
            return source
        if source in self._written_as:
            return self._written_as[source]
        if source not in self._names:
            arrangement = self._islands.arrangements[source]
            order = _whole_order(arrangement.order)
            shaped = self._reshaped(source, [arrangement.sizes[axis] for axis in order], chain)
            self._names[source] = chain.transpose(shaped, [int(axis) for axis in np.argsort(order)])
        return self._names[source]

    def _reshaped(self, tensor: str, shape: list[int], chain: NodeChain) -> str:
        return tensor if list(self._view.shapes[tensor]) == shape else chain.reshape(tensor, shape)

    def _write(self, index: int, chain: NodeChain) -> None:
        """Adds the nodes that compute the channel-first outputs of a node that is no movement."""
        node = self._view.nodes[index]
        if node.op_type in ("MatMul", "Gemm"):
            written = self._write_product(index, chain)
        elif node.op_type == "LayerNormalization":
            source = self._channel_first(node.input[0], chain)
            written = add_normalization(chain, source, _layer_norm(self._view, node))
        else:
            written = ""
            self._write_copy(index, chain)
        if written:
            self._name_output(node.output[0], written, chain)

    def _name_output(self, tensor: str, written: str, chain: NodeChain) -> None:
        """Gives the last node's output the name that the graph has for it, if there is one."""
        source = self._source(tensor)
        if source in self._written_as:
            chain.nodes[-1].output[0] = self._written_as[source]
        else:
            self._names[source] = written

    def _write_product(self, index: int, chain: NodeChain) -> str:
        """Adds a 1x1 convolution."""
        node = self._view.nodes[index]
        weight = self._view.constants[node.input[1]]
        matrix = weight if integer_attribute(node, "transB", 0) else weight.T
        bias = self._bias(index, len(matrix))
        if node.op_type == "Gemm":
            matrix, bias = _scaled(matrix, attribute(node, "alpha")), _scaled(bias, attribute(node, "beta"))
        inputs = [
            self._channel_first(node.input[0], chain),
            chain.constant(np.reshape(matrix, (*np.shape(matrix), 1, 1)), "weight"),
            *([] if bias is None else [chain.constant(bias, "bias")]),
        ]
        return chain.add("Conv", inputs, kernel_shape=[1, 1])

    def _bias(self, index: int, width: int) -> Constant | None:
        """The numbers that are added to the channels of a product."""
        node = self._view.nodes[index]
        if index in self._biases:
            value = self._summand(self._biases[index], node.output[0])
        else:
            value = self._view.constants.get(node.input[2]) if len(node.input) > 2 else None
        return None if value is None else np.broadcast_to(value.reshape(-1), (width,))

    def _write_copy(self, index: int, chain: NodeChain) -> None:
        """Adds the same operator with channel-first tensors, and its axes renumbered."""
        node, arrangements = self._view.nodes[index], self._islands.arrangements
        inputs = [self._input(index, tensor, chain) for tensor in node.input]
        copy = chain.copy()
        copy.input[:] = inputs
        for position, output in enumerate(node.output):
            source = self._source(output)
            if source not in self._written_as and output:
                self._names[source] = self._edit.new_name(f"{output}/channel_first")
            copy.output[position] = self._written_as.get(source, self._names.get(source, ""))
        if node.op_type in REDUCTIONS:
            groups, axes = groups_of(self._view, node.input[0], arrangements), special_axes(self._view, index) or []
            numbers = sorted(axis for at in axes for axis in groups[at])
            _set_axes(copy, numbers, 1, chain)
            set_attribute(copy, "keepdims", 1)
        elif node.op_type == "Slice":
            _set_axes(copy, [axis_of(self._view, index, arrangements) or 0], 3, chain)
        elif node.op_type not in UNARY | BROADCASTING:
            set_attribute(copy, "axis", axis_of(self._view, index, arrangements) or 0)

    def _input(self, index: int, tensor: str, chain: NodeChain) -> str:
        """The name of an input in channel-first form."""
        node = self._view.nodes[index]
        value = self._view.constants.get(tensor)
        if value is not None and node.op_type in BROADCASTING:
            output = self._view.nodes[index].output[0]
            groups = groups_of(self._view, output, self._islands.arrangements)
            value = channel_first_constant(value, groups, self._islands.arrangements[output].sizes)
            is_changed = value is not None and value.shape != self._view.constants[tensor].shape
            return chain.constant(value, "constant") if value is not None and is_changed else tensor
        is_converted = tensor in self._islands.arrangements and (node.op_type not in UNARY or tensor == node.input[0])
        return self._channel_first(tensor, chain) if tensor and value is None and is_converted else tensor

    def _give_outside(self, tensor: str, chain: NodeChain) -> None:
        """Adds what nodes outside of the island need, which read a tensor in its own arrangement."""
        readers = self._view.consumers.get(tensor, ())
        if tensor not in self._islands.fixed and all(reader in self._islands.nodes for reader in readers):
            return
        name = self._channel_first(tensor, chain)
        if self._islands.is_channel_first(tensor):
            if name != tensor:
                chain.pass_on(name, tensor)
            return
        arrangement = self._islands.arrangements[tensor]
        order = _whole_order(arrangement.order)
        shape = [arrangement.sizes[axis] for axis in order]
        is_final = shape == list(self._view.shapes[tensor])
        key = (name, order)
        if is_final:
            self._last_first[key] = chain.transpose(name, order, output=tensor)
            return
        if key not in self._last_first:
            self._last_first[key] = chain.transpose(name, order)
        chain.reshape(self._last_first[key], [int(size or 0) for size in self._view.shapes[tensor]], output=tensor)


def _whole_order(order: tuple[int, ...]) -> tuple[int, ...]:
    """An order of all four axes that has those of one element anywhere; a usual one if possible."""
    usual = ((0, 1, 2, 3), (0, 2, 3, 1))
    for candidate in usual:
        if tuple(axis for axis in candidate if axis in order) == order:
            return candidate
    return (*(axis for axis in range(4) if axis not in order), *order)


def _set_axes(node: onnx.NodeProto, axes: list[int], position: int, chain: NodeChain) -> None:
    """Sets the axes of a node, which are an attribute or a constant input."""
    if attribute(node, "axes") is not None:
        set_attribute(node, "axes", axes)
    else:
        node.input[position] = chain.constant(np.array(axes, np.int64), "axes")


def _layer_norm(view: GraphView, node: onnx.NodeProto) -> Normalization:
    """A LayerNormalization over the last axis as one over the channels of the channel-first tensor."""
    epsilon = attribute(node, "epsilon")
    scale, bias = (view.constants[name].reshape(-1, 1, 1) if name else None for name in (*node.input[1:], "")[:2])
    return Normalization(
        axes=(CHANNELS,),
        epsilon=1e-5 if epsilon is None else epsilon.f,
        dtype=np.dtype(FLOAT_DTYPES[view.types[node.input[0]]]),
        scale=scale,
        bias=bias,
    )


def _scaled(value: Constant | None, factor: onnx.AttributeProto | None) -> Any:
    """The numbers times an attribute of a Gemm, in their own type."""
    return value if value is None or factor is None else np.multiply(value, factor.f, dtype=value.dtype)
