"""Which nodes of a graph compute with channels last although their surroundings compute with channels first.

The arrangements of all tensors are found from those that are channel-first for certain: the inputs and outputs of
convolutions and the like. A node that works in any arrangement can compute with channel-first tensors instead. Which
nodes do is a minimum cut: a Transpose costs the elements that it moves unless it does, and a tensor between a node that
does and one that does not costs its elements. So an island is converted only if its borders need less movement than
there is inside.
"""

from __future__ import annotations

import math
from collections.abc import Container, Iterator, Mapping
from functools import cached_property

import onnx

from sr_edge.export.graph.view import GraphView, captured_tensors, integers_attribute
from sr_edge.export.passes.layout.arrangement import Arrangement, channel_first
from sr_edge.export.passes.layout.correspondence import arrangements_of
from sr_edge.export.passes.layout.min_cut import UNLIMITED, CutNetwork
from sr_edge.export.passes.rewrites.edit import constant_shape

_CHANNEL_FIRST_OPERATORS = frozenset({
    "AveragePool", "BatchNormalization", "Conv", "ConvTranspose", "DepthToSpace", "GlobalAveragePool", "GlobalMaxPool",
    "GridSample", "InstanceNormalization", "MaxPool", "Resize", "SpaceToDepth",
})  # fmt: skip
_TO_CHANNELS_LAST, _TO_CHANNELS_FIRST = [0, 2, 3, 1], [0, 3, 1, 2]


class Islands:
    """The nodes that are converted to channel-first tensors, and the arrangements of their tensors.

    Args:
        view: a graph.
        left_alone: operators whose nodes are not converted.
    """

    def __init__(self, view: GraphView, left_alone: Container[str] = ()) -> None:
        self.view = view
        self.fixed = view.output_names | captured_tensors(view.model)
        self._left_alone = left_alone
        self.arrangements = self._known_arrangements()

    @cached_property
    def nodes(self) -> Mapping[int, onnx.NodeProto]:
        """The nodes that are converted by their index, in the order of the graph."""
        convertible = self._convertible
        network = CutNetwork()
        for index in convertible:
            if self.moves_elements(index):
                network.connect(CutNetwork.SOURCE, index, self.elements(self.view.nodes[index].output[0]))
        for tensor in self.arrangements:
            if not self.is_channel_first(tensor):
                self._connect(network, tensor, convertible)
        side = network.source_side()
        return {index: self.view.nodes[index] for index in convertible if index in side}

    def is_channel_first(self, tensor: str) -> bool:
        """Whether a tensor has the shape and the order of the channel-first tensor already."""
        arrangement = self.arrangements[tensor]
        return arrangement.is_channel_first and arrangement.sizes == constant_shape(self.view, tensor)

    def moves_elements(self, index: int) -> bool:
        """Whether a node is a Transpose that changes the order in memory."""
        node = self.view.nodes[index]
        return node.op_type == "Transpose" and (
            self.arrangements[node.input[0]].order != self.arrangements[node.output[0]].order
        )

    def elements(self, tensor: str) -> int:
        """The number of elements of a tensor."""
        return math.prod(constant_shape(self.view, tensor) or ())

    @cached_property
    def _convertible(self) -> Mapping[int, None]:
        """The nodes with known arrangements, apart from those whose tensors are all channel-first already."""
        convertible: dict[int, None] = {}
        for index, node in enumerate(self.view.nodes):
            tensors = arrangements_of(self.view, index, self.arrangements) or {}
            is_known = tensors and tensors.keys() <= self.arrangements.keys()
            if is_known and node.op_type not in self._left_alone and not all(map(self.is_channel_first, tensors)):
                convertible[index] = None
        return convertible

    def _connect(self, network: CutNetwork, tensor: str, convertible: Container[int]) -> None:
        """Adds the cost of a tensor that is read in another arrangement than it is computed in."""
        cost = 1 if self.arrangements[tensor].is_channel_first else self.elements(tensor) + 1
        index = self.view.producer.get(tensor)
        producer = index if index in convertible else CutNetwork.SINK
        consumers = self.view.consumers.get(tensor, ())
        readers = [reader if reader in convertible else CutNetwork.SINK for reader in consumers]
        if tensor in self.fixed:
            readers.append(CutNetwork.SINK)
        read, converted = ("read", tensor), ("converted", tensor)
        network.connect(producer, read, cost)
        network.connect(converted, producer, cost)
        for reader in readers:
            network.connect(read, reader, UNLIMITED)
            network.connect(reader, converted, UNLIMITED)

    def _known_arrangements(self) -> dict[str, Arrangement]:
        """The arrangements of all tensors that can be reached from a channel-first one."""
        known = dict(self._certain())
        waiting = [index for tensor in known for index in self._neighbours(tensor)]
        while waiting:
            arrangements = arrangements_of(self.view, waiting.pop(), known)
            for tensor, arrangement in (arrangements or {}).items():
                if tensor not in known:
                    known[tensor] = arrangement
                    waiting += self._neighbours(tensor)
        return known

    def _neighbours(self, tensor: str) -> Iterator[int]:
        if tensor in self.view.producer:
            yield self.view.producer[tensor]
        yield from self.view.consumers.get(tensor, ())

    def _certain(self) -> Iterator[tuple[str, Arrangement]]:
        """The tensors that are channel-first for certain."""
        for node in self.view.nodes:
            order = integers_attribute(node, "perm") if node.op_type == "Transpose" else []
            tensors: list[str] = []
            if node.op_type in _CHANNEL_FIRST_OPERATORS:
                tensors = [node.input[0], node.output[0]]
            elif order == _TO_CHANNELS_LAST:
                tensors = [node.input[0]]
            elif order == _TO_CHANNELS_FIRST:
                tensors = [node.output[0]]
            for tensor in tensors:
                shape = constant_shape(self.view, tensor)
                if shape is not None and len(shape) == 4 and tensor not in self.view.constants:
                    yield tensor, channel_first(shape)
