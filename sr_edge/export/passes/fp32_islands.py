"""Selects the nodes of a half-precision graph that stay in fp32 (the fp32 islands): one rule for each reason.

float16 represents 6.1e-5 to 65504 with 11 bits. That is enough for convolutions, matrix multiplications and activation
functions, and not for sums over a whole image, variances, quotients and exponentials: every published network that
turns black or NaN in fp16 does so in one of these. A rule yields the positions of nodes; ISLAND_RULES are those that
`to_fp16` applies by default.

Names take precedence over the rules. A node inside a torch module whose name contains `fp32` is always in an island;
one inside a module whose name contains `fp16` stays in fp16, since its author has limited its range. If both apply, the
innermost module decides.

Measurements take precedence over both: a tensor that came within RANGE_MARGIN of either end of the float16 range on
images is computed and read in fp32 (`out_of_range`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np
import onnx

from sr_edge.errors import ExportError
from sr_edge.export.graph.statistics import (
    ELEMENTWISE,
    MOVEMENT,
    divides_by_computed,
    is_average,
    is_root_or_reciprocal,
    statistics_nodes,
)
from sr_edge.export.graph.view import Constant, GraphView, default_opset

IslandRule = Callable[[GraphView], Iterator[int]]

LONG_SUM = 1024  # terms; 1024 products of 8 x 8 are just above 65504
_WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")

SMALLEST_NORMAL = float(np.finfo(np.float16).smallest_normal)
LARGEST = float(np.finfo(np.float16).max)
RANGE_MARGIN = 4.0
"""The factor by which other images may exceed those that were measured (docs/export.md lists the measurements)."""


def marked(view: GraphView) -> Iterator[int]:
    """Nodes in a torch module whose name contains `fp32`, by which its author demands float32."""
    return (at for at in range(len(view.nodes)) if marker(view, at) == "fp32")


def typed(view: GraphView) -> Iterator[int]:
    """Operators without an fp16 form in this opset (QuantizeLinear at 17), or whose output type is an attribute."""
    for at, node in enumerate(view.nodes):
        schema = operator_schema(view, at)
        halves = half_types(schema)
        free = [formal for formal in (*schema.inputs, *schema.outputs) if formal.type_str in halves]
        fixed_output = "tensor(float)" in {formal.type_str for formal in schema.outputs}
        if node.op_type in _TYPE_IN_ATTRIBUTE or fixed_output or (not free and _touches_float(view, at)):
            yield at


def quantized(view: GraphView) -> Iterator[int]:
    """INT8 convolutions and matrix multiplications: they read DequantizeLinear, whose output is fp32 in opset 17."""
    for at, node in enumerate(view.nodes):
        makers = [view.producer.get(tensor) for tensor in node.input]
        if any(maker is not None and view.nodes[maker].op_type == "DequantizeLinear" for maker in makers):
            yield at


def normalisations(view: GraphView) -> Iterator[int]:
    """LayerNormalization and similar operators, which compute mean, variance and quotient in one node."""
    kinds = {"LayerNormalization", "InstanceNormalization", "GroupNormalization", "LpNormalization"}
    return _of(view, kinds | {"MeanVarianceNormalization", "LRN"})


def exponentials(view: GraphView) -> Iterator[int]:
    """Exponentials and logarithms: exp overflows float16 from 11.1 on, and its sums long before."""
    return _of(view, {"Softmax", "LogSoftmax", "Exp", "Log"})


def roots_and_quotients(view: GraphView) -> Iterator[int]:
    """Divisions by a computed value, roots and reciprocals: small denominators become zero, and quotients overflow."""
    for at, node in enumerate(view.nodes):
        if divides_by_computed(view, node) or is_root_or_reciprocal(view, node):
            yield at


def averages(view: GraphView) -> Iterator[int]:
    """Means and sums over a dimension, also as a convolution or matrix multiplication with equal weights."""
    return (at for at in range(len(view.nodes)) if is_average(view, at))


def squares_of_averages(view: GraphView) -> Iterator[int]:
    """Squares that are averaged: x^2 overflows float16 from |x| = 256 on."""
    for at in range(len(view.nodes)):
        if _is_square(view, at) and any(is_average(view, reader) for reader in view.readers(at)):
            yield at


def statistics(view: GraphView) -> Iterator[int]:
    """Nodes computed from averages alone (E[x^2] - E[x]^2, + epsilon, clamp), where nearly equal numbers cancel."""
    yield from statistics_nodes(view)


def applied_statistics(view: GraphView) -> Iterator[int]:
    """Where a statistic is applied to the features: x - mean cancels, and 1 / deviation may be large as a factor."""
    statistic = statistics_nodes(view)
    sources = {tensor for at in statistic for tensor in view.nodes[at].output}
    for at, node in enumerate(view.nodes):
        if at in statistic or sources.isdisjoint(node.input):
            continue
        if node.op_type == "Sub" or (node.op_type == "Mul" and _multiplies_reciprocal(view, node, statistic)):
            yield at


def denominators(view: GraphView) -> Iterator[int]:
    """The elementwise nodes and movements that compute a denominator."""
    for node in view.nodes:
        if divides_by_computed(view, node):
            yield from _backwards(view, node.input[1])


def token_sums(view: GraphView) -> Iterator[int]:
    """Products of two computed matrices over LONG_SUM or more tokens, except with softmax rows, which sum to one."""
    for at, node in enumerate(view.nodes):
        if node.op_type != "MatMul" or len(view.computed_inputs(at)) != 2:
            continue
        shape = view.shapes.get(node.input[0], ())
        terms = shape[-1] if shape else None
        if isinstance(terms, int) and terms >= LONG_SUM and not any(_is_convex(view, name) for name in node.input):
            yield at


def unrepresentable_constants(view: GraphView) -> Iterator[int]:
    """Readers of constants that float16 turns into infinity, and of epsilons or weights too small for float16."""
    for at, node in enumerate(view.nodes):
        constants = {slot: view.constants[name] for slot, name in enumerate(node.input) if name in view.constants}
        if any(_is_too_large(value) or _is_too_small(node, slot, value) for slot, value in constants.items()):
            yield at


def indices(view: GraphView) -> Iterator[int]:
    """Values that become indices: fp16 counts exactly only to 2048, and rounding changes which value is the largest."""
    for at, node in enumerate(view.nodes):
        to_integer = node.op_type == "Cast" and not view.is_float(node.output[0]) and view.is_float(node.input[0])
        if to_integer or node.op_type in ("ArgMax", "ArgMin", "TopK"):
            yield at
            yield from _backwards(view, node.input[0])


ISLAND_RULES: tuple[IslandRule, ...] = (
    marked,
    typed,
    quantized,
    normalisations,
    exponentials,
    roots_and_quotients,
    averages,
    squares_of_averages,
    statistics,
    applied_statistics,
    denominators,
    token_sums,
    unrepresentable_constants,
    indices,
)
FORCED_RULES: tuple[IslandRule, ...] = (typed,)  # without these an fp16 graph is not valid ONNX


def out_of_range(view: GraphView, magnitudes: Mapping[str, float]) -> Iterator[int]:
    """The producer and the readers of each tensor that may leave the range of float16, by its largest magnitude.

    A value above LARGEST becomes infinite; a tensor all of which is below SMALLEST_NORMAL loses bits or becomes zero.
    """
    for tensor, largest in magnitudes.items():
        vanishes = 0.0 < largest < SMALLEST_NORMAL * RANGE_MARGIN
        if vanishes or largest > LARGEST / RANGE_MARGIN:
            yield from (at for at in (view.producer.get(tensor),) if at is not None)
            yield from view.consumers.get(tensor, ())


def find_islands(
    view: GraphView, rules: tuple[IslandRule, ...] = ISLAND_RULES, magnitudes: Mapping[str, float] | None = None
) -> dict[int, str]:
    """Selects the nodes to keep in fp32, each with the name of the first rule that selects it.

    Besides the rules there are two reasons: "out_of_range", by measurement, and "bridge", for a node between islands
    that only moves or scales values, where fp16 would round without saving anything.

    Args:
        view: the view of the float graph.
        rules: the rules to apply.
        magnitudes: the largest magnitude of each tensor, from `observe_magnitudes`; None if nothing was measured.

    Returns:
        The reason for each node, by the node's position, in graph order.
    """
    measured = dict.fromkeys(out_of_range(view, magnitudes or {}), out_of_range.__name__)
    by_rule: dict[int, str] = {}
    for rule in rules:
        for at in rule(view):
            by_rule.setdefault(at, rule.__name__)
    forced = {at for rule in (*FORCED_RULES, quantized) if rule in rules for at in rule(view)}
    bounded = {at for at in by_rule if marker(view, at) == "fp16" and at not in forced}
    islands = measured | {at: why for at, why in by_rule.items() if at not in bounded}
    islands = {at: why for at, why in islands.items() if _touches_float(view, at)}
    islands.update(dict.fromkeys(_bridges(view, frozenset(islands)), "bridge"))
    return dict(sorted(islands.items()))


def marker(view: GraphView, at: int) -> str:
    """The precision in the name of the innermost module around the node, "fp32" or "fp16"; "" where none names one."""
    if view.nodes[at].op_type == "Constant":
        return ""  # a constant takes the type of the node that reads it
    scopes = view.nodes[at].name.lower().split("/")[:-1]
    marks = [mark for scope in reversed(scopes) for mark in ("fp32", "fp16") if mark in scope]
    return marks[0] if marks else ""


def operator_schema(view: GraphView, at: int) -> onnx.defs.OpSchema:
    """The schema of a node's operator; raises ExportError for an operator that the ONNX standard does not define."""
    node = view.nodes[at]
    try:
        return onnx.defs.get_schema(node.op_type, default_opset(view.model), node.domain)
    except onnx.defs.SchemaError as error:
        operator = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
        raise ExportError(
            f"node {view.name(at)!r} has the operator {operator}, which ONNX does not define",
            found=operator,
            wanted="an operator of the ONNX standard",
            remedy="export the network without it",
        ) from error


def half_types(schema: onnx.defs.OpSchema) -> set[str]:
    """The type variables of the schema that may be float16."""
    return {kind.type_param_str for kind in schema.type_constraints if "tensor(float16)" in kind.allowed_type_strs}


_TYPE_IN_ATTRIBUTE = frozenset({
    "ConstantOfShape", "EyeLike", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike",
})  # fmt: skip


def _bridges(view: GraphView, islands: frozenset[int]) -> set[int]:
    """The nodes all of whose neighbours are islands or bridges; starts from all candidates and drops the others."""
    passing = MOVEMENT | ELEMENTWISE
    bridges = {at for at, node in enumerate(view.nodes) if node.op_type in passing and at not in islands}
    bridges = {at for at in bridges if marker(view, at) != "fp16" and _touches_float(view, at)}
    while True:
        inside = islands | bridges
        exposed = {at for at in bridges if not _is_surrounded(view, at, inside)}
        if not exposed:
            return bridges
        bridges -= exposed


def _is_surrounded(view: GraphView, at: int, inside: set[int] | frozenset[int]) -> bool:
    makers = [view.producer.get(tensor) for tensor in view.computed_inputs(at) if view.is_float(tensor)]
    readers = view.readers(at)
    leaves = any(tensor in view.output_names for tensor in view.nodes[at].output)
    return bool(makers) and bool(readers) and not leaves and {*makers, *readers} <= inside


def _backwards(view: GraphView, tensor: str) -> Iterator[int]:
    """The elementwise nodes and movements that the tensor is computed by, up to the first other node."""
    waiting = [tensor]
    while waiting:
        at = view.producer.get(waiting.pop())
        if at is not None and view.nodes[at].op_type in ELEMENTWISE | MOVEMENT:
            yield at
            waiting.extend(view.computed_inputs(at))


def _multiplies_reciprocal(view: GraphView, node: onnx.NodeProto, statistic: frozenset[int]) -> bool:
    makers = [view.producer.get(tensor) for tensor in node.input]
    return any(at in statistic and _is_reciprocal(view, view.nodes[at]) for at in makers if at is not None)


def _is_reciprocal(view: GraphView, node: onnx.NodeProto) -> bool:
    return node.op_type == "Div" or (node.op_type != "Sqrt" and is_root_or_reciprocal(view, node))


def _is_square(view: GraphView, at: int) -> bool:
    node = view.nodes[at]
    if node.op_type == "Mul":
        return node.input[0] == node.input[1]
    return node.op_type == "Pow" and _scalar(view, node.input[1]) == 2.0


def _is_convex(view: GraphView, tensor: str) -> bool:
    """Whether the tensor is the output of a Softmax, perhaps moved, whose rows are the weights of a mean."""
    at = view.producer.get(tensor)
    while at is not None and view.nodes[at].op_type in MOVEMENT:
        at = view.producer.get(view.nodes[at].input[0])
    return at is not None and view.nodes[at].op_type == "Softmax"


def _is_too_large(constant: Constant) -> bool:
    return _largest(constant) > LARGEST


def _is_too_small(node: onnx.NodeProto, slot: int, constant: Constant) -> bool:
    """Judges scalars and weights only: a bias or a table may be negligible against what it is added to."""
    matters = constant.size == 1 or (slot == 1 and node.op_type in _WEIGHTED)
    return matters and 0.0 < _largest(constant) < SMALLEST_NORMAL


def _largest(constant: Constant) -> float:
    """The largest finite magnitude; 0 for integers."""
    if not np.issubdtype(constant.dtype, np.floating):
        return 0.0
    return float(np.abs(constant[np.isfinite(constant)]).max(initial=0.0))


def _scalar(view: GraphView, tensor: str) -> float | None:
    value = view.constants.get(tensor)
    return float(value.ravel()[0]) if value is not None and value.size == 1 else None


def _touches_float(view: GraphView, at: int) -> bool:
    node = view.nodes[at]
    return any(view.is_float(tensor) for tensor in (*node.input, *node.output) if tensor)


def _of(view: GraphView, kinds: set[str]) -> Iterator[int]:
    return (at for at, node in enumerate(view.nodes) if node.op_type in kinds)
