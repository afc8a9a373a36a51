"""Two ONNX graphs node by node: which layer is the first in which they give different numbers.

A node is found in the other graph by its name or by the name of what it makes; fp16 and INT8 graphs keep both from the
float graph that they were made from. Casts, QuantizeLinear and DequantizeLinear stand in one of the graphs only: they
are passed over, and what they cost shows in the next node that both graphs have.
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
from sr_edge.export.graph import GraphView, view_graph
from sr_edge.export.inner_tensors import feed_patch, tensor_bytes, with_outputs
from sr_edge.export.onnx_run import Tensor, Tensors

INNER_TENSOR_BYTES = 256 << 20
"""Inner tensors become outputs of the graph and live all at once, in this much memory by default."""

_IN_INT8 = {"Relu": "Clip"}
"""What an INT8 graph for OpenVINO puts in the place of an operator: a Relu is limited to what INT8 holds."""

_PASSED_OVER = frozenset({"Constant", "Cast", "QuantizeLinear", "DequantizeLinear"})


@dataclass(frozen=True)
class InstrumentedModel:
    """A graph and what runs it: `run` takes the graph with other outputs and feeds, and gives its outputs by name."""

    model: onnx.ModelProto
    run: Callable[[onnx.ModelProto, Tensors], Mapping[str, Tensor]]

    def inner_tensors(self, names: Sequence[str], feed: Tensors) -> Mapping[str, Tensor]:
        """The named tensors of one run."""
        return self.run(with_outputs(self.model, names), feed)


@dataclass(frozen=True)
class LayerDifference:
    """A node that both graphs have, on one patch.

    `relative_error` is the root mean square of the difference over that of the first graph's numbers; infinite where
    a number is not finite in one of them. `input_error` is the largest one among the layers that it reads, Casts and
    Q/DQ between them passed over. `max_abs` is the largest magnitude in the first graph. `rescaled` says that the
    second holds the channels at another scale, taken out here.
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
        """What came in here: the relative error above that of the inputs."""
        return max(0.0, self.relative_error - self.input_error) if math.isfinite(self.input_error) else 0.0


@dataclass(frozen=True)
class LayerComparison:
    """The compared nodes in the first graph's order, and why others of its nodes were left out (reason: count)."""

    layers: tuple[LayerDifference, ...]
    tolerance: float
    left_out: Mapping[str, int]

    @property
    def first_apart(self) -> LayerDifference | None:
        """The first layer whose relative error is above the tolerance; None where all are within."""
        return next((layer for layer in self.layers if not layer.relative_error <= self.tolerance), None)


@dataclass(frozen=True)
class _Pair:
    """One node in both graphs: what it reads, by the layers that made it in the first, and what it makes in each."""

    name: str
    operator: str
    reads: tuple[str, ...]
    tensors: tuple[tuple[str, str], ...]
    bytes: int


@dataclass(frozen=True)
class _Errors:
    """Of one pair: root mean square relative to the first, and the largest."""

    relative: float
    largest: float


@dataclass(frozen=True)
class _Measured:
    """A pair's errors as the numbers are, and with the best factor for each channel."""

    pair: _Pair
    plain: _Errors
    rescaled: _Errors
    max_abs: float


def compare_layers(
    first: InstrumentedModel,
    second: InstrumentedModel,
    patch: npt.NDArray[np.float32],
    tolerance: float,
    controls: tuple[Mapping[str, float], Mapping[str, float]] = ({}, {}),
    watched_bytes: int = INNER_TENSOR_BYTES,
) -> LayerComparison:
    """Runs both graphs on one patch and compares what every node gives that both of them have.

    Args:
        first, second: the graphs; the first is the measure of relative errors.
        patch: float32 (1, 3, height, width) in [0, 1]; a graph of uint8 frames gets it as such.
        tolerance: the relative error above which a layer is apart.
        controls: a value for every scalar input of each graph.
        watched_bytes: how much memory the inner tensors of one run may take; more of them are split over several runs.

    Raises:
        ExportError: the graphs have no node in common, or one of them cannot be run.
    """
    left_out: Counter[str] = Counter()
    pairs = list(_pairs(view_graph(first.model), view_graph(second.model), left_out))
    feeds = (feed_patch(first.model, patch, controls[0]), feed_patch(second.model, patch, controls[1]))
    measured: list[_Measured] = []
    for group in _groups(pairs, watched_bytes):
        ours = first.inner_tensors([ours for pair in group for ours, _ in pair.tensors], feeds[0])
        theirs = second.inner_tensors([theirs for pair in group for _, theirs in pair.tensors], feeds[1])
        for pair in group:
            found = [(ours[mine], theirs[other]) for mine, other in pair.tensors]
            if all(a.shape == b.shape for a, b in found):
                measured.append(_measure(pair, found))
            else:
                left_out["it gives another shape there"] += 1
    if not measured:
        reasons = "; ".join(f"{count} nodes: {reason}" for reason, count in left_out.most_common(3))
        raise ExportError(
            f"the two graphs have no layer in common ({reasons})",
            found=dict(left_out),
            remedy="compare a graph with one that was made from it",
        )
    return LayerComparison(tuple(_judged(measured, tolerance)), tolerance, dict(left_out))


def _pairs(first: GraphView, second: GraphView, left_out: Counter[str]) -> Iterator[_Pair]:
    by_name = Counter(node.name for node in second.nodes)
    named = {node.name: node for node in second.nodes if by_name[node.name] == 1 and node.name}
    making = {tensor: node for node in second.nodes for tensor in node.output}
    for node in first.nodes:
        if node.op_type in _PASSED_OVER or not first.is_float(node.output[0]):
            continue
        other = named.get(node.name) or making.get(node.output[0])
        if other is None:
            left_out["the other graph has no node of that name"] += 1
        elif other.op_type not in (node.op_type, _IN_INT8.get(node.op_type)):
            left_out[f"a {node.op_type} here is a {other.op_type} there"] += 1
        else:
            tensors = tuple(zip((t for t in node.output if t), (t for t in other.output if t), strict=False))
            size = sum(tensor_bytes(first, ours) + tensor_bytes(second, theirs) for ours, theirs in tensors)
            reads = tuple(_made_before(first, tensor) for tensor in node.input)
            yield _Pair(node.name or node.output[0], node.op_type, reads, tensors, size)


def _made_before(view: GraphView, tensor: str) -> str:
    """The tensor itself, or what it was before Casts and Q/DQ."""
    at = view.producer.get(tensor)
    while at is not None and view.nodes[at].op_type in _PASSED_OVER - {"Constant"}:
        tensor = view.nodes[at].input[0]
        at = view.producer.get(tensor)
    return tensor


def _groups(pairs: Sequence[_Pair], watched_bytes: int) -> Iterator[list[_Pair]]:
    """The pairs in runs whose inner tensors fit into the memory allowed, or of one pair each."""
    group: list[_Pair] = []
    for pair in pairs:
        if group and sum(member.bytes for member in group) + pair.bytes > watched_bytes:
            yield group
            group = []
        group.append(pair)
    if group:
        yield group


def _measure(pair: _Pair, found: Sequence[tuple[Tensor, Tensor]]) -> _Measured:
    both = [(_by_channel(a), _by_channel(b)) for a, b in found]
    largest = max(float(np.abs(ours).max(initial=0.0)) for ours, _ in both)
    if not all(np.isfinite(side).all() for pair_of in both for side in pair_of):
        broken = _Errors(math.inf, math.inf)
        return _Measured(pair, broken, broken, largest)
    scaled = [(ours, theirs * _factors(ours, theirs)) for ours, theirs in both]
    return _Measured(pair, _errors(both), _errors(scaled), largest)


def _by_channel(tensor: Tensor) -> npt.NDArray[np.float64]:
    """(channels, all else): the second axis of pictures, the last one of tokens."""
    channels_first = np.moveaxis(tensor, 1 if tensor.ndim == 4 else -1, 0) if tensor.ndim else tensor.reshape(1)
    return channels_first.reshape(channels_first.shape[0], -1).astype(np.float64)


def _factors(ours: npt.NDArray[np.float64], theirs: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """(channels, 1) by least squares, never negative; 1 for a channel of zeros."""
    products, squares = (ours * theirs).sum(1, keepdims=True), (theirs * theirs).sum(1, keepdims=True)
    return np.maximum(np.divide(products, squares, out=np.ones_like(squares), where=squares > 0), 0.0)


def _errors(found: Sequence[tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]]) -> _Errors:
    error = math.sqrt(math.fsum(float(np.square(ours - theirs).sum()) for ours, theirs in found))
    size = math.sqrt(math.fsum(float(np.square(ours).sum()) for ours, _ in found))
    largest = max(float(np.abs(ours - theirs).max(initial=0.0)) for ours, theirs in found)
    return _Errors(error / size if size else math.inf if error else 0.0, largest)


def _judged(measured: Sequence[_Measured], tolerance: float) -> Iterator[LayerDifference]:
    """The layers in order, each with the error that counts."""
    rescaled = _rescaled(measured, tolerance)
    counts = [one.rescaled if at in rescaled else one.plain for at, one in enumerate(measured)]
    made = {ours: counts[at].relative for at, one in enumerate(measured) for ours, _ in one.pair.tensors}
    for at, one in enumerate(measured):
        before = max((made.get(tensor, 0.0) for tensor in one.pair.reads), default=0.0)
        errors = counts[at]
        yield LayerDifference(
            one.pair.name, one.pair.operator, errors.relative, before, errors.largest, one.max_abs, at in rescaled
        )


def _rescaled(measured: Sequence[_Measured], tolerance: float) -> set[int]:
    """Layers that are apart by factors per channel only, and whose readers all agree; found from the end."""
    readers: dict[str, list[int]] = {}
    for at, one in enumerate(measured):
        for tensor in one.pair.reads:
            readers.setdefault(tensor, []).append(at)
    found: set[int] = set()
    agree: set[int] = set()
    for at in reversed(range(len(measured))):
        one = measured[at]
        reading = [reader for ours, _ in one.pair.tensors for reader in readers.get(ours, ())]
        if one.plain.relative <= tolerance:
            agree.add(at)
        elif one.rescaled.relative <= tolerance and reading and agree.issuperset(reading):
            agree.add(at)
            found.add(at)
    return found
