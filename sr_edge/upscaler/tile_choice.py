"""Chooses the tiles that a frame is cut into, where a session takes tiles of several sizes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from sr_edge.bundle import TileTime
from sr_edge.errors import TileError
from sr_edge.runtimes.session import SessionSpec
from sr_edge.spec import FrameFormat, TileSpec
from sr_edge.tiling import TilePlan, plan_tiles

EQUAL_TIME_RATIO = 1.1
"""Times within this ratio count as equal, and then the fewest pixels decide: cutting and blending are not timed."""


@dataclass(frozen=True)
class TileOption:
    """One way to cut a frame.

    Attributes:
        plan: Where the tiles lie.
        time_ms: The measured time of all tiles; None where it was not measured.
    """

    plan: TilePlan
    time_ms: float | None = None

    @property
    def pixels(self) -> int:
        """The number of pixels of all tiles, overlap included."""
        return self.plan.tiles * self.plan.tile.height * self.plan.tile.width

    @property
    def cost(self) -> str:
        """What the choice compares: "20 ms", or "57,600 pixels" where times were not measured."""
        return f"{self.pixels:,} pixels" if self.time_ms is None else f"{self.time_ms:.3g} ms"


@dataclass(frozen=True)
class TileChoice:
    """The tiles of a frame, and the other tile sizes that the session has.

    Attributes:
        chosen: The tiles of least time or, where times are equal or were not measured, of the fewest pixels.
        others: The other sizes, the best one first.
        io: The format of the frames that are cut.
    """

    chosen: TileOption
    others: tuple[TileOption, ...] = ()
    io: FrameFormat = FrameFormat.FLOAT_NCHW

    @property
    def plan(self) -> TilePlan:
        return self.chosen.plan

    def __str__(self) -> str:
        """What was chosen and why: "tile 180x320: 1 per frame, 20 ms; 96x96 would need 8 tiles, 52 ms"."""
        count = f"{self.plan.tiles} per frame of {self.plan.width}x{self.plan.height}"
        text = f"tile {self.plan.tile}: {count}, {self.chosen.cost}"
        for other in self.others:
            tiles = f"{other.plan.tiles} tile{'s' * (other.plan.tiles > 1)}"
            is_shorter = self.chosen.time_ms is not None and _cost(other) < self.chosen.time_ms
            text += f"; {other.plan.tile} would need {tiles}, {other.cost}"
            text += ", which counts as equal" if is_shorter else ""
        is_untimed = self.chosen.time_ms is None and self.others
        return f"{text} (not timed here in this precision)" if is_untimed else text


def choose_tiles(spec: SessionSpec, height: int, width: int, overlap_px: int) -> TileChoice:
    """Chooses the tiles of a frame among the sizes that a session takes.

    Args:
        spec: What the session takes, and the measured times.
        height: Height of the frame.
        width: Width of the frame.
        overlap_px: Minimum overlap of neighbouring tiles.

    Raises:
        TileError: The frame is empty, or the overlap fits none of the tiles.
    """
    return _chosen(spec.tiles or (spec.tile,), spec.tile_times, height, width, overlap_px, spec.io)


@lru_cache(maxsize=64)
def _chosen(
    tiles: tuple[TileSpec, ...],
    tile_times: tuple[TileTime, ...],
    height: int,
    width: int,
    overlap_px: int,
    io: FrameFormat,
) -> TileChoice:
    times = {each.tile: each.latency_ms for each in tile_times}
    is_measured = all(tile in times for tile in tiles)
    main, *further = tiles
    options = [
        _option(tile, times if is_measured else {}, height, width, overlap_px)
        for tile in further
        if overlap_px < min(tile.height, tile.width)
    ]
    try:
        options.insert(0, _option(main, times if is_measured else {}, height, width, overlap_px))
    except TileError:
        if not options:
            raise
    equal = EQUAL_TIME_RATIO * min(map(_cost, options)) if is_measured else 0.0
    best, *others = sorted(
        options, key=lambda option: (option.pixels if _cost(option) <= equal else math.inf, _cost(option))
    )
    return TileChoice(best, tuple(others), io)


def _option(tile: TileSpec, times: Mapping[TileSpec, float], height: int, width: int, overlap_px: int) -> TileOption:
    plan = plan_tiles(height, width, tile, overlap_px)
    return TileOption(plan, plan.tiles * times[tile] if times else None)


def _cost(option: TileOption) -> float:
    return option.pixels if option.time_ms is None else option.time_ms
