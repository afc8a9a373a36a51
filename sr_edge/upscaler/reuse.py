"""Reuse of tiles: a tile whose samples did not change since the last frame is not computed again.

The output of a network for a tile is a function of the samples of the tile alone, so the result is the same to the bit.
Cameras that look at a still scene send many such tiles: where nothing moves, the blocks of a compressed video decode to
the same samples from frame to frame.

For each place of a tile, the samples and the result of the last frame are kept (docs/adr/0023). With a bound in
decibels, a tile that changed a little keeps its result, too, with the samples that it was computed of: a slow change
adds up until it counts (docs/adr/0027).
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from sr_edge.frames import Region
from sr_edge.nv12.frames import Nv12Frame, TiledSamples, nv12_shape
from sr_edge.reuse_table import ReuseTable
from sr_edge.tiling import Samples, TilePlan, cut_tile
from sr_edge.upscaler.reuse_bound import ReuseBound, reuse_bound
from sr_edge.upscaler.reuse_options import ReuseOptions, memory_text

Submit = Callable[[Samples], int]
Result = Callable[[int], Samples]
Place = tuple[object, ...]
"""What identifies the place of a tile: size and type of its frame, the tile, the pass over it, and its first pixel."""


@dataclass(frozen=True)
class ReuseStatistics:
    """How much was reused.

    Attributes:
        tiles: Number of tiles that were needed.
        reused: Number of them that were not computed.
        changed: Number of the reused ones that had changed a little; 0 without a bound in decibels.
        memory_bytes: Memory that the kept tiles occupy: their samples and those of their results.
        most_bytes: The memory that they may occupy.
        needed_bytes: The memory that the tiles of the last frame need. Where it exceeds `most_bytes`, nothing is kept.
    """

    tiles: int = 0
    reused: int = 0
    changed: int = 0
    memory_bytes: int = 0
    most_bytes: int = 0
    needed_bytes: int = 0

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
        reused: The parts of the frame that reused tiles determine, one for each of these tiles, in pixels before
            upscaling.
        statistics: Those of the upscaler after this frame.
    """

    tiles: int
    reused: tuple[Region, ...]
    statistics: ReuseStatistics


@dataclass(frozen=True, eq=False)
class TiledFrame:
    """A frame and the tiles that it is cut into.

    Attributes:
        samples: The frame (height, width, channels) or NV12 frame as the tiles are cut from it, whole.
        plan: The tiles of the frame, or of the window.
        window: The part of the frame that is upscaled; None for all of it.
        scale: Magnification of the network.
        alpha_pass: Number, from 0, and total of the passes over a picture with alpha. Each pass keeps its own tiles.
        time_s: Time of the frame, by which kept results are refreshed.
    """

    samples: TiledSamples
    plan: TilePlan
    window: Region | None = None
    scale: int = 1
    alpha_pass: tuple[int, int] = (0, 1)
    time_s: float = 0.0

    @property
    def tile_bytes(self) -> int:
        """Memory of a tile and its result."""
        tile = self.plan.tile
        pixels: int = tile.height * tile.width * self.samples.shape[2]
        source = math.prod(nv12_shape(tile)) if isinstance(self.samples, Nv12Frame) else pixels
        return (source + pixels * self.scale * self.scale) * self.samples.dtype.itemsize

    @property
    def needed_bytes(self) -> int:
        """Memory of all tiles of the frame and their results."""
        return self.plan.tiles * self.tile_bytes * self.alpha_pass[1]

    @property
    def places(self) -> tuple[Place, ...]:
        """The place of each tile, in the order of the plan."""
        is_nv12 = isinstance(self.samples, Nv12Frame)
        frame = (self.samples.shape, self.samples.dtype.str, is_nv12, self.plan.tile, self.alpha_pass[0])
        top, left = self._origin
        return tuple((frame, row.start + top, column.start + left) for row, column in self.plan.places())

    def regions(self, numbers: Sequence[int]) -> tuple[Region, ...]:
        """The parts of the frame that the tiles with these numbers determine."""
        top, left = self._origin
        regions = [self.plan.regions[number] for number in numbers]
        if not top and not left:
            return tuple(regions)
        return tuple(replace(region, top=region.top + top, left=region.left + left) for region in regions)

    @property
    def _origin(self) -> tuple[int, int]:
        return (0, 0) if self.window is None else (self.window.top, self.window.left)


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
        self._kept: OrderedDict[Place, _Tile] = OrderedDict()
        self._most_bytes = options.memory_bytes
        self._needed_bytes = self._memory_bytes = self._tiles = self._reused = self._changed = 0

    @property
    def statistics(self) -> ReuseStatistics:
        with self._lock:
            counts = self._tiles, self._reused, self._changed
            return ReuseStatistics(*counts, self._memory_bytes, self._most_bytes, self._needed_bytes)

    def clear(self) -> None:
        """Drops all tiles."""
        with self._lock:
            self._kept.clear()
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
        return FrameTiles(self, submit, result, tiled, tiled.needed_bytes <= self._most_bytes)

    def count_changed(self, frame_hwc: TiledSamples, plan: TilePlan, time_s: float = 0.0) -> int:
        """The number of tiles of a frame that would be computed at a time."""
        tiles = (cut_tile(frame_hwc, plan.tile, row, column) for row, column in plan.places())
        places = TiledFrame(frame_hwc, plan).places
        return sum(self._reusable(place, tile, time_s)[0] is None for place, tile in zip(places, tiles, strict=True))

    def find(self, place: Place, samples: Samples, time_s: float) -> _Tile | None:
        """The kept tile of a place if its result can be reused for these samples; counts the tile."""
        kept, has_changed = self._reusable(place, samples, time_s)
        with self._lock:
            if kept is not None and self._kept.get(place) is kept:
                self._kept.move_to_end(place)
            self._tiles += 1
            self._reused += kept is not None
            self._changed += has_changed
        if kept is not None and self._bound is not None and not has_changed:
            kept.turn = self._bound.turn(kept.phase, time_s)  # as new as a result that is computed now
        return kept

    def keep(self, place: Place, tile: _Tile) -> None:
        """Keeps a tile in place of the last one at its place."""
        with self._lock:
            previous = self._kept.get(place)
            self._kept[place] = tile
            self._kept.move_to_end(place)
            self._memory_bytes += tile.memory_bytes - (previous.memory_bytes if previous else 0)
            while self._memory_bytes > self._most_bytes:
                self._memory_bytes -= self._kept.popitem(last=False)[1].memory_bytes

    def turn(self, phase: float, time_s: float) -> float:
        """The turn of a tile that is computed, see `ReuseBound`."""
        return 0.0 if self._bound is None else self._bound.turn(phase, time_s)

    def _reusable(self, place: Place, samples: Samples, time_s: float) -> tuple[_Tile | None, bool]:
        """The kept tile of a place if its result can be reused for these samples, and whether they have changed."""
        with self._lock:
            kept = self._kept.get(place)
        if kept is None or kept.has_failed:
            return None, False
        # Compared without the lock: kept samples do not change. Samples that differ early are told apart early.
        if kept.samples == samples.tobytes():
            return kept, False
        if self._bound is None or self._bound.turn(kept.phase, time_s) != kept.turn:
            return None, False
        before = np.frombuffer(kept.samples, samples.dtype).reshape(samples.shape)
        return (kept, True) if self._bound.allows(before, samples) else (None, False)


class FrameTiles:
    """The tiles of one frame, of which those that are kept are not computed. For use by one thread.

    `submit` and `result` take the place of those of the session. `submit` must be called once for each tile, in the
    order of the plan.
    """

    def __init__(self, reuse: TileReuse, submit: Submit, result: Result, tiled: TiledFrame, is_kept: bool) -> None:
        """Begins the frame; `is_kept` says whether its tiles are kept for the next one."""
        self._reuse = reuse
        self._session_submit, self._session_result = submit, result
        self._tiled = tiled
        self._is_kept = is_kept
        self._tile_bytes = tiled.tile_bytes
        self._places = tiled.places
        self._tiles: list[_Tile] = []
        self._reused: set[int] = set()

    def summary(self) -> FrameReuse:
        """What was reused for this frame."""
        return FrameReuse(len(self._places), self._tiled.regions(sorted(self._reused)), self._reuse.statistics)

    def submit(self, samples: Samples) -> int:
        """Starts a tile unless it is kept; returns the number of the tile, which is its ticket."""
        number = len(self._tiles)
        place = self._places[number]
        kept = self._reuse.find(place, samples, self._tiled.time_s)
        if kept is not None:
            self._reused.add(number)
            self._tiles.append(kept)
            return number
        # `submit` of the session waits while all of its slots are taken. Two threads that submit the same tile at the
        # same moment compute it twice.
        phase = number / len(self._places)
        tile = _Tile(samples.tobytes(), self._session_submit(samples), self._session_result, self._tile_bytes)
        tile.phase, tile.turn = phase, self._reuse.turn(phase, self._tiled.time_s)
        self._tiles.append(tile)
        if self._is_kept:
            self._reuse.keep(place, tile)
        return number

    def is_reused(self, ticket: int) -> bool:
        """Whether the tile needs no slot of the session."""
        return ticket in self._reused

    def result(self, ticket: int) -> Samples:
        """Waits for the output of a tile, which must not be modified.

        Raises:
            SrEdgeError: As `Session.result`.
        """
        return self._tiles[ticket].output()


class _Tile:
    """A tile that was submitted to a session, and its output once somebody needed it."""

    def __init__(self, samples: bytes, ticket: int, result: Result, memory_bytes: int) -> None:
        self.samples, self.memory_bytes = samples, memory_bytes
        self.has_failed = False
        self.phase, self.turn = 0.0, 0.0
        self._lock = threading.Lock()
        self._ticket, self._result = ticket, result
        self._output: Samples | None = None
        self._error: BaseException | None = None

    def output(self) -> Samples:
        """Waits for the output.

        A ticket is valid once: whoever needs the output first fetches it, be it the thread that submitted the tile or
        another one.
        """
        with self._lock:
            if self._error is not None:
                raise self._error
            if self._output is None:
                try:
                    # A view of some channels would keep the others in memory, too.
                    self._output = np.ascontiguousarray(self._result(self._ticket))
                except BaseException as error:
                    self.has_failed, self._error = True, error
                    raise
                self._output.flags.writeable = False
            return self._output
