"""The problems that rules report about a graph, and their summary in lines of text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

from sr_edge.export.checks.targets import describe_targets
from sr_edge.export.checks.tensorrt_releases import Version

NEVER: Version = (99, 0)
"""A version above all others, for restrictions that no release has removed."""

_NAMED_OPERATORS = 3


class Severity(str, Enum):
    """ERROR prevents deployment, perhaps for a requested target only; WARNING means slow, or refused by others."""

    ERROR = "error"
    WARNING = "warning"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class Problem:
    """A problem that a rule detected in a graph.

    Attributes:
        node: the name of the node.
        op: its operator.
        why: what is wrong with it.
        remedy: what to do about it, as an instruction.
        since: the first TensorRT release that is affected.
        before: the first TensorRT release after those that are affected; other targets have no versions here.
    """

    node: str
    op: str
    why: str
    remedy: str
    since: Version = (0, 0)
    before: Version = NEVER


@dataclass(frozen=True)
class Finding:
    """A problem with its severity for the requested targets.

    Attributes:
        node: the name of the operator; empty for a problem of the whole graph.
        op: its type.
        why: what is wrong.
        remedy: what to do about it.
        rule: the name of the rule in the table.
        severity: the severity for the requested targets.
        targets: every target that refuses the graph because of it or, where none does, the targets on which it is slow
            or less exact; empty for a problem that does not depend on the target.
    """

    node: str
    op: str
    why: str
    remedy: str
    rule: str
    severity: Severity
    targets: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.problem}; {self.remedy}"

    @property
    def problem(self) -> str:
        """The node, the targets that are affected, and what is wrong with it, without the remedy."""
        return f"{self.op} {self.node!r}{self.reason}"

    @property
    def reason(self) -> str:
        """The affected targets and what is wrong, to be appended to the name of a node."""
        affected = f", for {describe_targets(self.targets)}" if self.targets else ""
        return f"{affected}: {self.why}"


def summarize(findings: Iterable[Finding]) -> tuple[str, ...]:
    """One line for all findings of the same rule and targets, with their number and the first node."""
    groups: dict[tuple[str, tuple[str, ...]], list[Finding]] = {}
    for finding in findings:
        groups.setdefault((finding.rule, finding.targets), []).append(finding)
    return tuple(_line(group) for group in groups.values())


def _line(group: Sequence[Finding]) -> str:
    first = group[0]
    if len(group) == 1:
        return str(first)
    operators = list(dict.fromkeys(finding.op for finding in group))
    named = ", ".join(operators[:_NAMED_OPERATORS]) + (", ..." if len(operators) > _NAMED_OPERATORS else "")
    return f"{len(group)} nodes ({named}), the first {first.node!r}{first.reason}; {first.remedy}"
