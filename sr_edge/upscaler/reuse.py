"""Reuse of tiles: a tile whose samples were upscaled before is not computed again.

The output of a network for a tile is a function of the samples of the tile alone, so the result is the same to the bit.
Cameras that look at a still scene send many such tiles: where nothing moves, the blocks of a compressed video decode to
the same samples from frame to frame.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from sr_edge.errors import UnknownNameError, UsageError
from sr_edge.tiling import Samples

OFF, EXACT = "off", "exact"
MODES = (OFF, EXACT)
"""Whether tiles are reused: never, or where all of their samples are the same."""

DEFAULT_REUSE_MEMORY_BYTES = 256 * 2**20
"""Enough for the tiles of a frame of 1920x1080 pixels that is upscaled 4 times."""

Submit = Callable[[Samples], int]
Result = Callable[[int], Samples]
_Key = tuple[str, tuple[int, ...], bytes]


@dataclass(frozen=True)
class ReuseStatistics:
    """How much was reused.

    Attributes:
        tiles: Number of tiles that were needed.
        reused: Number of them that were not computed.
        memory_bytes: Memory that the kept tiles occupy: their samples and those of their results.
        most_bytes: The memory that they may occupy.
        needed_bytes: The memory that the tiles of the last frame need. Where it exceeds `most_bytes`, nothing is kept.
    """

    tiles: int = 0
    reused: int = 0
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
            f"the tiles of one frame need {_megabytes(self.needed_bytes)}, "
            f"but {_megabytes(self.most_bytes)} are allowed"
        )


def tile_reuse(mode: str, most_bytes: int = DEFAULT_REUSE_MEMORY_BYTES) -> TileReuse | None:
    """The store of a mode; None for "off".

    Raises:
        UnknownNameError: There is no such mode.
        UsageError: The memory is not positive.
    """
    if mode not in MODES:
        raise UnknownNameError("mode of reuse", str(mode), list(MODES))
    return TileReuse(most_bytes) if mode == EXACT else None


class TileReuse:
    """The results of the tiles of one upscaler, of which the least recently used are dropped first.

    Tiles are found by all of their samples, not by their place or a digest. Any number of threads may use it.
    """

    def __init__(self, most_bytes: int = DEFAULT_REUSE_MEMORY_BYTES) -> None:
        """Creates an empty store.

        Args:
            most_bytes: The memory that tiles and results may occupy.

        Raises:
            UsageError: It is not positive.
        """
        if most_bytes < 1:
            raise UsageError(
                f"{most_bytes} bytes of memory for tiles to reuse are too few",
                found=most_bytes,
                wanted="1 or more",
                remedy="give more memory, or do without reuse",
            )
        self._lock = threading.Lock()
        self._kept: OrderedDict[_Key, _Tile] = OrderedDict()
        self._statistics = ReuseStatistics(most_bytes=most_bytes)

    @property
    def statistics(self) -> ReuseStatistics:
        return self._statistics

    def clear(self) -> None:
        """Drops all tiles."""
        with self._lock:
            self._kept.clear()
            self._statistics = replace(self._statistics, memory_bytes=0)

    def over(self, submit: Submit, result: Result, tiles: int, tile_bytes: int) -> tuple[Submit, Result]:
        """Functions in place of `submit` and `result` of a session that compute only tiles that are not kept.

        Args:
            submit: Starts a tile and returns its ticket.
            result: Waits for the tile of a ticket.
            tiles: The number of tiles of the frame that follows.
            tile_bytes: The memory of a tile and its result.
        """
        with self._lock:
            self._statistics = replace(self._statistics, needed_bytes=tiles * tile_bytes)
            if self._statistics.obstacle:
                self._statistics = replace(self._statistics, tiles=self._statistics.tiles + tiles)
                return submit, result
        tickets: dict[int, _Tile] = {}

        def submit_or_reuse(samples: Samples) -> int:
            tickets[len(tickets)] = self._tile(samples, submit, result, tile_bytes)
            return len(tickets) - 1

        return submit_or_reuse, lambda ticket: tickets[ticket].output()

    def _tile(self, samples: Samples, submit: Submit, result: Result, tile_bytes: int) -> _Tile:
        key = (samples.dtype.str, samples.shape, samples.tobytes())
        with self._lock:
            kept = self._kept.get(key)
            is_reused = kept is not None and not kept.has_failed
            self._count(is_reused)
            if kept is not None and is_reused:
                self._kept.move_to_end(key)
                return kept
        # Not under the lock, since `submit` waits while all slots of the session are taken. Two threads that submit the
        # same tile at the same moment compute it twice.
        tile = _Tile(submit(samples), result)
        with self._lock:
            self._kept[key] = tile
            self._kept.move_to_end(key)
            most = self._statistics.most_bytes // tile_bytes
            while len(self._kept) > most:
                self._kept.popitem(last=False)
            self._statistics = replace(self._statistics, memory_bytes=len(self._kept) * tile_bytes)
        return tile

    def _count(self, is_reused: bool) -> None:
        counts = self._statistics
        self._statistics = replace(counts, tiles=counts.tiles + 1, reused=counts.reused + is_reused)


class _Tile:
    """A tile that was submitted to a session, and its output once somebody needed it."""

    def __init__(self, ticket: int, result: Result) -> None:
        self.has_failed = False
        self._lock = threading.Lock()
        self._ticket, self._result = ticket, result
        self._output: Samples | None = None
        self._error: BaseException | None = None

    def output(self) -> Samples:
        """Waits for the output, which must not be modified.

        A ticket is valid once: whoever needs the output first fetches it, be it the thread that submitted the tile or
        another one.

        Raises:
            SrEdgeError: As `Session.result`.
        """
        with self._lock:
            if self._error is not None:
                raise self._error
            if self._output is None:
                try:
                    self._output = self._result(self._ticket)
                except BaseException as error:
                    self.has_failed, self._error = True, error
                    raise
                self._output.flags.writeable = False
            return self._output


def reuse_memory(tile_shape: tuple[int, int, int], dtype: np.dtype[Any], scale: int) -> int:
    """Bytes of a tile (height, width, channels) and of its result."""
    height, width, channels = tile_shape
    return height * width * channels * dtype.itemsize * (1 + scale**2)


def _megabytes(size: int) -> str:
    return f"{size / 2**20:.0f} MiB"
