"""Runs a network of fixed input size on pictures of any size: overlapping tiles that are blended without seams.

Along each axis the tiles are spread evenly, so that each seam lies as far from the ends of its two tiles as
the overlap allows. Over the `overlap` pixels in the middle of a seam the earlier tile fades linearly into the
later one; all other output pixels are copied from one tile. A picture that is smaller than the tile is extended by
reflection, repeatedly if necessary, and cropped afterwards.

Rows of tiles are assembled in the output frame itself. Only the band in which a row overlaps the one above is
assembled in a separate buffer and blended when complete, because where four tiles meet, both fades must be applied one
after the other. Apart from the output, memory is needed for this band and the tiles in flight, whatever their number.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from itertools import chain, pairwise, product
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from sr_edge.errors import FrameError, TileError, UsageError
from sr_edge.frames import Region, extended, require_frame
from sr_edge.nv12.frames import Nv12Frame, TiledSamples
from sr_edge.spec import TileSpec

Ticket = TypeVar("Ticket")

Samples = npt.NDArray[Any]
"""A frame, or one in float32: (height, width, channels)."""


@dataclass(frozen=True, eq=False)
class Overlay:
    """A tile beside those of the plan: its samples, and what lays its output over the upscaled frame."""

    samples: Samples
    lay: Callable[[Samples, Samples], None]


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


def upscale_frame(
    frame_hwc: Samples,
    run: Callable[[Samples], Samples],
    *,
    tile: TileSpec,
    scale: int,
    overlap_px: int,
    out: Samples | None = None,
    on_tile: Callable[[int, int], None] | None = None,
) -> Samples:
    """Upscales a frame of any size, one tile after the other.

    Args:
        frame_hwc: uint8, uint16 or float32 (height, width, 1, 3 or 4).
        run: Upscales one contiguous tile (tile.height, tile.width, channels) to `scale` times its size, same type.
        tile: Input size of the network.
        scale: Magnification of the network.
        overlap_px: Minimum overlap of neighbouring tiles, in low-resolution pixels.
        out: Array for the result; None allocates one.
        on_tile: Called after each tile with the number of tiles done and the total.

    Returns:
        `out`, or a new frame (scale * height, scale * width, channels).

    Raises:
        FrameError: not a frame, or `out` is of another shape or type.
        TileError: the overlap does not fit the tile, or `run` returned another shape or type.
    """
    return upscale_frame_in_flight(
        frame_hwc,
        run,
        lambda upscaled: upscaled,
        in_flight=1,
        tile=tile,
        scale=scale,
        overlap_px=overlap_px,
        out=out,
        on_tile=on_tile,
    )


def upscale_frame_in_flight(
    frame_hwc: TiledSamples,
    submit: Callable[[Samples], Ticket],
    result: Callable[[Ticket], Samples],
    *,
    in_flight: int,
    tile: TileSpec,
    scale: int,
    overlap_px: int,
    out: Samples | None = None,
    on_tile: Callable[[int, int], None] | None = None,
    region: Region | None = None,
    is_reused: Callable[[Ticket], bool] = lambda ticket: False,
    overlays: Sequence[Overlay] = (),
) -> Samples:
    """As `upscale_frame`, with up to `in_flight` tiles at once, so that cutting and blending overlap with inference.

    An NV12 frame is cut into packed tiles with a margin (`Nv12Frame.cut`), for a network that returns RGB; a `region`
    of one raises UsageError.

    `submit` starts one tile and returns a ticket, `result` waits for it. `submit` is called in the order of
    `TilePlan.places`, and `result` for every ticket, also after an error. With a `region`, only the tiles that
    determine it are computed, and the result is exactly this part of the upscaled frame. Tiles for which `is_reused`
    is true do not count as in flight. After the tiles of the plan, `overlays` run and are laid over the whole frame.
    """
    if isinstance(frame_hwc, Nv12Frame):
        frame_hwc.require_tiles(tile, overlap_px)
    elif frame_hwc.dtype != np.float32:
        require_frame(frame_hwc)
    plan = plan_tiles(frame_hwc.shape[0], frame_hwc.shape[1], tile, overlap_px)
    if region is None:
        return _upscale_in_plan(frame_hwc, submit, result, plan, in_flight, scale, out, on_tile, is_reused, overlays)
    if isinstance(frame_hwc, Nv12Frame):
        raise UsageError("NV12 frames are not cut into regions", found=region, remedy="crop their planes before")
    region.require_within(*frame_hwc.shape[:2])
    plan, window = plan.covering(region)
    upscaled = _upscale_in_plan(window.cut(frame_hwc), submit, result, plan, in_flight, scale, None, on_tile, is_reused)
    part = region.relative_to(window).cut(upscaled, scale)
    if out is None:
        return np.ascontiguousarray(part)
    np.copyto(output_frame(region.cut(frame_hwc), scale, out), part)
    return out


def _upscale_in_plan(
    frame_hwc: TiledSamples,
    submit: Callable[[Samples], Ticket],
    result: Callable[[Ticket], Samples],
    plan: TilePlan,
    in_flight: int,
    scale: int,
    out: Samples | None,
    on_tile: Callable[[int, int], None] | None,
    is_reused: Callable[[Ticket], bool],
    overlays: Sequence[Overlay] = (),
) -> Samples:
    tile = plan.tile
    if plan.tiles == 1 and out is None and frame_hwc.shape[:2] == (tile.height, tile.width):
        return _whole(frame_hwc, submit, result, plan, scale, on_tile)
    mosaic = _Mosaic(plan, scale, output_frame(frame_hwc, scale, out))
    waiting: deque[Ticket] = deque()
    done = computing = 0

    def place_oldest() -> None:
        nonlocal done, computing
        ticket = waiting.popleft()
        computing -= not is_reused(ticket)
        upscaled = result(ticket)
        if done < plan.tiles:
            mosaic.place_next(upscaled)
        else:
            overlays[done - plan.tiles].lay(mosaic.frame, upscaled)
        done += 1
        if on_tile is not None and done <= plan.tiles:
            on_tile(done, plan.tiles)

    tiles = (cut_tile(frame_hwc, tile, row, column) for row, column in plan.places())
    try:
        for samples in chain(tiles, (overlay.samples for overlay in overlays)):
            while computing == in_flight:
                place_oldest()
            waiting.append(submit(samples))
            computing += not is_reused(waiting[-1])
        while waiting:
            place_oldest()
    finally:
        # After an error the session still computes these tiles and keeps their slots until the results are fetched.
        for ticket in waiting:
            with suppress(Exception):
                result(ticket)
    return mosaic.frame


def _whole(
    frame_hwc: TiledSamples,
    submit: Callable[[Samples], Ticket],
    result: Callable[[Ticket], Samples],
    plan: TilePlan,
    scale: int,
    on_tile: Callable[[int, int], None] | None,
) -> Samples:
    """Upscales a frame of exactly one tile, without cutting, blending or copying."""
    upscaled = result(submit(cut_tile(frame_hwc, plan.tile, plan.rows[0], plan.columns[0])))
    height, width, channels = frame_hwc.shape
    _require_tile(upscaled, (scale * height, scale * width, channels), frame_hwc.dtype)
    if on_tile is not None:
        on_tile(1, 1)
    return upscaled


def _require_tile(upscaled: Samples, shape: tuple[int, ...], dtype: npt.DTypeLike) -> None:
    if upscaled.shape != shape or upscaled.dtype != dtype:
        raise TileError(
            f"the network returned {upscaled.dtype} {upscaled.shape} for a tile instead of {np.dtype(dtype)} {shape}",
            found=(str(upscaled.dtype), upscaled.shape),
            wanted=(str(np.dtype(dtype)), shape),
            remedy="use the scale and the tile size that it was exported with",
        )


def output_frame(frame_hwc: TiledSamples, scale: int, out: Samples | None) -> Samples:
    """`out`, or a new array for the upscaled frame; raises FrameError if `out` cannot take it."""
    height, width, channels = frame_hwc.shape
    shape = (scale * height, scale * width, channels)
    if out is None:
        return np.empty(shape, frame_hwc.dtype)
    wanted, is_array = f"{frame_hwc.dtype} {shape}", isinstance(out, np.ndarray)
    given = f"{out.dtype} {out.shape}" if is_array else f"a {type(out).__name__}"
    given += " (read-only)" if is_array and not out.flags.writeable else ""
    if given != wanted:
        raise FrameError(
            f"the output frame is {given}, but the result is {wanted}",
            found=(str(out.dtype), out.shape) if is_array else type(out).__name__,
            wanted=(str(frame_hwc.dtype), shape),
            remedy=f"pass a writable array of {wanted}, or None to allocate one",
        )
    return out


def cut_tile(frame_hwc: TiledSamples, tile: TileSpec, row: Span, column: Span) -> Samples:
    """The samples of one tile, contiguous; those beyond the picture are reflected. An NV12 tile is packed."""
    if isinstance(frame_hwc, Nv12Frame):
        return frame_hwc.cut(row.start, column.start, tile)
    part = frame_hwc[row.start : row.start + row.covered, column.start : column.start + column.covered]
    return np.ascontiguousarray(extended(part, tile.height, tile.width))


class _Mosaic:
    """The output frame while tiles arrive in the order of `TilePlan.places`."""

    def __init__(self, plan: TilePlan, scale: int, frame: Samples) -> None:
        self.frame = frame
        self._scale = scale
        self._plan = plan
        self._places = plan.places()
        self._tile_shape = (plan.tile.height * scale, plan.tile.width * scale, frame.shape[2])
        band_px = scale * max(row.blended for row in plan.rows)
        self._band = np.empty((band_px, *frame.shape[1:]), frame.dtype)

    def place_next(self, upscaled: Samples) -> None:
        _require_tile(upscaled, self._tile_shape, self.frame.dtype)
        scale = self._scale
        row, column = next(self._places)
        cropped = upscaled[_scaled(row.first - row.start, row.end - row.start, scale)]
        cropped = cropped[:, _scaled(column.first - column.start, column.end - column.start, scale)]
        across = _scaled(column.first, column.end, scale)
        band_px, blended_px = row.blended * scale, column.blended * scale
        top = row.first * scale
        _place(self._band[:band_px, across], cropped[:band_px], blended_px)
        _place(self.frame[top + band_px : row.end * scale, across], cropped[band_px:], blended_px)
        columns = self._plan.columns
        if column is columns[-1]:  # no tile of a window determines the samples at its left and right edge
            determined = _scaled(columns[0].first, columns[-1].end, scale)
            _fade(self.frame[top : top + band_px, determined], self._band[:band_px, determined], axis=0)


def _scaled(first: int, end: int, scale: int) -> slice:
    return slice(first * scale, end * scale)


def _place(target: Samples, newer: Samples, blended_px: int) -> None:
    """Copies `newer`, and fades its first `blended_px` columns into those of `target`."""
    _fade(target[:, :blended_px], newer[:, :blended_px], axis=1)
    target[:, blended_px:] = newer[:, blended_px:]


def _fade(target: Samples, newer: Samples, axis: int) -> None:
    """Mixes `newer` into `target` with weights that rise linearly along `axis`, integers in those of twice the width.

    Equal samples remain unchanged; other integers are within one level of exact arithmetic.
    """
    if target.size == 0:
        return
    if target.dtype == np.float32:
        target += (newer - target) * _shares(target.shape[axis], axis).astype(np.float32)
        return
    bits = 8 * target.itemsize
    wide = np.dtype(f"u{2 * target.itemsize}")
    keep, take = _ramp(target.shape[axis], bits, axis)
    mixed = np.multiply(target, keep, dtype=wide)
    mixed += np.multiply(newer, take, dtype=wide)
    mixed += wide.type(1 << (bits - 1))
    mixed >>= wide.type(bits)
    target[...] = mixed


def _shares(length: int, axis: int) -> npt.NDArray[np.float64]:
    """Shares of the later tile at the centres of `length` samples."""
    return ((np.arange(length) + 0.5) / length).reshape((-1, 1, 1) if axis == 0 else (-1, 1))


@lru_cache(maxsize=64)
def _ramp(length: int, bits: int, axis: int) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Weights of the earlier and the later tile at the centres of `length` samples; they add up to 1 << bits."""
    one = 1 << bits
    take = np.rint(_shares(length, axis) * one).astype(np.uint32)
    wide = np.uint16 if bits == 8 else np.uint32
    return (one - take).astype(wide), take.astype(wide)
