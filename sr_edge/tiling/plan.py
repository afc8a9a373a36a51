"""Where the tiles of a picture lie: as few as possible, with an overlap, and the part that each of them determines.

Along each axis the tiles are spread evenly, so that each seam lies as far from the ends of its two tiles as
the overlap allows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from itertools import pairwise, product

from sr_edge.errors import TileError
from sr_edge.frames import Region
from sr_edge.spec import TileSpec


@dataclass(frozen=True)
class Span:
    """One tile along one axis, in low-resolution pixels.

    The tile covers `start` to `start + covered` of the picture. It determines the pixels from `first` to `end`, of
    which the first `blended` are mixed with those of the previous tile.
    """

    start: int
    covered: int
    first: int
    end: int
    blended: int


@dataclass(frozen=True)
class TilePlan:
    """Where the tiles of one picture size lie: every row span crossed with every column span."""

    tile: TileSpec
    height: int
    width: int
    rows: tuple[Span, ...]
    columns: tuple[Span, ...]

    def places(self) -> Iterator[tuple[Span, Span]]:
        """Row and column span of every tile, row by row."""
        return product(self.rows, self.columns)

    @property
    def tiles(self) -> int:
        return len(self.rows) * len(self.columns)

    @cached_property
    def regions(self) -> tuple[Region, ...]:
        """The part of the picture that each tile determines, in the order of `places`; blended pixels belong to two."""
        return tuple(
            Region(column.first, row.first, column.end - column.first, row.end - row.first)
            for row, column in self.places()
        )

    def covering(self, region: Region) -> tuple[TilePlan, Region]:
        """The tiles of this plan that determine a region, as the plan of the window of the picture that they cover.

        What these tiles determine of the window equals the upscaled picture exactly, since the tiles lie where they lie
        in the plan of the whole picture.
        """
        rows = _touching(self.rows, region.top, region.top + region.height)
        columns = _touching(self.columns, region.left, region.left + region.width)
        top, left = rows[0].start, columns[0].start
        height = rows[-1].start + rows[-1].covered - top
        width = columns[-1].start + columns[-1].covered - left
        plan = TilePlan(self.tile, height, width, _moved(rows, top), _moved(columns, left))
        return plan, Region(left, top, width, height)


@lru_cache(maxsize=64)
def plan_tiles(height: int, width: int, tile: TileSpec, overlap_px: int) -> TilePlan:
    """Covers a picture with as few tiles as possible, with an overlap of at least `overlap_px` between neighbours.

    Raises:
        TileError: the overlap is negative or as large as the tile, or the picture is empty.
    """
    if height < 1 or width < 1:
        raise TileError(
            f"a picture of {width}x{height} pixels is empty and cannot be cut into tiles",
            found=(height, width),
            wanted="at least one pixel",
        )
    require_overlap(tile, overlap_px)
    return TilePlan(tile, height, width, _spans(height, tile.height, overlap_px), _spans(width, tile.width, overlap_px))


def require_overlap(tile: TileSpec, overlap_px: int) -> None:
    """Raises TileError unless the overlap is a whole number of pixels from 0 to less than the tile."""
    shorter = min(tile.height, tile.width)
    if isinstance(overlap_px, bool) or not hasattr(overlap_px, "__index__") or not 0 <= overlap_px < shorter:
        raise TileError(
            f"an overlap of {overlap_px} pixels does not fit the tile {tile}",
            found=overlap_px,
            wanted=(0, shorter - 1),
            remedy=f"pass a whole number from 0 to {shorter - 1}",
        )


def _spans(size: int, tile_px: int, overlap_px: int) -> tuple[Span, ...]:
    """The tiles along one axis. Where all sizes are even, they begin at even pixels: no chroma sample of 4:2:0 is cut.

    Rounding their starts down cannot make an overlap too small: the largest step, `tile_px - overlap_px`, is even.
    """
    grid_px = 1 if size % 2 or tile_px % 2 or overlap_px % 2 else 2
    count = max(1, -(-(size - overlap_px) // (tile_px - overlap_px)))
    last_start = max(0, size - tile_px)
    starts = [last_start * index // max(1, count - 1) // grid_px * grid_px for index in range(count)]
    seams = [(before + tile_px + after - overlap_px) // 2 for before, after in pairwise(starts)]
    firsts = [0, *seams]
    ends = [*(seam + overlap_px for seam in seams), size]
    covered = min(tile_px, size)
    return tuple(
        Span(start, covered, first, end, overlap_px if first > 0 else 0)
        for start, first, end in zip(starts, firsts, ends, strict=True)
    )


def _touching(spans: tuple[Span, ...], first: int, end: int) -> tuple[Span, ...]:
    """The spans that determine any of the pixels from `first` to `end`."""
    return tuple(span for span in spans if span.first < end and span.end > first)


def _moved(spans: tuple[Span, ...], origin: int) -> tuple[Span, ...]:
    """The spans with positions relative to `origin`; the first blends with no other, since its neighbour is left out.

    A region that begins within the blended pixels of a span also touches the previous span, so that these pixels are
    never part of the region where they are not blended.
    """
    moved = [
        replace(span, start=span.start - origin, first=span.first - origin, end=span.end - origin) for span in spans
    ]
    return (replace(moved[0], blended=0), *moved[1:])
