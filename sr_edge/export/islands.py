"""Which nodes of a half-precision graph stay in fp32, and why: one small rule a reason, and what was measured.

float16 holds 6.1e-5 ... 65504 with 11 bits. Convolutions, matmuls and activations live well in that; sums over a
whole plane, variances, quotients and exponentials do not, and every published network that turns black or NaN in
fp16 does so in one of them. A rule names nodes; ISLAND_RULES is everything that `to_fp16` keeps in fp32.

Names overrule structure. A node inside a torch module whose name contains `fp32` is in an island whatever it does;
one inside a module whose name contains `fp16` stays in fp16: its author has bounded it. With both, the inner wins.

What was measured overrules both: a tensor that came within RANGE_MARGIN of the end of float16 on pictures, above or
below, is made and read in fp32 (`out_of_range`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np
import onnx

from sr_edge.errors import ExportError
from sr_edge.export.graph import Constant, GraphView, default_opset
from sr_edge.export.statistics import (
    ELEMENTWISE,
    MOVEMENT,
    divides_by_computed,
    is_average,
    is_root_or_reciprocal,
    statistics_nodes,
)

IslandRule = Callable[[GraphView], Iterator[int]]

LONG_SUM = 1024  # terms; 1024 products of 8 x 8 are just above 65504
_WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")

SMALLEST_NORMAL = float(np.finfo(np.float16).smallest_normal)
LARGEST = float(np.finfo(np.float16).max)
RANGE_MARGIN = 4.0
"""By how much other pictures may exceed those that were measured (docs/export.md has what was found)."""


def marked(view: GraphView) -> Iterator[int]:
    """The author says so: the node stands in a torch module whose name contains `fp32`."""
    return (at for at in range(len(view.nodes)) if marker(view, at) == "fp32")


def typed(view: GraphView) -> Iterator[int]:
    """The operator has no fp16 form in this opset (QuantizeLinear at 17), or its output type is an attribute."""
    for at, node in enumerate(view.nodes):
        schema = operator_schema(view, at)
        halves = half_types(schema)
        free = [formal for formal in (*schema.inputs, *schema.outputs) if formal.type_str in halves]
        fixed_output = "tensor(float)" in {formal.type_str for formal in schema.outputs}
        if node.op_type in _TYPE_IN_ATTRIBUTE or fixed_output or (not free and _touches_float(view, at)):
            yield at


def quantized(view: GraphView) -> Iterator[int]:
    """An INT8 convolution or matmul: it reads DequantizeLinear, whose output is fp32 in opset 17."""
    for at, node in enumerate(view.nodes):
        makers = [view.producer.get(tensor) for tensor in node.input]
        if any(maker is not None and view.nodes[maker].op_type == "DequantizeLinear" for maker in makers):
            yield at


def normalisations(view: GraphView) -> Iterator[int]:
    """LayerNormalization and its kin hold mean, variance and quotient in one node."""
    kinds = {"LayerNormalization", "InstanceNormalization", "GroupNormalization", "LpNormalization"}
    return _of(view, kinds | {"MeanVarianceNormalization", "LRN"})


def exponentials(view: GraphView) -> Iterator[int]:
    """exp overflows from 11.1 on, and its sums long before."""
    return _of(view, {"Softmax", "LogSoftmax", "Exp", "Log"})


def roots_and_quotients(view: GraphView) -> Iterator[int]:
    """Division by a computed value, roots and reciprocals: small variances and denominators vanish, quotients burst."""
    for at, node in enumerate(view.nodes):
        if divides_by_computed(view, node) or is_root_or_reciprocal(view, node):
            yield at


def averages(view: GraphView) -> Iterator[int]:
    """Means and sums over a dimension, also when written as a convolution or matmul with one repeated weight."""
    return (at for at in range(len(view.nodes)) if is_average(view, at))


def squares_of_averages(view: GraphView) -> Iterator[int]:
    """x^2 in front of a mean overflows from |x| = 256 on."""
    for at in range(len(view.nodes)):
        if _is_square(view, at) and any(is_average(view, reader) for reader in view.readers(at)):
            yield at


def statistics(view: GraphView) -> Iterator[int]:
    """What is computed from averages alone (E[x^2] - E[x]^2, + epsilon, clamp), where nearly equal numbers cancel."""
    yield from statistics_nodes(view)


def applied_statistics(view: GraphView) -> Iterator[int]:
    """Where a statistic meets the plane: x - mean cancels, and x * (1 / deviation) has a factor that may burst."""
    statistic = statistics_nodes(view)
    sources = {tensor for at in statistic for tensor in view.nodes[at].output}
    for at, node in enumerate(view.nodes):
        if at in statistic or sources.isdisjoint(node.input):
            continue
        if node.op_type == "Sub" or (node.op_type == "Mul" and _multiplies_reciprocal(view, node, statistic)):
            yield at


def denominators(view: GraphView) -> Iterator[int]:
    """The moves and elementwise steps that make a denominator."""
    for node in view.nodes:
        if divides_by_computed(view, node):
            yield from _backwards(view, node.input[1])


def token_sums(view: GraphView) -> Iterator[int]:
    """A matmul of two computed matrices over LONG_SUM or more tokens; softmax rows excepted, which sum to one."""
    for at, node in enumerate(view.nodes):
        if node.op_type != "MatMul" or len(view.computed_inputs(at)) != 2:
            continue
        shape = view.shapes.get(node.input[0], ())
        terms = shape[-1] if shape else None
        if isinstance(terms, int) and terms >= LONG_SUM and not any(_is_convex(view, name) for name in node.input):
            yield at


def unrepresentable_constants(view: GraphView) -> Iterator[int]:
    """A constant that float16 turns into infinity, and an epsilon or a weight all of which is too small for it."""
    for at, node in enumerate(view.nodes):
        constants = {slot: view.constants[name] for slot, name in enumerate(node.input) if name in view.constants}
        if any(_is_too_large(value) or _is_too_small(node, slot, value) for slot, value in constants.items()):
            yield at


def indices(view: GraphView) -> Iterator[int]:
    """Numbers that become positions: fp16 counts exactly only to 2048, and rounding moves the largest of a list."""
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
FORCED_RULES: tuple[IslandRule, ...] = (typed,)  # no fp16 graph can be written without these


def out_of_range(view: GraphView, magnitudes: Mapping[str, float]) -> Iterator[int]:
    """Who makes and who reads a tensor that float16 may not hold, by the largest magnitude seen in it.

    Above LARGEST it is infinite; if all of it lies below SMALLEST_NORMAL, it has lost bits or is zero.
    """
    for tensor, largest in magnitudes.items():
        vanishes = 0.0 < largest < SMALLEST_NORMAL * RANGE_MARGIN
        if vanishes or largest > LARGEST / RANGE_MARGIN:
            yield from (at for at in (view.producer.get(tensor),) if at is not None)
            yield from view.consumers.get(tensor, ())


def find_islands(
    view: GraphView, rules: tuple[IslandRule, ...] = ISLAND_RULES, magnitudes: Mapping[str, float] | None = None
) -> dict[int, str]:
    """The nodes to keep in fp32, each with the name of the first rule that claims it ("out_of_range", "bridge").

    A bridge is a node between islands that only moves or scales: leaving it in fp16 would round for nothing.

    Args:
        view: of the float graph.
        rules: what stays in fp32 by its meaning.
        magnitudes: the largest magnitude seen in each tensor, from `observe_magnitudes`; None: nothing was measured.
    """
    measured = dict.fromkeys(out_of_range(view, magnitudes or {}), out_of_range.__name__)
    found: dict[int, str] = {}
    for rule in rules:
        for at in rule(view):
            found.setdefault(at, rule.__name__)
    forced = {at for rule in (*FORCED_RULES, quantized) if rule in rules for at in rule(view)}
    bounded = {at for at in found if marker(view, at) == "fp16" and at not in forced}
    found = measured | {at: why for at, why in found.items() if at not in bounded}
    found = {at: why for at, why in found.items() if _touches_float(view, at)}
    found.update(dict.fromkeys(_bridges(view, frozenset(found)), "bridge"))
    return dict(sorted(found.items()))


def marker(view: GraphView, at: int) -> str:
    """The innermost precision mark in the node's scope, "fp32" or "fp16"; "" for none."""
    if view.nodes[at].op_type == "Constant":
        return ""  # constants take the type of whoever reads them
    scopes = view.nodes[at].name.lower().split("/")[:-1]
    marks = [mark for scope in reversed(scopes) for mark in ("fp32", "fp16") if mark in scope]
    return marks[0] if marks else ""


def operator_schema(view: GraphView, at: int) -> onnx.defs.OpSchema:
    """The standard's definition of a node's operator; raises ExportError for one that is not in the standard."""
    node = view.nodes[at]
    try:
        return onnx.defs.get_schema(node.op_type, default_opset(view.model), node.domain)
    except onnx.defs.SchemaError as error:
        found = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
        raise ExportError(
            f"node {view.name(at)!r} has the operator {found}, which ONNX does not define",
            found=found,
            wanted="an operator of the ONNX standard",
            remedy="export the network without it",
        ) from error


def half_types(schema: onnx.defs.OpSchema) -> set[str]:
    """The schema's type variables that may stand for float16."""
    return {kind.type_param_str for kind in schema.type_constraints if "tensor(float16)" in kind.allowed_type_strs}


_TYPE_IN_ATTRIBUTE = frozenset({
    "ConstantOfShape", "EyeLike", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike",
})  # fmt: skip


def _bridges(view: GraphView, islands: frozenset[int]) -> set[int]:
    movable = MOVEMENT | ELEMENTWISE
    held = {at for at, node in enumerate(view.nodes) if node.op_type in movable and at not in islands}
    held = {at for at in held if marker(view, at) != "fp16" and _touches_float(view, at)}
    while True:
        inside = islands | held
        loose = {at for at in held if not _is_surrounded(view, at, inside)}
        if not loose:
            return held
        held -= loose


def _is_surrounded(view: GraphView, at: int, inside: set[int] | frozenset[int]) -> bool:
    makers = [view.producer.get(tensor) for tensor in view.computed_inputs(at) if view.is_float(tensor)]
    readers = view.readers(at)
    leaves = any(tensor in view.output_names for tensor in view.nodes[at].output)
    return bool(makers) and bool(readers) and not leaves and {*makers, *readers} <= inside


def _backwards(view: GraphView, tensor: str) -> Iterator[int]:
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
    at = view.producer.get(tensor)
    while at is not None and view.nodes[at].op_type in MOVEMENT:
        at = view.producer.get(view.nodes[at].input[0])
    return at is not None and view.nodes[at].op_type == "Softmax"


def _is_too_large(constant: Constant) -> bool:
    return _largest(constant) > LARGEST


def _is_too_small(node: onnx.NodeProto, slot: int, constant: Constant) -> bool:
    """A bias or a table may be small beside what it is added to; a weight and a lone number are not."""
    counts = constant.size == 1 or (slot == 1 and node.op_type in _WEIGHTED)
    return counts and 0.0 < _largest(constant) < SMALLEST_NORMAL


def _largest(constant: Constant) -> float:
    """The largest finite magnitude; 0 of integers."""
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
