"""A session over the graphs of one network for several sizes of tiles: the shape of a tile selects its engine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial

import numpy as np

from sr_edge.bundle import TileTime
from sr_edge.frames import Batch, Uint8Frame
from sr_edge.runtimes.engine.several_sessions import SeveralSessions
from sr_edge.runtimes.session import Session, SessionSpec
from sr_edge.spec import TileSpec

OpenTile = Callable[[TileSpec], Session]
"""Opens the session of a tile size."""


class TileSession(SeveralSessions):
    """A session for each size of tile; that of the main tile is the main session."""

    def __init__(
        self,
        tiles: Sequence[TileSpec],
        open_tile: OpenTile,
        tile_times: Sequence[TileTime] = (),
        resources: ExitStack | None = None,
    ) -> None:
        """Opens the session of the main tile.

        Args:
            tiles: The sizes, the main one first.
            open_tile: Opens the session of a size; called at most once for each. The sessions are closed together with
                this one.
            tile_times: The measured time of each size; empty if they were not measured.
            resources: What `open_tile` needs; taken over once the first session is open, and closed with this one.
        """
        main = open_tile(tiles[0])
        openers = [partial(open_tile, tile) for tile in tiles[1:]]
        super().__init__(main, openers, resources.pop_all() if resources else ExitStack())
        self._spec = replace(main.spec, tiles=tuple(tiles), tile_times=tuple(tile_times))

    @property
    def spec(self) -> SessionSpec:
        """The spec of the main tile's session, with all tiles."""
        return self._spec

    def open_all(self) -> None:
        """Opens the sessions of all tiles, where that takes too long to be done while frames wait."""
        for position in range(1, len(self._spec.tiles)):
            self._open(position)

    def _position_for(self, frames: Batch | Uint8Frame) -> int:
        shape = getattr(frames, "shape", ())
        edges = tuple(shape[2:] if getattr(frames, "dtype", None) == np.float32 else shape[:2])
        sizes = [(tile.height, tile.width) for tile in self._spec.tiles]
        return sizes.index(edges) if edges in sizes else 0
