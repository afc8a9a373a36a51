"""Runs a network of fixed input size on frames of any size: tile by tile, with several tiles in flight.

A frame that is smaller than the tile is extended by reflection, repeatedly if necessary, and cropped afterwards.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from typing import TypeVar

import numpy as np

from sr_edge.errors import FrameError, UsageError
from sr_edge.frames import Region, extended, require_frame
from sr_edge.nv12.frames import Nv12Frame, TiledSamples
from sr_edge.spec import TileSpec
from sr_edge.tiling.mosaic import Mosaic, Samples, require_upscaled_tile
from sr_edge.tiling.plan import Span, TilePlan, plan_tiles

Ticket = TypeVar("Ticket")


@dataclass(frozen=True, eq=False)
class Overlay:
    """A tile beside those of the plan: its samples, and what lays its output over the upscaled frame."""

    samples: Samples
    lay: Callable[[Samples, Samples], None]


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
    mosaic = Mosaic(plan, scale, output_frame(frame_hwc, scale, out))
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
    require_upscaled_tile(upscaled, (scale * height, scale * width, channels), frame_hwc.dtype)
    if on_tile is not None:
        on_tile(1, 1)
    return upscaled


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
