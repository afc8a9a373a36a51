"""The one table of rules, with what each means for a graph in general and for each runtime.

A rule reads a graph and yields problems. Its severities say for whom a problem is one: for the graph itself, by how it
was exported (`GraphKind`), and for each library. A problem that is an error for nobody who was asked is a warning.
A new rule is a function, a line in RULES, and a test with a graph that breaks it and one that nearly does.
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
from sr_edge.export.graph import GraphView, read_onnx, view_graph

SHOWN = 3
"""How many errors a message names."""


class GraphKind(Enum):
    """STATIC promises constant shapes; TRACED takes one size and promises nothing; DYNAMIC takes several sizes."""

    STATIC = "static"
    TRACED = "traced"
    DYNAMIC = "dynamic"


Severities = Mapping[GraphKind | TargetLibrary, Severity]


@dataclass(frozen=True)
class Rule:
    """What to look for, and how severe a problem is for each kind of graph and for each library; absent: it is none."""

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
    Rule("pooled sides", tensorrt_rules.pooled_sides, {_TENSORRT: _ERROR}),
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
    """Everything that is known against a graph: errors first to last, and warnings among them.

    Args:
        model: an ONNX file or a loaded model, of any maker; it is left alone.
        targets: who must take the graph; what one of them refuses is an error.
        static: whether the graph promises constant shapes; without, unknown ones are warnings, and in a graph of free
            height and width they are expected.
        intended: the targets that the graph is for, others are not asked: `readers_of` an INT8 graph.

    Raises:
        UnknownNameError: no such target.
        ExportError: the file is not ONNX, or its shapes contradict each other.
    """
    asked = set(require_known_targets(targets)) & set(intended)
    view = view_graph(read_onnx(model) if isinstance(model, Path) else model)
    kind = _kind(view, static)
    considered = [target for target in TARGETS if target.name in intended]
    judged = (_judge(rule, problem, kind, considered, asked) for rule in RULES for problem in rule.find(view))
    return tuple(finding for finding in judged if finding is not None)


def require_deployable(
    model: Path | onnx.ModelProto,
    targets: Sequence[str] = (),
    *,
    static: bool = True,
    intended: Collection[str] = TARGET_NAMES,
) -> tuple[Finding, ...]:
    """The warnings of `check_graph`, where there are no errors; arguments as there.

    Raises:
        NotStatic: the graph promises constant shapes and has others; nothing else is wrong with it.
        NotDeployable: there are other errors, of which it names the first. `found` are the nodes that are refused, as
            (operator, name), and `wanted` the targets that were asked for.
    """
    findings = check_graph(model, targets, static=static, intended=intended)
    errors = [finding for finding in findings if finding.severity is Severity.ERROR]
    if not errors:
        return findings
    shown = "; ".join(finding.problem for finding in errors[:SHOWN])
    more = f" (and {len(errors) - SHOWN} more)" if len(errors) > SHOWN else ""
    nodes = tuple((finding.op, finding.node) for finding in errors)
    remedy = "; ".join(dict.fromkeys(finding.remedy for finding in errors[:SHOWN]))
    if all(finding.rule in _STATIC_ONLY for finding in errors):
        raise NotStatic(f"the graph is not static: {shown}{more}", found=nodes, wanted="constant shapes", remedy=remedy)
    refusing = tuple(targets) if any(finding.targets for finding in errors) else ()
    for_whom = f" for {', '.join(refusing)}" if refusing else ""
    raise NotDeployable(
        f"the graph cannot be deployed{for_whom}: {shown}{more}", found=nodes, wanted=refusing, remedy=remedy
    )


def _kind(view: GraphView, static: bool) -> GraphKind:
    if static:
        return GraphKind.STATIC
    return GraphKind.DYNAMIC if graph_rules.has_free_inputs(view) else GraphKind.TRACED


def _judge(
    rule: Rule, problem: Problem, kind: GraphKind, considered: Sequence[Target], asked: Collection[str]
) -> Finding | None:
    """The problem as a finding; None where it concerns neither this kind of graph nor a target considered."""
    concerned = [
        target for target in considered if target.library in rule.severities and _is_concerned(target, problem)
    ]
    refusing = [target for target in concerned if rule.severities[target.library] is Severity.ERROR]
    general = rule.severities.get(kind)
    if general is None and not concerned:
        return None
    is_error = general is Severity.ERROR or any(target.name in asked for target in refusing)
    severity = Severity.ERROR if is_error else Severity.WARNING
    names = tuple(target.name for target in refusing or concerned)
    return Finding(problem.node, problem.op, problem.why, problem.remedy, rule.name, severity, names)


def _is_concerned(target: Target, problem: Problem) -> bool:
    """TensorRT for RTX and the others have no versions here: only what no release has lifted concerns them."""
    if target.version is None:
        return problem.before == NEVER
    return problem.since <= target.version < problem.before
