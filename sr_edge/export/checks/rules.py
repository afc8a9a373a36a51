"""The table of all rules for deployable graphs, with their severity in general and for each runtime.

A rule reads a graph and yields problems. It has one severity for each `GraphKind`, which applies to the graph in
general, and one for each affected library. If a problem affects only certain TensorRT releases, it states their
versions. A problem is reported as a warning unless it is an error for the graph in general or for a requested target.
A new rule needs a function, a line in RULES, and a test with a graph that violates it and one that nearly does.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import onnx

from sr_edge.errors import NotDeployable, NotStatic
from sr_edge.export.checks import graph_rules, runtime_rules, tensorrt_rules
from sr_edge.export.checks.findings import NEVER, Finding, Problem, Severity
from sr_edge.export.checks.targets import TARGET_NAMES, TARGETS, Target, TargetLibrary, require_known_targets
from sr_edge.export.graph.view import GraphView, read_onnx, view_graph

SHOWN = 3
"""The number of errors that a message names."""


class GraphKind(Enum):
    """STATIC requires constant shapes; TRACED has one input size and may compute shapes; DYNAMIC accepts several."""

    STATIC = "static"
    TRACED = "traced"
    DYNAMIC = "dynamic"


Severities = Mapping[GraphKind | TargetLibrary, Severity]


@dataclass(frozen=True)
class Rule:
    """A function that detects problems, and their severity for each kind of graph and each library that is affected."""

    name: str
    find: Callable[[GraphView], Iterator[Problem]]
    severities: Severities


_STATIC, _TRACED, _DYNAMIC = GraphKind
_TENSORRT, _RTX, _OPENVINO, _ORT = TargetLibrary
_ERROR, _WARNING = Severity
_ALWAYS_ERROR: Severities = dict.fromkeys(GraphKind, _ERROR)
_ALWAYS_WARNING: Severities = dict.fromkeys(GraphKind, _WARNING)
_EVERY_TENSORRT: Severities = {_TENSORRT: _ERROR, _RTX: _ERROR}

RULES: tuple[Rule, ...] = (
    Rule("random operator", graph_rules.random_operators, _ALWAYS_ERROR),
    Rule("dropout in training", graph_rules.dropout_in_training, _ALWAYS_ERROR),
    Rule("control flow", graph_rules.control_flow, {_STATIC: _ERROR, _TRACED: _WARNING, _DYNAMIC: _WARNING}),
    Rule("data-dependent shape", graph_rules.data_dependent_shapes, {_STATIC: _ERROR, _TRACED: _WARNING}),
    Rule("unknown shape", graph_rules.unknown_shapes, {_STATIC: _ERROR, _TRACED: _WARNING}),
    Rule("computed size", graph_rules.sizes_computed_at_run_time, {_STATIC: _WARNING, _TRACED: _WARNING}),
    Rule("high rank", graph_rules.high_rank, _ALWAYS_WARNING),
    Rule("einsum", graph_rules.einsum, _ALWAYS_WARNING),
    Rule("cumulative sum", graph_rules.cumulative_sum, _ALWAYS_WARNING),
    Rule("opset of TensorRT", tensorrt_rules.opset, {_TENSORRT: _ERROR}),
    Rule("operator of TensorRT", tensorrt_rules.operators, _EVERY_TENSORRT),
    Rule("operator of TensorRT for RTX", tensorrt_rules.operators_of_rtx, {_RTX: _ERROR}),
    Rule("data type", tensorrt_rules.data_types, _EVERY_TENSORRT),
    Rule("float64", tensorrt_rules.float64, {_TENSORRT: _WARNING, _RTX: _WARNING}),
    Rule("uint8 inside", tensorrt_rules.uint8_inside, _EVERY_TENSORRT),
    Rule("quantization", tensorrt_rules.quantization, _EVERY_TENSORRT),
    Rule("mixed float types", tensorrt_rules.mixed_float_types, {_TENSORRT: _ERROR}),
    Rule("rank", tensorrt_rules.ranks, _EVERY_TENSORRT),
    Rule("tensor size", tensorrt_rules.tensor_sizes, {_TENSORRT: _ERROR}),
    Rule("top-k", tensorrt_rules.top_k, _EVERY_TENSORRT),
    Rule("unsorted top-k", tensorrt_rules.unsorted_top_k, {_TENSORRT: _ERROR}),
    Rule("differing cumulative sums", tensorrt_rules.differing_cumulative_sums, {_TENSORRT: _ERROR}),
    Rule("build-time constant", tensorrt_rules.build_time_constants, _EVERY_TENSORRT),
    Rule("resizing", tensorrt_rules.resizing, _EVERY_TENSORRT),
    Rule("pooled dimensions", tensorrt_rules.pooled_dimensions, {_TENSORRT: _ERROR}),
    Rule("pooling", tensorrt_rules.pooling, _EVERY_TENSORRT),
    Rule("restriction of TensorRT", tensorrt_rules.further_restrictions, _EVERY_TENSORRT),
    Rule("domain", runtime_rules.unknown_domains, {_OPENVINO: _ERROR, _ORT: _ERROR}),
    Rule("opset of ONNX Runtime", runtime_rules.old_opset, {_ORT: _ERROR}),
    Rule("operator of OpenVINO", runtime_rules.openvino_operators, {_OPENVINO: _ERROR}),
    Rule("signed INT8 behind Concat", runtime_rules.signed_int8_behind_concat, {_OPENVINO: _ERROR}),
)

_STATIC_ONLY = frozenset(
    rule.name for rule in RULES if rule.severities.get(_STATIC) is _ERROR and rule.severities.get(_TRACED) is not _ERROR
)
"""The rules that refuse a static graph and not a traced one."""


def check_graph(
    model: Path | onnx.ModelProto,
    targets: Sequence[str] = (),
    *,
    static: bool = True,
    intended: Collection[str] = TARGET_NAMES,
) -> tuple[Finding, ...]:
    """Applies all rules to a graph.

    Args:
        model: an ONNX file or a loaded model of any origin; it is not modified.
        targets: the targets that must accept the graph; what one of them refuses is an error.
        static: whether the graph must have constant shapes. If False, unknown shapes are reported as warnings, and not
            at all for a graph with dynamic height and width.
        intended: the targets that the graph is meant for. Rules of other targets are not applied. For an INT8 graph,
            pass `readers_of(activation_type)`.

    Returns:
        Errors and warnings, in the order of the rules.

    Raises:
        UnknownNameError: no such target.
        ExportError: the file is not ONNX, or its shapes contradict each other.
    """
    requested = set(require_known_targets(targets)) & set(intended)
    view = view_graph(read_onnx(model) if isinstance(model, Path) else model)
    kind = _kind(view, static)
    considered = [target for target in TARGETS if target.name in intended]
    judged = (_judge(rule, problem, kind, considered, requested) for rule in RULES for problem in rule.find(view))
    return tuple(finding for finding in judged if finding is not None)


def require_deployable(
    model: Path | onnx.ModelProto,
    targets: Sequence[str] = (),
    *,
    static: bool = True,
    intended: Collection[str] = TARGET_NAMES,
) -> tuple[Finding, ...]:
    """Raises an error where `check_graph`, with the same arguments, finds one; otherwise returns its warnings.

    Args:
        model: the graph, or its file.
        targets: the runtimes that must accept it.
        static: whether all shapes have to be constant.
        intended: the runtimes that the graph is made for.

    Raises:
        NotStatic: `static` is set, and a traced graph would have no errors: control flow and shapes that are not
            constant are the only ones.
        NotDeployable: the graph has other errors. Its `found` has the nodes that are refused, as (operator, name), and
            its `wanted` the requested targets.
    """
    findings = check_graph(model, targets, static=static, intended=intended)
    errors = [finding for finding in findings if finding.severity is Severity.ERROR]
    if not errors:
        return findings
    shown = "; ".join(finding.problem for finding in errors[:SHOWN])
    more = f" (and {len(errors) - SHOWN} more)" if len(errors) > SHOWN else ""
    nodes = tuple((finding.op, finding.node) for finding in errors)
    remedy = _remedy(errors[:SHOWN])
    if all(finding.rule in _STATIC_ONLY for finding in errors):
        raise NotStatic(f"the graph is not static: {shown}{more}", found=nodes, wanted="constant shapes", remedy=remedy)
    refusing = tuple(targets) if any(finding.targets for finding in errors) else ()
    for_whom = f" for {', '.join(refusing)}" if refusing else ""
    raise NotDeployable(
        f"the graph cannot be deployed{for_whom}: {shown}{more}", found=nodes, wanted=refusing, remedy=remedy
    )


def _remedy(errors: Sequence[Finding]) -> str:
    """What to do about all of them; where that differs, with the operators that it is for."""
    operators: dict[str, list[str]] = {}
    for finding in errors:
        operators.setdefault(finding.remedy, []).append(finding.op)
    if len(operators) == 1:
        return errors[0].remedy
    return "; ".join(f"for {', '.join(dict.fromkeys(ops))}: {remedy}" for remedy, ops in operators.items())


def _kind(view: GraphView, static: bool) -> GraphKind:
    if static:
        return GraphKind.STATIC
    return GraphKind.DYNAMIC if graph_rules.has_free_inputs(view) else GraphKind.TRACED


def _judge(
    rule: Rule, problem: Problem, kind: GraphKind, considered: Sequence[Target], requested: Collection[str]
) -> Finding | None:
    """The problem as a finding; None if it affects neither this kind of graph nor a considered target."""
    affected = [target for target in considered if target.library in rule.severities and _is_affected(target, problem)]
    refusing = [target for target in affected if rule.severities[target.library] is Severity.ERROR]
    general = rule.severities.get(kind)
    if general is None and not affected:
        return None
    is_error = general is Severity.ERROR or any(target.name in requested for target in refusing)
    severity = Severity.ERROR if is_error else Severity.WARNING
    names = tuple(target.name for target in refusing or affected)
    return Finding(problem.node, problem.op, problem.why, problem.remedy, rule.name, severity, names)


def _is_affected(target: Target, problem: Problem) -> bool:
    """Targets without a version, such as TensorRT for RTX, are affected only by what no release has removed."""
    if target.version is None:
        return problem.before == NEVER
    return problem.since <= target.version < problem.before
