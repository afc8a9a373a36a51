"""The placement policy: which of the possible sites become INT8, each with its reason.

Trials on super-resolution networks put most of the loss in the first layer (it reads the picture) and the last one
(it writes it), and little of the time: by these rules alone both stay float unless they are included by name. Where
the decibels are measured (`calibrate_within`) they are layers like any other, and the gate decides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import onnx

from sr_edge.calibration.sites import QuantizableOp
from sr_edge.errors import UsageError


@dataclass(frozen=True)
class PlacementPolicy:
    """Glob patterns on node names.

    `include`: empty leaves the choice to the defaults; otherwise exactly the sites that match become INT8, the first
    and last layer too. `exclude`: these stay float, whatever `include` says. `ends_float`: the first and last layer
    stay float by default; where decibels are measured, that is not needed.
    """

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    ends_float: bool = True


@dataclass(frozen=True)
class Decision:
    """What becomes of one site, and why."""

    node: str
    op_type: str
    int8: bool
    reason: str


def decide(model: onnx.ModelProto, ops: Sequence[QuantizableOp], policy: PlacementPolicy) -> tuple[Decision, ...]:
    """One decision per site, in graph order.

    Raises:
        UsageError: a pattern matches no site.
    """
    for pattern in (*policy.include, *policy.exclude):
        _require_match(pattern, ops)
    ends = _end_layers(model, ops) if policy.ends_float else {}
    return tuple(_decide_one(op, policy, ends) for op in ops)


def _decide_one(op: QuantizableOp, policy: PlacementPolicy, ends: dict[str, str]) -> Decision:
    excluded = _first_match(op.node, policy.exclude)
    included = _first_match(op.node, policy.include)
    if op.obstacle:
        int8, reason = False, op.obstacle
    elif excluded is not None:
        int8, reason = False, f"excluded by {excluded!r}"
    elif included is not None:
        int8, reason = True, f"included by {included!r}"
    elif policy.include:
        int8, reason = False, "not among the included names"
    elif op.node in ends:
        int8, reason = False, ends[op.node]
    else:
        int8, reason = True, "a layer with constant weights"
    return Decision(op.node, op.op_type, int8, reason)


def _first_match(name: str, patterns: Sequence[str]) -> str | None:
    return next((pattern for pattern in patterns if fnmatchcase(name, pattern)), None)


def _require_match(pattern: str, ops: Sequence[QuantizableOp]) -> None:
    if not any(fnmatchcase(op.node, pattern) for op in ops):
        names = tuple(op.node for op in ops)
        raise UsageError(
            f"the pattern {pattern!r} matches no layer" + ("" if names else ": the graph has no weighted layer"),
            found=pattern,
            wanted=names,
            remedy=f"use names such as {', '.join(names[:3])}" if names else "leave out the pattern",
        )


def _end_layers(model: onnx.ModelProto, ops: Sequence[QuantizableOp]) -> dict[str, str]:
    """The layers with no other weighted layer before them, or none behind them; values are the reasons."""
    possible = {op.node: op for op in ops if not op.obstacle}
    ends = dict.fromkeys(_without_successor(model, possible), "the last layer: it writes the picture")
    ends.update((name, "the first layer: it reads the picture") for name in _without_predecessor(model, possible))
    return ends


def _without_predecessor(model: onnx.ModelProto, possible: dict[str, QuantizableOp]) -> list[str]:
    after_a_layer: set[str] = set()
    found = []
    for node in model.graph.node:
        is_after = not after_a_layer.isdisjoint(node.input)
        if node.name in possible and not is_after:
            found.append(node.name)
        if node.name in possible or is_after:
            after_a_layer.update(node.output)
    return found


def _without_successor(model: onnx.ModelProto, possible: dict[str, QuantizableOp]) -> list[str]:
    before_a_layer: set[str] = set()
    found = []
    for node in reversed(model.graph.node):
        is_before = not before_a_layer.isdisjoint(node.output)
        if node.name in possible and not is_before:
            found.append(node.name)
        if node.name in possible or is_before:
            before_a_layer.update(node.input)
    return found
