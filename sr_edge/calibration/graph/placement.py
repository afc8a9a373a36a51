"""The placement policy: which of the quantizable operators become INT8, each with the reason.

In trials on super-resolution networks most of the loss and little of the time came from the first layer, which reads
the image, and the last one, which writes it. By these rules alone both stay float unless they are included by name.
Where the loss is measured (`calibrate_within`), they are treated like all other layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import onnx

from sr_edge.calibration.graph.candidates import QuantizableOp
from sr_edge.errors import UsageError


@dataclass(frozen=True)
class PlacementPolicy:
    """Glob patterns on node names.

    Attributes:
        include: If empty, the defaults apply; otherwise exactly the matching operators become INT8, also the first and
            the last one.
        exclude: The matching operators stay float, even if they match `include`.
        ends_float: The first and the last layer stay float by default; not needed where the loss is measured.
    """

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    ends_float: bool = True


@dataclass(frozen=True)
class Decision:
    """Whether one operator becomes INT8, and why.

    Attributes:
        node: Name of the operator.
        op_type: Its type, for example "Conv".
        int8: Whether it becomes INT8.
        reason: Why it stays float, or which pattern includes it; empty for a layer that becomes INT8 by default.
    """

    node: str
    op_type: str
    int8: bool
    reason: str


def decide(model: onnx.ModelProto, ops: Sequence[QuantizableOp], policy: PlacementPolicy) -> tuple[Decision, ...]:
    """One decision per operator, in graph order.

    Raises:
        UsageError: A pattern matches no operator.
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
        int8, reason = True, ""
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
    """The layers that have no other quantizable layer before or after them, with the reason to keep them float."""
    quantizable = {op.node: op for op in ops if not op.obstacle}
    last, first = _without_successor(model, quantizable), _without_predecessor(model, quantizable)
    return {
        **dict.fromkeys(last, "it is the last layer, which writes the image"),
        **dict.fromkeys(first, "it is the first layer, which reads the image"),
    }


def _without_predecessor(model: onnx.ModelProto, quantizable: dict[str, QuantizableOp]) -> list[str]:
    after_a_layer: set[str] = set()
    names = []
    for node in model.graph.node:
        is_after = not after_a_layer.isdisjoint(node.input)
        if node.name in quantizable and not is_after:
            names.append(node.name)
        if node.name in quantizable or is_after:
            after_a_layer.update(node.output)
    return names


def _without_successor(model: onnx.ModelProto, quantizable: dict[str, QuantizableOp]) -> list[str]:
    before_a_layer: set[str] = set()
    names = []
    for node in reversed(model.graph.node):
        is_before = not before_a_layer.isdisjoint(node.output)
        if node.name in quantizable and not is_before:
            names.append(node.name)
        if node.name in quantizable or is_before:
            before_a_layer.update(node.input)
    return names
