"""Arrays as patches of a kind that every check counts."""

from __future__ import annotations

from collections.abc import Sequence

from sr_edge.export.graph.patches import CheckPatch, Patch, PatchKind, worst_case_patches
from sr_edge.spec import TileSpec


def photographs(batches: Sequence[Patch]) -> list[CheckPatch]:
    """Whatever is in them, as what is never excused."""
    return [CheckPatch(f"patch {index}", PatchKind.PHOTOGRAPH, batch) for index, batch in enumerate(batches)]


def counted_worst_cases(tile: TileSpec) -> list[CheckPatch]:
    return photographs(worst_case_patches(tile))
