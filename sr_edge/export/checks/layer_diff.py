"""Compares two ONNX graphs node by node and finds the first layer whose outputs differ.

The nodes of the graphs are matched by their names or by the names of their output tensors; fp16 and INT8 graphs keep
both from the float graph that they were derived from. Cast, QuantizeLinear and DequantizeLinear nodes are in one of the
graphs only and are skipped; their error appears in the next node that both graphs have.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx

from sr_edge.errors import ExportError
from sr_edge.export.graph.inner_tensors import feed_patch, tensor_bytes, with_outputs
from sr_edge.export.graph.inputs import Tensor, Tensors
from sr_edge.export.graph.view import GraphView, view_graph

INNER_TENSOR_BYTES = 256 << 20
"""Default memory for inner tensors, which become outputs of the graph and are all allocated at the same time."""

_UINT8_EQUIVALENTS = {"Relu": "Clip"}
"""The operator that replaces another one in graphs of UINT8 activations: Relu is limited to the quantized range."""

_SKIPPED = frozenset({"Constant", "Cast", "QuantizeLinear", "DequantizeLinear"})


@dataclass(frozen=True)
class InstrumentedModel:
    """A model and the function that runs it.

    Attributes:
        model: The ONNX graph.
        run: Takes a copy of the graph with other outputs, and the input feed, and returns the outputs by name.
    """

    model: onnx.ModelProto
    run: Callable[[onnx.ModelProto, Tensors], Mapping[str, Tensor]]

    def inner_tensors(self, names: Sequence[str], feed: Tensors) -> Mapping[str, Tensor]:
        """Runs the graph once and returns the named tensors."""
        return self.run(with_outputs(self.model, names), feed)


@dataclass(frozen=True)
class LayerDifference:
    """The error of a node that both graphs have, on one patch.

    Attributes:
        name: The name of the node in the reference.
        operator: Its operator in the reference.
        relative_error: Root mean square of the difference, divided by that of the reference; infinite where a value is
            not finite in one of the graphs.
        input_error: The largest `relative_error` of the layers whose outputs the node reads, through Casts and Q/DQ.
        max_abs_error: The largest absolute difference.
        max_abs: The largest magnitude in the reference.
        rescaled: Whether the candidate computes the channels at another scale, which the errors ignore.
    """

    name: str
    operator: str
    relative_error: float
    input_error: float
    max_abs_error: float
    max_abs: float
    rescaled: bool = False

    @property
    def added_error(self) -> float:
        """The error that the layer itself adds: the relative error above that of its inputs."""
        return max(0.0, self.relative_error - self.input_error) if math.isfinite(self.input_error) else 0.0


@dataclass(frozen=True)
class LayerComparison:
    """The compared nodes in the order of the reference, and how many of its nodes were left out for which reason."""

    layers: tuple[LayerDifference, ...]
    tolerance: float
    left_out: Mapping[str, int]

    @property
    def first_apart(self) -> LayerDifference | None:
        """The first layer whose relative error exceeds the tolerance; None if there is none."""
        return next((layer for layer in self.layers if not layer.relative_error <= self.tolerance), None)


@dataclass(frozen=True)
class _NodePair:
    """A node that both graphs have.

    Attributes:
        name: The name of the node in the reference.
        operator: Its operator in the reference.
        reads: The tensors of the reference that it reads, as they were before Casts and Q/DQ.
        tensors: Its outputs in the reference and in the candidate.
        bytes: The size of all its outputs in both graphs.
    """

    name: str
    operator: str
    reads: tuple[str, ...]
    tensors: tuple[tuple[str, str], ...]
    bytes: int


@dataclass(frozen=True)
class _Errors:
    """The errors of one node: root mean square relative to the reference, and the largest absolute one."""

    relative: float
    largest: float


@dataclass(frozen=True)
class _MeasuredPair:
    """The errors of a node, plain and with the candidate's channels rescaled by the factors that fit best."""

    pair: _NodePair
    plain: _Errors
    rescaled: _Errors
    max_abs: float


def compare_layers(
    reference: InstrumentedModel,
    candidate: InstrumentedModel,
    patch: npt.NDArray[np.float32],
    tolerance: float,
    controls: tuple[Mapping[str, float], Mapping[str, float]] = ({}, {}),
    memory_bytes: int = INNER_TENSOR_BYTES,
) -> LayerComparison:
    """Runs both graphs on one patch and compares the outputs of all nodes that both have.

    Args:
        reference: The graph to which errors are relative.
        candidate: The graph that is compared with it.
        patch: Float32 (1, channels, height, width) in [0, 1], which is converted for a graph of uint8 frames.
        tolerance: The relative error above which a layer counts as different.
        controls: A value for every scalar input, for each of the two graphs.
        memory_bytes: The memory that the inner tensors of one run may take; several runs compute what exceeds it.

    Raises:
        ExportError: The graphs have no node in common, or one of them cannot be run.
    """
    left_out: Counter[str] = Counter()
    pairs = list(_pairs(view_graph(reference.model), view_graph(candidate.model), left_out))
    feeds = (feed_patch(reference.model, patch, controls[0]), feed_patch(candidate.model, patch, controls[1]))
    measured: list[_MeasuredPair] = []
    for group in _groups(pairs, memory_bytes):
        names = [tensors for pair in group for tensors in pair.tensors]
        expected = reference.inner_tensors([name for name, _ in names], feeds[0])
        actual = candidate.inner_tensors([name for _, name in names], feeds[1])
        for pair in group:
            outputs = [(expected[name], actual[other]) for name, other in pair.tensors]
            if all(a.shape == b.shape for a, b in outputs):
                measured.append(_measure(pair, outputs))
            else:
                left_out["its output has another shape in the other graph"] += 1
    if not measured:
        reasons = "; ".join(f"{count} nodes: {reason}" for reason, count in left_out.most_common(3))
        raise ExportError(
            f"the two graphs have no layer in common ({reasons})",
            found=dict(left_out),
            remedy="compare a graph with one that was made from it",
        )
    return LayerComparison(tuple(_layer_differences(measured, tolerance)), tolerance, dict(left_out))


def _pairs(reference: GraphView, candidate: GraphView, left_out: Counter[str]) -> Iterator[_NodePair]:
    name_counts = Counter(node.name for node in candidate.nodes)
    by_name = {node.name: node for node in candidate.nodes if name_counts[node.name] == 1 and node.name}
    by_output = {tensor: node for node in candidate.nodes for tensor in node.output}
    for node in reference.nodes:
        if node.op_type in _SKIPPED or not reference.is_float(node.output[0]):
            continue
        other = by_name.get(node.name) or by_output.get(node.output[0])
        if other is None:
            left_out["the other graph has no node of that name"] += 1
        elif other.op_type not in (node.op_type, _UINT8_EQUIVALENTS.get(node.op_type)):
            left_out[f"{node.op_type} in the first graph is {other.op_type} in the other"] += 1
        else:
            tensors = tuple(zip((t for t in node.output if t), (t for t in other.output if t), strict=False))
            size = sum(tensor_bytes(reference, name) + tensor_bytes(candidate, other) for name, other in tensors)
            reads = tuple(_before_casts(reference, tensor) for tensor in node.input)
            yield _NodePair(node.name or node.output[0], node.op_type, reads, tensors, size)


def _before_casts(view: GraphView, tensor: str) -> str:
    """The tensor from which Casts and Q/DQ computed this one, or the tensor itself."""
    producer = view.producer.get(tensor)
    while producer is not None and view.nodes[producer].op_type in _SKIPPED - {"Constant"}:
        tensor = view.nodes[producer].input[0]
        producer = view.producer.get(tensor)
    return tensor


def _groups(pairs: Sequence[_NodePair], memory_bytes: int) -> Iterator[list[_NodePair]]:
    """Splits the pairs into groups, one for each run, whose tensors fit the memory; a group has at least one pair."""
    group: list[_NodePair] = []
    for pair in pairs:
        if group and sum(member.bytes for member in group) + pair.bytes > memory_bytes:
            yield group
            group = []
        group.append(pair)
    if group:
        yield group


def _measure(pair: _NodePair, outputs: Sequence[tuple[Tensor, Tensor]]) -> _MeasuredPair:
    by_channel = [(_by_channel(expected), _by_channel(actual)) for expected, actual in outputs]
    largest = max(float(np.abs(expected).max(initial=0.0)) for expected, _ in by_channel)
    if not all(np.isfinite(values).all() for both in by_channel for values in both):
        infinite = _Errors(math.inf, math.inf)
        return _MeasuredPair(pair, infinite, infinite, largest)
    rescaled = [(expected, actual * _channel_factors(expected, actual)) for expected, actual in by_channel]
    return _MeasuredPair(pair, _errors(by_channel), _errors(rescaled), largest)


def _by_channel(tensor: Tensor) -> npt.NDArray[np.float64]:
    """Reshapes to (channels, values): the channels are the second axis of images and the last one of tokens."""
    channels_first = np.moveaxis(tensor, 1 if tensor.ndim == 4 else -1, 0) if tensor.ndim else tensor.reshape(1)
    return channels_first.reshape(channels_first.shape[0], -1).astype(np.float64)


def _channel_factors(expected: npt.NDArray[np.float64], actual: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The factors (channels, 1) of least squared error, not negative, by which to multiply `actual`; 1 for zeros."""
    products, squares = (expected * actual).sum(1, keepdims=True), (actual * actual).sum(1, keepdims=True)
    return np.maximum(np.divide(products, squares, out=np.ones_like(squares), where=squares > 0), 0.0)


def _errors(outputs: Sequence[tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]]) -> _Errors:
    error = math.sqrt(math.fsum(float(np.square(expected - actual).sum()) for expected, actual in outputs))
    norm = math.sqrt(math.fsum(float(np.square(expected).sum()) for expected, _ in outputs))
    largest = max(float(np.abs(expected - actual).max(initial=0.0)) for expected, actual in outputs)
    return _Errors(error / norm if norm else math.inf if error else 0.0, largest)


def _layer_differences(measured: Sequence[_MeasuredPair], tolerance: float) -> Iterator[LayerDifference]:
    """Yields the layers in order, each with its plain errors or, where it is rescaled, with those after rescaling."""
    rescaled = _rescaled(measured, tolerance)
    chosen = [one.rescaled if index in rescaled else one.plain for index, one in enumerate(measured)]
    tensor_errors = {
        name: errors.relative for one, errors in zip(measured, chosen, strict=True) for name, _ in one.pair.tensors
    }
    for index, (one, errors) in enumerate(zip(measured, chosen, strict=True)):
        input_error = max((tensor_errors.get(tensor, 0.0) for tensor in one.pair.reads), default=0.0)
        yield LayerDifference(
            one.pair.name,
            one.pair.operator,
            errors.relative,
            input_error,
            errors.largest,
            one.max_abs,
            rescaled=index in rescaled,
        )


def _rescaled(measured: Sequence[_MeasuredPair], tolerance: float) -> set[int]:
    """The indices of layers that differ by a factor for each channel only, and whose consumers all agree.

    Layers are visited from last to first, since a layer is rescaled only if the layers that read it undo the factors.
    """
    consumers: dict[str, list[int]] = {}
    for index, one in enumerate(measured):
        for tensor in one.pair.reads:
            consumers.setdefault(tensor, []).append(index)
    rescaled: set[int] = set()
    agreeing: set[int] = set()
    for index in reversed(range(len(measured))):
        one = measured[index]
        readers = [reader for name, _ in one.pair.tensors for reader in consumers.get(name, ())]
        if one.plain.relative <= tolerance:
            agreeing.add(index)
        elif one.rescaled.relative <= tolerance and readers and agreeing.issuperset(readers):
            agreeing.add(index)
            rescaled.add(index)
    return rescaled
