"""A session over the graphs of one network for several sizes of tiles: the shape of a tile selects its engine."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from types import TracebackType

import numpy as np

from sr_edge.bundle import TileTime
from sr_edge.controls import Controls
from sr_edge.errors import UsageError
from sr_edge.frames import Batch, Uint8Frame
from sr_edge.runtimes.session import Latency, Session, SessionSpec, StageTimes
from sr_edge.spec import TileSpec

OpenTile = Callable[[TileSpec], Session]
"""Opens the session of a tile size."""


class TileSession:
    """A `Session` over one session for each size of tile; the protocol documents its methods.

    The session of the main tile is opened at once, those of the other tiles when their first tile arrives.
    """

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
        self._tiles = tuple(tiles)
        self._open_tile = open_tile
        self._main = open_tile(self._tiles[0])
        self._resources = resources.pop_all() if resources else ExitStack()
        self._spec = replace(self._main.spec, tiles=self._tiles, tile_times=tuple(tile_times))
        self._sessions = {self._tiles[0]: self._main}
        self._opening = threading.Lock()
        self._is_closed = False

    @property
    def spec(self) -> SessionSpec:
        """The spec of the main tile's session, with all tiles."""
        return self._spec

    def open_all(self) -> None:
        """Opens the sessions of all tiles, where that takes too long to be done while frames wait."""
        for tile in self._tiles:
            self._session_of(tile)

    def run(self, frames: Batch | Uint8Frame, controls: Controls | None = None) -> Batch | Uint8Frame:
        return self._session_for(frames).run(frames, controls)

    def run_staged(
        self, frames: Batch | Uint8Frame, controls: Controls | None = None
    ) -> tuple[Batch | Uint8Frame, StageTimes]:
        return self._session_for(frames).run_staged(frames, controls)

    def submit(self, frames: Batch | Uint8Frame, controls: Controls | None = None) -> int:
        """The remainder of a ticket by the number of tile sizes is the position of the tile's size."""
        session = self._session_for(frames)
        position = next(at for at, tile in enumerate(self._tiles) if self._sessions.get(tile) is session)
        return len(self._tiles) * session.submit(frames, controls) + position

    def result(self, ticket: int) -> Batch | Uint8Frame:
        inner, position = divmod(ticket, len(self._tiles))
        session = self._sessions.get(self._tiles[position])
        if session is None:
            raise UsageError(
                f"ticket {ticket} was never issued",
                found=ticket,
                wanted="a ticket whose result was not taken yet",
                remedy="pass each ticket that submit() returns to result() once",
            )
        return session.result(inner)

    def measure(self, runs: int = 20, warm_up: int = 3) -> Latency:
        """Latency of the main tile."""
        return self._main.measure(runs, warm_up)

    def close(self) -> None:
        # `_session_of` opens under this lock, so that no session is opened after the flag is set.
        with self._opening:
            self._is_closed = True
        for session in self._sessions.values():
            session.close()
        self._resources.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {'closed, ' if self._is_closed else ''}{self.spec}>"

    def __enter__(self) -> TileSession:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _session_for(self, frames: Batch | Uint8Frame) -> Session:
        """The session for these frames; that of the main tile raises the error for any other shape or type."""
        shape = getattr(frames, "shape", ())
        edges = shape[2:] if getattr(frames, "dtype", None) == np.float32 else shape[:2]
        known = (tile for tile in self._tiles if (tile.height, tile.width) == tuple(edges))
        return self._session_of(next(known, self._tiles[0]))

    def _session_of(self, tile: TileSpec) -> Session:
        # One thread opens a session, and the others that need it wait here.
        with self._opening:
            if tile not in self._sessions and not self._is_closed:
                self._sessions[tile] = self._open_tile(tile)
            return self._sessions.get(tile, self._main)
