"""What a rule reports about a graph, and how a list of such reports is told to a person."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

from sr_edge.export.checks.targets import describe_targets
from sr_edge.export.checks.tensorrt_releases import Version

NEVER: Version = (99, 0)
"""Above every version: a restriction that no release has lifted."""

_NAMED_OPERATORS = 3


class Severity(str, Enum):
    """ERROR: no deployment, or none for a target that was asked for. WARNING: slow, or refused by another target."""

    ERROR = "error"
    WARNING = "warning"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class Problem:
    """One thing that a rule has met in a graph.

    TensorRT releases from `since` on and before `before` are concerned; other targets know no versions.
    """

    node: str
    op: str
    why: str
    remedy: str
    since: Version = (0, 0)
    before: Version = NEVER


@dataclass(frozen=True)
class Finding:
    """A problem with its severity for the targets that were asked for.

    `targets` names every target that refuses the graph for it (or, where none does, those that it is slow or less
    exact on); it is empty where the problem is not one of particular targets.
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
        """The node, whom it concerns and what is wrong with it, without the remedy."""
        return f"{self.op} {self.node!r}{self.reason}"

    @property
    def reason(self) -> str:
        """Whom the problem concerns and what it is, to be appended to the name of a node."""
        concerned = f", for {describe_targets(self.targets)}" if self.targets else ""
        return f"{concerned}: {self.why}"


def summarize(findings: Iterable[Finding]) -> tuple[str, ...]:
    """One line for all findings of the same rule and the same targets, with their number and the first node."""
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
