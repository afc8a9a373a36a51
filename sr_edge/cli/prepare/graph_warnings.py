"""What the rules of every target report about the graphs of a bundle."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sr_edge.bundle import Bundle


def graph_warnings(bundle: Bundle, targets: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """What the rules report about each graph, by file; raises NotDeployable where one of `targets` refuses a graph."""
    from sr_edge.bundle import ArtifactKind
    from sr_edge.export.checks.findings import summarize
    from sr_edge.export.checks.rules import require_deployable
    from sr_edge.export.checks.targets import readers_of

    warnings = {}
    for item in bundle.manifest.artifacts:
        if item.kind is ArtifactKind.ONNX:
            intended = readers_of(item.activation_type)
            findings = require_deployable(bundle.file(item), targets, static=False, intended=intended)
            warnings[item.file] = summarize(findings)
    return warnings
