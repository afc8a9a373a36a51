"""Reuse of tiles: a tile whose samples did not change since the last frame is not computed again.

The output of a network for a tile is a function of the samples of the tile alone, so the result is the same to the bit.
Cameras that look at a still scene send many such tiles: where nothing moves, the blocks of a compressed video decode to
the same samples from frame to frame.

For each place of a tile, the samples and the result of the last frame are kept (docs/adr/0023). With a bound in
decibels, a tile that changed a little keeps its result, too, with the samples that it was computed of: a slow change
adds up until it counts (docs/adr/0027). There, a change at the border of several tiles is computed in one tile that is
placed around it, where that is fewer tiles (docs/adr/0028).
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from functools import partial

import numpy as np

from sr_edge.frames import Region
from sr_edge.reuse_table import ReuseTable
from sr_edge.tiling import Overlay, Samples, cut_tile
from sr_edge.upscaler.placement import PlacementRule, TileState, lay_over, outside, plan_placement
from sr_edge.upscaler.reuse_bound import ReuseBound, reuse_bound
from sr_edge.upscaler.reuse_options import ReuseOptions, memory_text
from sr_edge.upscaler.tiled_frame import KeptTile, Place, PlacedTile, Result, Submit, TiledFrame


@dataclass(frozen=True)
class ReuseStatistics:
    """How much was reused.

    Attributes:
        tiles: Number of tiles that were needed.
        reused: This number less that of the tiles that were computed.
        changed: Number of tiles with a reused result that had changed; 0 without a bound in decibels.
        placed: Number of the computed tiles that were placed around changed areas; 0 without a bound in decibels.
        memory_bytes: Memory that the kept tiles occupy: their samples and those of their results.
        most_bytes: The memory that they may occupy.
        needed_bytes: The memory that the tiles of the last frame need. Where it exceeds `most_bytes`, nothing is kept.
        placement_obstacle: Within a bound, why no tiles are placed around changed areas; empty if they may be.
    """

    tiles: int = 0
    reused: int = 0
    changed: int = 0
    placed: int = 0
    memory_bytes: int = 0
    most_bytes: int = 0
    needed_bytes: int = 0
    placement_obstacle: str = ""

    @property
    def share(self) -> float:
        """The share of the tiles that were reused."""
        return self.reused / self.tiles if self.tiles else 0.0

    @property
    def obstacle(self) -> str:
        """Why nothing is kept; empty if tiles are."""
        if self.needed_bytes <= self.most_bytes:
            return ""
        return (
            f"the tiles of one frame need {memory_text(self.needed_bytes)}, "
            f"but {memory_text(self.most_bytes)} are allowed"
        )


@dataclass(frozen=True)
class FrameReuse:
    """What was reused for one frame.

    Attributes:
        tiles: Number of tiles of the frame.
        reused: The parts of the frame that tiles with a reused result determine, one for each of these tiles, in pixels
            before upscaling.
        statistics: Those of the upscaler after this frame.
        placed: The samples of the tiles that were placed around changed areas and computed.
    """

    tiles: int
    reused: tuple[Region, ...]
    statistics: ReuseStatistics
    placed: tuple[Region, ...] = ()

    @property
    def computed(self) -> int:
        """The number of tiles that were computed."""
        return self.tiles - len(self.reused) + len(self.placed)

    @property
    def reused_parts(self) -> list[Region]:
        """The parts of the frame that show earlier results only."""
        return [part for region in self.reused for part in outside(region, self.placed)]


def tile_reuse(options: ReuseOptions, table: ReuseTable | None = None) -> TileReuse | None:
    """The store for these options; None if reuse is off.

    Args:
        options: What is reused.
        table: The losses of the network, for a bound in decibels.

    Raises:
        UsageError: A bound is requested, and the network has no table, or one that does not give this bound.
    """
    return None if options.is_off else TileReuse(options, reuse_bound(options, table))


class TileReuse:
    """The samples and the result of the last tile at each place. Any number of threads may use it.

    Memory is bounded: places that were not used for the longest time are dropped first. `_lock` guards the kept tiles
    and the counts; neither `submit` nor `result` of a session is called while it is held.
    """

    def __init__(self, options: ReuseOptions, bound: ReuseBound | None = None) -> None:
        """Creates an empty store.

        Args:
            options: The mode, and the memory that tiles and results may occupy.
            bound: Which changed tiles are reused, too; None for none.
        """
        self._bound = bound
        self._lock = threading.Lock()
        self._kept: OrderedDict[Place, KeptTile] = OrderedDict()
        self._most_bytes = options.memory_bytes
        self._needed_bytes = self._memory_bytes = self._tiles = self._reused = self._changed = self._placed = 0
        self._placement_obstacle = ""
        self._placed_tiles: tuple[Place, tuple[PlacedTile, ...]] = (), ()

    @property
    def statistics(self) -> ReuseStatistics:
        with self._lock:
            counts = self._tiles, self._reused, self._changed, self._placed
            memory = self._memory_bytes, self._most_bytes, self._needed_bytes
            return ReuseStatistics(*counts, *memory, self._placement_obstacle)

    def clear(self) -> None:
        """Drops all tiles."""
        with self._lock:
            self._kept.clear()
            self._placed_tiles = (), ()
            self._memory_bytes = 0

    def frame(self, submit: Submit, result: Result, tiled: TiledFrame) -> FrameTiles:
        """Begins a frame.

        Args:
            submit: Starts a tile in the session and returns its ticket.
            result: Waits for the tile of a ticket.
            tiled: The frame and its tiles.
        """
        with self._lock:
            self._needed_bytes = tiled.needed_bytes
            if self._bound is not None:
                self._placement_obstacle = self._bound.placement_obstacle(tiled.plan.tile)
        planned = self._planned(tiled)
        if planned is None:
            self.keep_placed((), (), 0)  # nothing would use them or make room for others
        return FrameTiles(self, submit, result, tiled, tiled.needed_bytes <= self._most_bytes, planned)

    def count_changed(self, tiled: TiledFrame) -> int:
        """The number of tiles that would be computed for a frame."""
        planned = self._planned(tiled)
        if planned is not None:
            return planned.kept.count(None) + len(planned.areas)
        tiles = (cut_tile(tiled.samples, tiled.plan.tile, row, column) for row, column in tiled.plan.places())
        return sum(
            self._reusable(place, tile, tiled.time_s)[0] is None
            for place, tile in zip(tiled.places, tiles, strict=True)
        )

    def find(self, place: Place, samples: Samples, time_s: float) -> KeptTile | None:
        """The kept tile of a place if its result can be reused for these samples; counts the tile."""
        kept, has_changed = self._reusable(place, samples, time_s)
        self.count(place, kept, has_changed, time_s)
        return kept

    def count(self, place: Place, kept: KeptTile | None, has_changed: bool, time_s: float) -> None:
        """Counts a tile, and remembers that it was used if it is reused."""
        with self._lock:
            if kept is not None and self._kept.get(place) is kept:
                self._kept.move_to_end(place)
            self._tiles += 1
            self._reused += kept is not None
            self._changed += has_changed
        if kept is not None and self._bound is not None and not has_changed:
            kept.turn = self._bound.turn(kept.phase, time_s)  # as new as a result that is computed now

    def keep(self, place: Place, tile: KeptTile) -> None:
        """Keeps a tile in place of the last one at its place."""
        with self._lock:
            previous = self._kept.get(place)
            self._kept[place] = tile
            self._kept.move_to_end(place)
            self._memory_bytes += tile.memory_bytes - (previous.memory_bytes if previous else 0)
            self._make_room()

    def keep_placed(self, frame: Place, tiles: tuple[PlacedTile, ...], computed: int) -> None:
        """Keeps the placed tiles of the last frame, in place of those of the frame before, and counts the new ones."""
        with self._lock:
            sizes = (sum(each.tile.memory_bytes for each in those) for those in (tiles, self._placed_tiles[1]))
            self._memory_bytes += next(sizes) - next(sizes)
            self._placed_tiles = frame, tiles
            self._placed += computed
            self._reused -= computed
            self._make_room()

    def _make_room(self) -> None:
        while self._memory_bytes > self._most_bytes and self._kept:
            self._memory_bytes -= self._kept.popitem(last=False)[1].memory_bytes

    def turn(self, phase: float, time_s: float) -> float:
        """The turn of a tile that is computed, see `ReuseBound`."""
        return 0.0 if self._bound is None else self._bound.turn(phase, time_s)

    def _reusable(self, place: Place, samples: Samples, time_s: float) -> tuple[KeptTile | None, bool]:
        """The kept tile of a place if its result can be reused for these samples, and whether they have changed."""
        with self._lock:
            kept = self._kept.get(place)
        state = self._state(kept, samples, time_s)
        if state.is_same:
            return kept, False
        is_allowed = state.kept is not None and self._bound is not None and self._bound.allows(state.kept, samples)
        return (kept, True) if is_allowed else (None, False)

    def _state(self, kept: KeptTile | None, samples: Samples, time_s: float) -> TileState:
        """What is known of a tile before its change is measured."""
        if kept is None or kept.has_failed:
            return TileState(samples)
        # Compared without the lock: kept samples do not change. The comparison ends at the first difference.
        if kept.samples == samples.tobytes():
            return TileState(samples, is_same=True)
        if self._bound is None or self._bound.turn(kept.phase, time_s) != kept.turn:
            return TileState(samples)
        return TileState(samples, np.frombuffer(kept.samples, samples.dtype).reshape(samples.shape))

    def _planned(self, tiled: TiledFrame) -> _PlannedFrame | None:
        """Which tiles of a frame are computed, where tiles may be placed; None where each tile is decided on its own.

        With a window no tiles are placed, and those that were are not used: tiles of the grid below them are computed.
        """
        rule = None if self._bound is None else self._bound.placement_rule(tiled.plan.tile)
        if self._bound is None or rule is None or tiled.window is not None or tiled.needed_bytes > self._most_bytes:
            return None
        with self._lock:
            kept = [self._kept.get(place) for place in tiled.places]
            frame, earlier = self._placed_tiles
        spans = tiled.plan.places()
        samples = (cut_tile(tiled.samples, rule.tile, row, column) for row, column in spans)
        states = [self._state(each, part, tiled.time_s) for each, part in zip(kept, samples, strict=True)]
        valid = [each for each in earlier if frame == tiled.frame_key and self._is_valid(each, tiled, self._bound)]
        room = (self._most_bytes - tiled.needed_bytes) // tiled.tile_bytes
        areas = [each.area for each in valid]
        placement = plan_placement(states, areas, tiled.plan, rule, self._bound.limits, room)
        return _PlannedFrame(
            tuple(each if is_reused else None for each, is_reused in zip(kept, placement.reused, strict=True)),
            tuple(not state.is_same for state in states),
            tuple(valid[number] for number in placement.remaining),
            placement.placed,
            rule,
        )

    def _is_valid(self, placed: PlacedTile, tiled: TiledFrame, bound: ReuseBound) -> bool:
        """Whether the result of a placed tile can be reused for this frame."""
        samples = tiled.cut(placed.area)
        state = self._state(placed.tile, samples, tiled.time_s)
        return state.is_same or (state.kept is not None and bound.allows(state.kept, samples))


@dataclass(frozen=True, eq=False)
class _PlannedFrame:
    """What is reused and computed for a frame in which tiles may be placed.

    Attributes:
        kept: For each tile of the grid, the one whose result is reused; None if it is computed.
        has_changed: For each tile of the grid, whether its samples are others than the kept ones.
        placed: The placed tiles whose results are reused.
        areas: The samples of those that are placed and computed.
        rule: Where they may be placed.
    """

    kept: tuple[KeptTile | None, ...]
    has_changed: tuple[bool, ...]
    placed: tuple[PlacedTile, ...]
    areas: tuple[Region, ...]
    rule: PlacementRule


class FrameTiles:
    """The tiles of one frame, of which those that are kept are not computed. For use by one thread.

    `submit` and `result` take the place of those of the session. `submit` must be called once for each tile, in the
    order of the plan, and then for each of `overlays`.
    """

    def __init__(
        self,
        reuse: TileReuse,
        submit: Submit,
        result: Result,
        tiled: TiledFrame,
        is_kept: bool,
        planned: _PlannedFrame | None = None,
    ) -> None:
        """Begins the frame; `is_kept` says whether its tiles are kept for the next one."""
        self._reuse = reuse
        self._session_submit, self._session_result = submit, result
        self._tiled, self._planned = tiled, planned
        self._is_kept = is_kept
        self._tile_bytes = tiled.tile_bytes
        self._places = tiled.places
        self._tiles: list[KeptTile] = []
        self._reused: set[int] = set()
        self._placed = () if planned is None else planned.placed
        if planned is not None and not planned.areas:
            reuse.keep_placed(tiled.frame_key, self._placed, 0)

    @property
    def overlays(self) -> tuple[Overlay, ...]:
        """The placed tiles, in the order in which their outputs are laid over the frame."""
        if self._planned is None:
            return ()
        areas = (*(each.area for each in self._planned.placed), *self._planned.areas)
        lay = partial(lay_over, rule=self._planned.rule, scale=self._tiled.scale)
        return tuple(Overlay(self._tiled.cut(area), partial(lay, area=area)) for area in areas)

    def summary(self) -> FrameReuse:
        """What was reused for this frame."""
        reused = self._tiled.regions([number for number in sorted(self._reused) if number < len(self._places)])
        areas = self._planned.areas if self._planned is not None else ()
        return FrameReuse(len(self._places), reused, self._reuse.statistics, areas)

    def submit(self, samples: Samples) -> int:
        """Starts a tile unless it is kept; returns the number of the tile, which is its ticket."""
        number = len(self._tiles)
        kept = self._find(number, samples)
        if kept is not None:
            self._reused.add(number)
            self._tiles.append(kept)
            return number
        # `submit` of the session waits while all of its slots are taken. Two threads that submit the same tile at the
        # same moment compute it twice.
        tile = KeptTile(samples.tobytes(), self._session_submit(samples), self._session_result, self._tile_bytes)
        tile.phase = number / len(self._places) % 1.0
        tile.turn = self._reuse.turn(tile.phase, self._tiled.time_s)
        self._tiles.append(tile)
        if number >= len(self._places):
            self._keep_placed(number, tile)
        elif self._is_kept:
            self._reuse.keep(self._places[number], tile)
        return number

    def _find(self, number: int, samples: Samples) -> KeptTile | None:
        """The tile whose result is reused; None if it is computed."""
        time_s, planned = self._tiled.time_s, self._planned
        if planned is None:
            return self._reuse.find(self._places[number], samples, time_s)
        if number < len(self._places):
            kept = planned.kept[number]
            self._reuse.count(self._places[number], kept, kept is not None and planned.has_changed[number], time_s)
            return kept
        index = number - len(self._places)
        return planned.placed[index].tile if index < len(planned.placed) else None

    def _keep_placed(self, number: int, tile: KeptTile) -> None:
        """Keeps a placed tile as soon as it is submitted; the next frame drops those that are not needed any more."""
        if self._planned is not None:
            index = number - len(self._places) - len(self._planned.placed)
            self._placed = (*self._placed, PlacedTile(self._planned.areas[index], tile))
            self._reuse.keep_placed(self._tiled.frame_key, self._placed, 1)

    def is_reused(self, ticket: int) -> bool:
        """Whether the tile needs no slot of the session."""
        return ticket in self._reused

    def result(self, ticket: int) -> Samples:
        """Waits for the output of a tile, which must not be modified.

        Raises:
            SrEdgeError: As `Session.result`.
        """
        return self._tiles[ticket].output()
