"""The tiles of one frame: where they lie, and the results that are kept of them."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from sr_edge.frames import Region
from sr_edge.nv12.frames import Nv12Frame, TiledSamples, nv12_shape
from sr_edge.tiling import Samples, Span, TilePlan, cut_tile

Submit = Callable[[Samples], int]
Result = Callable[[int], Samples]
Place = tuple[object, ...]
"""What identifies the place of a tile: size and type of its frame, the tile, the pass over it, and its first pixel."""


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
    def frame_key(self) -> Place:
        """What the places of all tiles have in common."""
        is_nv12 = isinstance(self.samples, Nv12Frame)
        return self.samples.shape, self.samples.dtype.str, is_nv12, self.plan.tile, self.alpha_pass[0]

    @property
    def places(self) -> tuple[Place, ...]:
        """The place of each tile, in the order of the plan."""
        frame, (top, left) = self.frame_key, self._origin
        return tuple((frame, row.start + top, column.start + left) for row, column in self.plan.places())

    def cut(self, area: Region) -> Samples:
        """The samples of a tile with another origin than those of the plan."""
        row, column = Span(area.top, area.height, 0, 0, 0), Span(area.left, area.width, 0, 0, 0)
        return cut_tile(self.samples, self.plan.tile, row, column)

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


class KeptTile:
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


@dataclass(frozen=True, eq=False)
class PlacedTile:
    """A tile that was placed around a changed area, and the part of the frame that it was cut from."""

    area: Region
    tile: KeptTile
