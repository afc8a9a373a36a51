"""Tiles that are placed around small changed areas, with another origin than the tiles of the grid.

An object at the corner of four tiles changes all of them. Where reuse has a bound in decibels, one tile of the same
size around the object can be computed instead. Its output is laid over that of the kept tiles: it fades in over
`margin_px` pixels from its edge, and the object lies in what is left, its *core*. The kept output is thus visible only
where the samples within the margin did not change, and the output of the placed tile shows alone where its samples
extend a margin further. What that costs is measured for each network (`sr_edge.reuse_table.PlacementTable`).

A placed tile has samples and a result of its own, and is valid as long as it has changed within the limits of reuse.
The kept tiles below it must be within these limits everywhere but in its core.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt

from sr_edge.frames import Region
from sr_edge.reuse_table import BLOCK_PX, ChangeLimits
from sr_edge.spec import TileSpec
from sr_edge.tiling import Samples, Span, TilePlan
from sr_edge.upscaler.tile_change import changed_blocks, difference_in_levels, is_level_within, is_within

MANY_TILES = 8
"""Where more tiles and more than half of all have changed, it does not pay off to look for the areas."""


@dataclass(frozen=True)
class PlacementRule:
    """Where tiles may be placed.

    Attributes:
        tile: Size of the tiles.
        margin_px: Distance of the core from an edge of the tile that is not an edge of the frame.
        align_px: The origins of a placed tile and of the tiles of the grid below it differ by multiples of this.
    """

    tile: TileSpec
    margin_px: int
    align_px: int = 1

    def around(self, box: Region, plan: TilePlan) -> Region | None:
        """The samples of a tile whose core has a box of the frame; None if there is no such tile."""
        top = self._start(box.top, box.top + box.height, plan.height, self.tile.height, plan.rows)
        left = self._start(box.left, box.left + box.width, plan.width, self.tile.width, plan.columns)
        if top is None or left is None:
            return None
        return Region(left, top, min(self.tile.width, plan.width), min(self.tile.height, plan.height))

    def core(self, area: Region, plan: TilePlan) -> Region:
        """The core of the tile with these samples."""
        left, top, right, bottom = _edges(area)
        left += self.margin_px * (left > 0)
        top += self.margin_px * (top > 0)
        right -= self.margin_px * (right < plan.width)
        bottom -= self.margin_px * (bottom < plan.height)
        return Region(left, top, right - left, bottom - top)

    def _start(self, first: int, end: int, size: int, tile_px: int, spans: Sequence[Span]) -> int | None:
        """Along one axis, the start of a tile whose core has the samples from `first` to `end`: near their middle."""
        covered = min(tile_px, size)
        last = size - covered
        wanted = min(max((first + end - covered) // 2, 0), last)
        anchor = next(span.start for span in spans if span.end > (first + end) // 2)
        aligned = wanted - (wanted - anchor) % self.align_px
        for start in (wanted, aligned, aligned + self.align_px, 0, last):
            is_inside = 0 <= start <= last
            has_before = start == 0 or first >= start + self.margin_px
            has_after = start == last or end <= start + covered - self.margin_px
            below = (span for span in spans if span.first < start + covered and span.end > start)
            if is_inside and has_before and has_after and all((s.start - start) % self.align_px == 0 for s in below):
                return start
        return None


@dataclass(frozen=True, eq=False)
class TileState:
    """A tile now, and before.

    Attributes:
        samples: The samples now.
        kept: The samples that the kept result was computed of; None without a result that may be reused.
        is_same: Whether both are the same.
    """

    samples: Samples
    kept: Samples | None = None
    is_same: bool = False


@dataclass(frozen=True)
class Placement:
    """Which tiles of a frame are computed.

    Attributes:
        reused: For each tile of the grid, whether its kept result is used.
        remaining: Numbers of the placed tiles that are still needed, the oldest first.
        placed: The samples of further tiles that are placed and computed.
    """

    reused: tuple[bool, ...]
    remaining: tuple[int, ...]
    placed: tuple[Region, ...]


def plan_placement(
    states: Sequence[TileState],
    placed: Sequence[Region],
    plan: TilePlan,
    rule: PlacementRule,
    limits: ChangeLimits,
    most_placed: int,
) -> Placement:
    """Decides which tiles of a frame are computed: changed ones, or placed ones where these are fewer.

    Args:
        states: The tiles of the grid, in the order of the plan.
        placed: The samples of the placed tiles that are valid, the oldest first.
        plan: The grid.
        rule: Where tiles may be placed.
        limits: Limits of the change of a tile.
        most_placed: How many placed tiles there may be.
    """
    reused = [
        state.is_same or (state.kept is not None and is_within(state.kept, state.samples, limits)) for state in states
    ]
    changed = [number for number, state in enumerate(states) if state.kept is not None and not reused[number]]
    if len(changed) > max(MANY_TILES, len(states) // 2):
        return Placement(tuple(reused), (), ())
    remaining: set[int] = set()
    changes: dict[int, _Change] = {}
    cores = [rule.core(area, plan) for area in placed]
    places = list(plan.places())
    for number in changed:
        row, column = places[number]
        whole = Region(column.start, row.start, column.covered, row.covered)
        changes[number] = change = _Change(states[number], whole, limits)
        if change.is_within_if_covered_by(cores):
            reused[number] = True
            remaining.update(change.covered_by)
    areas: list[Region] = []
    boxes = {number: change.box for number, change in changes.items() if not reused[number]}
    for area, numbers in _groups(boxes, plan, rule):
        spared = [number for number in numbers if changes[number].is_within_if_covered(rule.core(area, plan))]
        needed = {index for number in spared for index in changes[number].covered_by}
        if len(spared) > 1 and len(remaining | needed) + len(areas) < most_placed:
            areas.append(area)
            remaining |= needed
            for number in spared:
                reused[number] = True
    return Placement(tuple(reused), tuple(sorted(remaining)), tuple(areas))


class _Change:
    """The change of a tile from the samples of its kept result.

    Attributes:
        covered_by: Numbers of the placed tiles whose cores do not count.
    """

    def __init__(self, state: TileState, whole: Region, limits: ChangeLimits) -> None:
        self._difference = difference_in_levels(cast(Samples, state.kept), state.samples)
        self._whole, self._limits = whole, limits
        self.covered_by: list[int] = []

    @property
    def box(self) -> Region | None:
        """The part of the frame whose blocks have changed beyond the limit; None if there is none."""
        blocks = self._blocks()
        if not blocks.any():
            return None
        rows, columns = (np.flatnonzero(blocks.any(axis)) * BLOCK_PX for axis in (1, 0))
        box = Region(
            self._whole.left + int(columns[0]),
            self._whole.top + int(rows[0]),
            int(columns[-1] - columns[0]) + BLOCK_PX,
            int(rows[-1] - rows[0]) + BLOCK_PX,
        )
        return _common(box, self._whole)

    def is_within_if_covered_by(self, cores: Sequence[Region]) -> bool:
        """As `is_within_if_covered`, with as many of these cores as are needed, the newest first."""
        for number in reversed([index for index, core in enumerate(cores) if _common(core, self._whole) is not None]):
            self.covered_by.append(number)
            if self.is_within_if_covered(cores[number]):
                return True
        return False

    def is_within_if_covered(self, core: Region) -> bool:
        """Whether the rest is within the limits, once samples in a core do not count: the placed tile shows them."""
        common = _common(core, self._whole)
        if common is not None:
            common.relative_to(self._whole).cut(self._difference)[...] = 0
        return not self._blocks().any() and is_level_within(self._difference, self._limits)

    def _blocks(self) -> npt.NDArray[np.bool_]:
        return changed_blocks(self._difference, self._limits)


def _groups(
    boxes: Mapping[int, Region | None], plan: TilePlan, rule: PlacementRule
) -> Iterator[tuple[Region, list[int]]]:
    """Placed tiles, and the numbers of the two or more tiles of the grid whose changed boxes are in their core."""
    groups: list[tuple[Region, list[int]]] = []
    for number, box in boxes.items():
        if box is None or rule.around(box, plan) is None:
            continue
        for index, (whole, numbers) in enumerate(groups):
            larger = _hull((whole, box))
            if rule.around(larger, plan) is not None:
                groups[index] = larger, [*numbers, number]
                break
        else:
            groups.append((box, [number]))
    for whole, numbers in groups:
        area = rule.around(whole, plan)
        if area is not None and len(numbers) > 1:
            yield area, numbers


def lay_over(frame: Samples, upscaled: Samples, area: Region, rule: PlacementRule, scale: int) -> None:
    """Lays the output of a placed tile over a frame; equal samples remain unchanged.

    Args:
        frame: The upscaled frame, (scale * height, scale * width, channels).
        upscaled: The output of the placed tile.
        area: The samples of the placed tile, before upscaling.
        rule: The rule by which it was placed.
        scale: Magnification.
    """
    target = area.cut(frame, scale)
    rows, columns = (
        _weights(scale * length, scale * rule.margin_px, start > 0, scale * (start + length) < size)
        for start, length, size in (
            (area.top, area.height, frame.shape[0]),
            (area.left, area.width, frame.shape[1]),
        )
    )
    newer = upscaled[: len(rows), : len(columns)]
    for down in _parts(rows):
        for across in _parts(columns):
            weights = rows[down, None, None] * columns[across, None]
            below, above = target[down, across], newer[down, across]
            if (weights == 1).all():
                below[...] = above
                continue
            mixed = below + (above.astype(np.float32) - below) * weights
            below[...] = mixed if frame.dtype == np.float32 else np.rint(mixed)


def _weights(length: int, margin: int, fades_in: bool, fades_out: bool) -> npt.NDArray[np.float32]:
    """The share of a placed tile at the centres of its samples along one axis."""
    rising = np.minimum((np.arange(length) + 0.5) / max(margin, 1), 1)
    both = (rising if fades_in else np.ones(length)) * (rising[::-1] if fades_out else np.ones(length))
    return both.astype(np.float32)


def _parts(weights: npt.NDArray[np.float32]) -> tuple[slice, slice, slice]:
    """The slices before, with and after the weights of 1."""
    full = np.flatnonzero(weights == 1)
    first, end = (int(full[0]), int(full[-1]) + 1) if full.size else (len(weights), len(weights))
    return slice(0, first), slice(first, end), slice(end, len(weights))


def outside(region: Region, holes: Iterable[Region]) -> list[Region]:
    """The parts of a region that are in no hole."""
    parts = [region]
    for hole in holes:
        parts = [part for each in parts for part in _without(each, hole)]
    return parts


def _without(region: Region, hole: Region) -> list[Region]:
    common = _common(region, hole)
    if common is None:
        return [region]
    left, top, right, bottom = _edges(region)
    hole_left, hole_top, hole_right, hole_bottom = _edges(common)
    parts = (
        (left, top, right, hole_top),
        (left, hole_bottom, right, bottom),
        (left, hole_top, hole_left, hole_bottom),
        (hole_right, hole_top, right, hole_bottom),
    )
    return [Region(x, y, end - x, low - y) for x, y, end, low in parts if end > x and low > y]


def _common(first: Region, second: Region) -> Region | None:
    left, top = max(first.left, second.left), max(first.top, second.top)
    right, bottom = (min(ends) for ends in zip(_edges(first)[2:], _edges(second)[2:], strict=True))
    return Region(left, top, right - left, bottom - top) if right > left and bottom > top else None


def _hull(regions: Sequence[Region]) -> Region:
    lefts, tops, rights, bottoms = zip(*map(_edges, regions), strict=True)
    return Region(min(lefts), min(tops), max(rights) - min(lefts), max(bottoms) - min(tops))


def _edges(region: Region) -> tuple[int, int, int, int]:
    return region.left, region.top, region.left + region.width, region.top + region.height
