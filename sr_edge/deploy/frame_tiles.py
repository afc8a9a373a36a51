"""Chooses a tile that fits frames of a certain size (`--frame`), by measurement where several tiles fit."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

from sr_edge.errors import EngineError, ExportError, SrEdgeError, TileError, UsageError
from sr_edge.export import ExportReport, export_best_form
from sr_edge.export.graph.metadata import Form
from sr_edge.models import LoadedModel
from sr_edge.runtimes import SessionRequest, Spread, measure_interleaved, measure_memory, open_request
from sr_edge.spec import ModelCard, Precision, StageProgress, TileSpec
from sr_edge.tiling import plan_tiles
from sr_edge.upscaler.tile_choice import EQUAL_TIME_RATIO

STAGE = "choosing the tile of frames"
MAX_TILE_PIXELS = 1 << 22
MAX_EDGE_PX = 16_384
MEASURED = 3
"""Number of tiles that are measured: those with which a frame has the fewest pixels, overlap included."""

SPLITS = (1, 2, 3, 4, 6, 8, 12, 16)
"""Numbers of tiles into which a frame is cut."""

ROUNDS, WARM_UP = 8, 1

EXPORT_BUDGET_S = 120.0
"""After this time, no further tile is exported for the comparison."""


@dataclass(frozen=True)
class FrameSize:
    """The size of the frames of a camera or video, in pixels before upscaling.

    Attributes:
        width: Width.
        height: Height.
    """

    width: int
    height: int

    @classmethod
    def of(cls, size: FrameSize | str) -> FrameSize:
        """A size as programs give it: itself, or the text that `parse` takes."""
        return size if isinstance(size, FrameSize) else cls.parse(str(size))

    @classmethod
    def parse(cls, text: str) -> FrameSize:
        """Parses WIDTHxHEIGHT, as cameras and videos state it; raises UsageError for anything else."""
        match = re.fullmatch(r"([0-9]{1,6})x([0-9]{1,6})", text.strip().lower())
        if match is None:
            raise UsageError(
                f"cannot read {text!r} as the size of a frame",
                found=text,
                wanted="WIDTHxHEIGHT",
                remedy="write WIDTHxHEIGHT in pixels before upscaling, for example --frame 640x360",
            )
        size = cls(int(match[1]), int(match[2]))
        if not (1 <= size.width <= MAX_EDGE_PX and 1 <= size.height <= MAX_EDGE_PX):
            raise UsageError(
                f"a frame of {size} pixels is not supported",
                found=size,
                wanted=(1, MAX_EDGE_PX),
                remedy=f"pass a width and a height from 1 to {MAX_EDGE_PX}",
            )
        return size

    def __str__(self) -> str:
        return f"{self.width}x{self.height}"


@dataclass(frozen=True)
class FrameTile:
    """The tile for frames of one size.

    Attributes:
        frame: The size of the frames.
        tile: The tile; the main one where it covers the frame with the fewest pixels.
        tiles: The number of tiles of a frame.
        notes: What could not be measured, and why.
    """

    frame: FrameSize
    tile: TileSpec
    tiles: int
    notes: tuple[str, ...] = ()


def require_frames(frames: Sequence[FrameSize], card: ModelCard) -> None:
    """Checks that every size occurs once and is one that the network can upscale without extending it.

    Raises:
        UsageError: A size is repeated.
        TileError: A size is smaller than the smallest tile of the network, or than the overlap of its tiles.
    """
    repeated = sorted({str(frame) for frame in frames if list(frames).count(frame) > 1})
    if repeated:
        raise UsageError(
            f"the size of frames {', '.join(repeated)} is given more than once",
            found=repeated,
            wanted="each size once",
            remedy="leave the repetitions of --frame out",
        )
    least = max(card.minimum_px, card.overlap_px + 1)
    for frame in frames:
        if min(frame.width, frame.height) < least:
            raise TileError(
                f"frames of {frame} are too small for tiles of their own with {card.name}, which need at least {least} "
                "pixels in width and height",
                found=frame,
                wanted=least,
                remedy="leave this --frame out: smaller frames are extended to the tile by reflection",
            )


def fitting_tiles(frame: FrameSize, card: ModelCard) -> tuple[TileSpec, ...]:
    """The tiles that cover a frame, those first that do so with the fewest pixels, overlap included.

    Raises:
        TileError: Every tile that would fit is above the limit of MAX_TILE_PIXELS.
    """
    options = {tile: _pixels(frame, tile, card) for count in SPLITS for tile in _splits(frame, count, card)}
    fitting = [tile for tile in options if tile.height * tile.width <= MAX_TILE_PIXELS]
    if not fitting:
        raise TileError(
            f"frames of {frame} cannot be cut into {SPLITS[-1]} tiles of at most {MAX_TILE_PIXELS:,} pixels",
            found=frame,
            wanted=MAX_TILE_PIXELS,
            remedy="leave this --frame out: the main tile upscales frames of any size",
        )
    return tuple(sorted(fitting, key=lambda tile: (options[tile], -tile.height * tile.width)))


def _splits(frame: FrameSize, count: int, card: ModelCard) -> Iterator[TileSpec]:
    """The smallest tiles of which `count` cover a frame, in rows and columns."""
    for rows in (number for number in range(1, count + 1) if count % number == 0):
        height, width = _edge(frame.height, rows, card), _edge(frame.width, count // rows, card)
        if card.square_tiles:
            height = width = max(height, width)
        if min(height, width) > card.overlap_px:
            yield TileSpec(height, width)


def _edge(size: int, count: int, card: ModelCard) -> int:
    """The smallest edge that the network takes of `count` tiles in a row that cover `size` pixels."""
    least = max(-(-(size + (count - 1) * card.overlap_px) // count), card.minimum_px)
    return -(-least // card.multiple_px) * card.multiple_px


def _count(frame: FrameSize, tile: TileSpec, card: ModelCard) -> int:
    return plan_tiles(frame.height, frame.width, tile, card.overlap_px).tiles


def _pixels(frame: FrameSize, tile: TileSpec, card: ModelCard) -> int:
    return _count(frame, tile, card) * tile.height * tile.width


class TileMeter(Protocol):
    """Exports and measures tiles of one network in fp32."""

    def memory_bytes(self) -> int:
        """The memory that an engine of the main tile adds to a process."""
        ...

    def prepare(self, tile: TileSpec) -> None:
        """Exports the network for a tile; raises ExportError if that fails."""
        ...

    def times_ms(self, tiles: Sequence[TileSpec]) -> Mapping[TileSpec, Sequence[float]]:
        """The time of each tile in several rounds, in each of which every tile is run once; raises EngineError."""
        ...


MakeTileMeter = Callable[[LoadedModel, ExportReport, str, Path], TileMeter]
"""Makes a meter from the network, the fp32 graph of its main tile, the name of a runtime, and a folder for graphs."""


class FloatTileMeter:
    """Measures tiles in one runtime, and keeps their graphs in a folder."""

    def __init__(self, model: LoadedModel, base: ExportReport, runtime: str, folder: Path) -> None:
        """Creates the meter.

        Args:
            model: The network.
            base: The fp32 graph of the main tile, whose form others have as well.
            runtime: The name of the runtime.
            folder: Where the graphs of other tiles are written.
        """
        self._model = model
        self._base = base
        self._runtime = runtime
        self._folder = folder
        self._graphs: dict[TileSpec, Path] = {}

    @cached_property
    def _memory_bytes(self) -> int:
        return measure_memory(self._runtime, self._request(self._base.path, self._base.metadata.tile)).added_bytes

    def memory_bytes(self) -> int:
        return self._memory_bytes

    def prepare(self, tile: TileSpec) -> None:
        if tile in self._graphs:
            return
        form = self._base.metadata.form
        file = self._folder / f"{tile}.onnx"
        export_best_form(self._model, tile, file, form=None if form is Form.IMPORTED else form)
        self._graphs[tile] = file

    def times_ms(self, tiles: Sequence[TileSpec]) -> dict[TileSpec, list[float]]:
        with ExitStack() as stack:
            requests = [self._request(self._graphs[tile], tile) for tile in tiles]
            sessions = [stack.enter_context(open_request(self._runtime, request)) for request in requests]
            times = measure_interleaved(sessions, ROUNDS, WARM_UP)
        return {tile: [each.total_ms for each in samples] for tile, samples in zip(tiles, times, strict=True)}

    def _request(self, file: Path, tile: TileSpec | None) -> SessionRequest:
        return SessionRequest(file, self._base.metadata.card, tile or self._model.card.default_tile, Precision.FP32)


def choose_frame_tile(
    frame: FrameSize,
    main: TileSpec,
    card: ModelCard,
    meter: TileMeter,
    memory_limit_bytes: int,
    progress: StageProgress,
    clock: Callable[[], float] = time.monotonic,
) -> FrameTile:
    """Chooses among the tiles that fit a frame: the one of the fewest pixels, unless another one is faster.

    Whether that one or the main tile is faster is decided where frames are upscaled, by the times of both in the
    precision that runs there.

    Args:
        frame: The size of the frames.
        main: The main tile of the bundle. The memory of others is estimated from its memory and the number of pixels.
        card: The model card.
        meter: Exports and measures tiles.
        memory_limit_bytes: The memory that an engine may need at most.
        progress: Called with (stage, steps done, number of steps).
        clock: Returns the time in seconds.

    Raises:
        TileError: No tile fits the frame, or none that does fits the memory.
        SrEdgeError: The main tile cannot be measured, or no tile that fits can be exported.
    """
    tiles = fitting_tiles(frame, card)
    if tiles[0] == main:
        return FrameTile(frame, main, _count(frame, main, card))
    per_pixel_bytes = meter.memory_bytes() / _area(main)
    small = [tile for tile in tiles if per_pixel_bytes * _area(tile) <= memory_limit_bytes][:MEASURED]
    if not small:
        smallest = min(tiles, key=_area)
        needed_bytes = per_pixel_bytes * _area(smallest)
        raise TileError(
            f"tiles for frames of {frame} need too much memory: {smallest}, the smallest of them, an estimated "
            f"{needed_bytes / 2**20:,.0f} MiB",
            found=needed_bytes,
            wanted=memory_limit_bytes,
            remedy="free memory, or leave this --frame out: the main tile upscales frames of any size",
        )
    exported, notes = _exported(frame, small, meter, progress, clock)
    try:
        times = meter.times_ms(exported) if len(exported) > 1 else {}
    except EngineError as error:
        times, notes = {}, [*notes, f"tiles for frames of {frame} could not be compared: {error.problem}"]
    chosen = _fastest(exported, times, frame, card)
    return FrameTile(frame, chosen, _count(frame, chosen, card), tuple(notes))


def _exported(
    frame: FrameSize,
    tiles: Sequence[TileSpec],
    meter: TileMeter,
    progress: StageProgress,
    clock: Callable[[], float],
) -> tuple[list[TileSpec], list[str]]:
    """The tiles that could be exported, of which there is at least one, and why others were not."""
    exported: list[TileSpec] = []
    notes: list[str] = []
    failure: SrEdgeError | None = None
    started = clock()
    for index, tile in enumerate(tiles):
        progress(STAGE, index, len(tiles))
        if exported and clock() - started > EXPORT_BUDGET_S:
            notes.append(f"tiles of {tile} for frames of {frame} were not compared, since exports took too long")
            continue
        try:
            meter.prepare(tile)
        except (ExportError, EngineError) as error:
            failure = error
            notes.append(f"tiles of {tile} for frames of {frame} were left out: {error.problem}")
        else:
            exported.append(tile)
    progress(STAGE, len(tiles), len(tiles))
    if not exported and failure is not None:
        raise failure
    return exported, notes


def _fastest(
    tiles: Sequence[TileSpec], times_ms: Mapping[TileSpec, Sequence[float]], frame: FrameSize, card: ModelCard
) -> TileSpec:
    """The first tile, unless another was clearly faster for whole frames in three of four rounds."""
    chosen, *others = tiles
    for tile in others if times_ms else ():
        counts = _count(frame, tile, card) / _count(frame, chosen, card)
        ratios = [counts * own / best for own, best in zip(times_ms[tile], times_ms[chosen], strict=True)]
        if Spread.of(ratios).high * EQUAL_TIME_RATIO < 1.0:
            chosen = tile
    return chosen


def _area(tile: TileSpec) -> int:
    return tile.height * tile.width
