"""`Upscaler`: upscales pictures with a session whose tile size is fixed."""

from __future__ import annotations

import itertools
from contextlib import ExitStack
from copy import copy
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar, cast, overload

import numpy as np
import numpy.typing as npt

from sr_edge.channels import (
    BICUBIC_REACH_PX,
    Planes,
    frame_of,
    merge_luma,
    network_frame,
    picture_frame,
    rounded_luma,
    split_luma,
)
from sr_edge.controls import Controls, control_values
from sr_edge.errors import FrameError
from sr_edge.frames import (
    Batch,
    Frame,
    Picture,
    Region,
    batch_from_frame,
    frame_from_batch,
    require_frame,
    require_numbers,
)
from sr_edge.nv12.frames import Nv12Frame, Plane
from sr_edge.opacity import count_passes, upscale_with_alpha, with_visible_colours
from sr_edge.runtimes.session import Session
from sr_edge.tiling import Samples, output_frame
from sr_edge.upscaler.conversion import convert, convert_each, require_order
from sr_edge.upscaler.reuse import ReuseStatistics
from sr_edge.upscaler.reuse_bound import require_bound_for
from sr_edge.upscaler.reuse_options import OFF, ReuseOptions
from sr_edge.upscaler.tiled_session import OnReuse, OnTile, OnTiles, Request, tiled_session

Roi = Region | tuple[int, int, int, int] | str
"""A part of a picture: (x, y, width, height) in pixels before upscaling, or the same as text, "0,0,320,180"."""

Kind = TypeVar("Kind")


class Upscaler:
    """Upscales pictures of any size: gray, RGB or RGBA, 8 or 16 bits or float, as arrays, PIL images, tensors or files.

    `sr_edge.open_upscaler` opens one for a bundle, an ONNX file, a checkpoint or a bundled network:

        with sr_edge.open_upscaler("tiny-x2.sredge") as upscaler:
            large = upscaler("photo.png")

    Any number of threads may use an upscaler at the same time.
    """

    def __init__(
        self,
        session: Session,
        overlap_px: int | None = None,
        controls: Controls | None = None,
        *,
        reuse: ReuseOptions | str | float = OFF,
        resources: ExitStack | None = None,
        on_tiles: OnTiles | None = None,
    ) -> None:
        """Creates an upscaler for an open session.

        The caller owns the session and must keep it open while the upscaler is in use, unless `resources` closes it.

        Args:
            session: An open engine. As many tiles are in flight as it has slots.
            overlap_px: Minimum overlap of tiles in low-resolution pixels; None for the network's own.
            controls: Values of the network's controls; those not named take their defaults.
            reuse: "exact" does not compute a tile again whose samples did not change since the last frame; the output
                is the same to the bit. A number of decibels also reuses tiles that changed so little that no more PSNR
                is lost (`sr_edge.reuse_table`). `ReuseOptions` sets the memory for kept tiles, too.
            resources: An exit stack that is closed together with the upscaler.
            on_tiles: Called with the tiles of the first frame, and again whenever the tiles change.

        Raises:
            UsageError: An unknown control, or a value out of its range; a path or bundle instead of a session; an
                unknown mode of reuse, or a bound that the reuse table does not give.
            TileError: The overlap does not fit the session's tile.
        """
        self._reuse_options = ReuseOptions.parse(reuse)
        self._tiled = tiled_session(session, overlap_px, self._reuse_options, on_tiles)
        self._session = session
        self._controls = control_values(session.spec.controls, controls)
        self._resources = resources or ExitStack()

    @property
    def scale(self) -> int:
        """Magnification of the network."""
        return self._session.spec.scale

    @property
    def session(self) -> Session:
        """The session that computes the tiles; its `spec` says which precision runs in which runtime."""
        return self._session

    @property
    def reuse_statistics(self) -> ReuseStatistics:
        """How many tiles were reused so far, and how much memory the kept ones occupy; zeros without reuse."""
        return self._tiled.reuse.statistics if self._tiled.reuse else ReuseStatistics()

    def with_own_reuse(self) -> Upscaler:
        """An upscaler of the same session and options that keeps tiles of its own, for one more stream of frames."""
        other, tiled = copy(self), self._tiled
        other._tiled = tiled_session(self._session, tiled.overlap_px, self._reuse_options, tiled.on_tiles)
        other._resources = ExitStack()
        return other

    def with_session(self, session: Session) -> Upscaler:
        """An upscaler of another session of the same network, with the same options, controls and kept tiles.

        Both upscalers share the memory of `ReuseOptions`. The new one does not close the session.

        Raises:
            UsageError: The session takes NV12 frames, and reuse has a bound in decibels.
        """
        require_bound_for(self._reuse_options, session.spec.io)
        other = copy(self)
        other._session, other._tiled = session, replace(self._tiled, session=session)
        other._resources = ExitStack()
        return other

    def close(self) -> None:
        """Closes what `open_upscaler` opened, after the tiles in flight; a session of the caller stays open."""
        self._resources.close()

    def __enter__(self) -> Upscaler:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._session.spec}, overlap {self._tiled.overlap_px} px>"

    @overload
    def __call__(
        self, picture: str | Path, *, order: str = "rgb", roi: Roi | None = None, on_tile: OnTile | None = None
    ) -> npt.NDArray[Any]: ...

    @overload
    def __call__(
        self, picture: Kind, *, order: str = "rgb", roi: Roi | None = None, on_tile: OnTile | None = None
    ) -> Kind: ...

    def __call__(
        self, picture: object, *, order: str = "rgb", roi: Roi | None = None, on_tile: OnTile | None = None
    ) -> object:
        """Upscales a picture, or several, and gives back the kind that it got.

        The pixels are those that `sr-edge upscale` writes for the same picture, in all kinds.

        Args:
            picture: One of the following.

                - A numpy array (height, width) or (height, width, 1) gray, (height, width, 3) RGB or (height, width, 4)
                  RGB with straight alpha; or a batch of them (number, height, width, channels). uint8, uint16, or float
                  in the range 0-1. Layout, shape and type stay the same; floats are computed as 16-bit samples, in
                  steps of 1/65535.
                - A PIL image. The modes L, LA, RGB, RGBA and I;16 stay the same; a palette, CMYK or YCbCr becomes RGB,
                  or RGBA where it has transparency, and a bilevel image L. It is turned upright as its EXIF data say.
                - A tensor of PyTorch on the CPU, (channels, height, width), a batch of them, or (height, width); uint8,
                  or float in the range 0-1.
                - The path of a picture file. The result is a numpy array: (height, width) for gray, else (height,
                  width, 3 RGB or 4 RGB with alpha), uint8 or uint16. `sr_edge.upscale_file` writes a file, which keeps
                  metadata and colour profile.
                - A `Picture`.
                - A list or tuple of these.
            order: "bgr" for arrays and tensors whose first channel is blue, as OpenCV has them.
            roi: The part (x, y, width, height) to upscale, in pixels of the picture; None for all of it. Only the tiles
                that it touches are computed, and the result is exactly that part of the whole result.
            on_tile: Called after each tile of each picture.

        Returns:
            The upscaled picture; a new array, image or tensor.

        Raises:
            FrameError: It is not a picture: another type, shape or kind of samples, NaN, values out of range, a tensor
                on a GPU, an empty array, a file that cannot be read. Or it has 16 bits, and the session's graph takes
                8-bit input.
            UsageError: The order or the part is unknown, or the part extends beyond the picture.
            EngineError: The runtime failed.
        """
        require_order(order)
        region = None if roi is None else Region.of(roi)
        if isinstance(picture, list | tuple):
            return convert_each(picture, lambda each: self._converted(each, order, region, on_tile))
        return self._converted(picture, order, region, on_tile)

    def _converted(self, picture: object, order: str, region: Region | None, on_tile: OnTile | None) -> object:
        given = convert(picture, order)
        return given.restore(self.upscale_picture(each, on_tile, region) for each in given.pictures)

    def upscale(
        self,
        frame_hwc: Frame,
        out: Frame | None = None,
        on_tile: OnTile | None = None,
        roi: Roi | None = None,
        on_reuse: OnReuse | None = None,
        time_s: float | None = None,
    ) -> Frame:
        """Upscales one frame, without conversion from other kinds of pictures.

        Args:
            frame_hwc: uint8 or uint16 (height, width, 3) RGB or (height, width, 1) gray; for a network with four
                channels also (height, width, 4) RGB with straight alpha. See `sr_edge.channels`.
            out: Array for the result; None allocates one.
            on_tile: Called after each tile.
            roi: The part of the frame to upscale, as in a call; `out` has its size.
            on_reuse: Called after the last tile with what was reused; never if reuse is off.
            time_s: Time of the frame, by which the bound of reuse refreshes results; None for the time now.

        Returns:
            `out`, or a new frame of the same type and channels, `scale` times as large.

        Raises:
            FrameError: `frame_hwc` is not a valid frame, it has 16 bits and the session's graph takes 8-bit input, or
                it has alpha and the network does not take it.
            UsageError: the part extends beyond the frame, or the time is not a finite number.
            EngineError: the runtime failed.
        """
        require_frame(frame_hwc)
        region = None if roi is None else Region.of(roi)
        if region is not None:
            region.require_within(*frame_hwc.shape[:2])
        return self._upscale(frame_hwc, out, Request(on_tile, region, on_reuse, time_s=time_s))

    def _upscale(self, frame_hwc: Frame, out: Frame | None, request: Request) -> Frame:
        spec, channels, is_deep = self._session.spec, frame_hwc.shape[2], frame_hwc.dtype == np.uint16
        self._tiled.require_pictures(8 * frame_hwc.itemsize)
        if spec.channels == 1 and channels == 3:
            return self._upscale_luma(frame_hwc, out, request)

        def submit(tile_hwc: Frame) -> int:
            frame = network_frame(tile_hwc, spec.channels)
            frames = batch_from_frame(frame) if is_deep else cast(npt.NDArray[np.uint8], frame)
            return self._session.submit(frames, self._controls)

        def result(ticket: int) -> Frame:
            upscaled = self._session.result(ticket)
            frame = frame_from_batch(cast(Batch, upscaled), np.uint16) if is_deep else cast(Frame, upscaled)
            return picture_frame(frame, channels)

        return self._tiled.upscale(frame_hwc, submit, result, out, request)

    def upscale_nv12(
        self,
        luma: Plane,
        chroma: Plane,
        out: Frame | None = None,
        on_tile: OnTile | None = None,
        on_reuse: OnReuse | None = None,
        time_s: float | None = None,
    ) -> Frame:
        """Upscales an NV12 frame in a session whose graph converts it to RGB.

        Matrix and range of the samples must be those of the graph, `session.spec.nv12_colour`.

        Args:
            luma: uint8 (height, width), both even and not smaller than the session's tile.
            chroma: uint8 (height / 2, width / 2, 2), U and V.
            out: Array for the result; None allocates one.
            on_tile: Called after each tile.
            on_reuse: As for `upscale`.
            time_s: As for `upscale`.

        Returns:
            `out`, or a new frame, uint8 (height, width, 3) RGB, `scale` times as large.

        Raises:
            UsageError: the graph of the session takes other frames.
            FrameError: the planes are not those of an NV12 frame, or smaller than a tile.
            TileError: the overlap is odd or does not fit the session's tile.
            EngineError: the runtime failed.
        """
        self._tiled.require_nv12()

        def submit(packed: Samples) -> int:
            return self._session.submit(packed, self._controls)

        request = Request(on_tile, on_reuse=on_reuse, time_s=time_s)
        return self._tiled.upscale(Nv12Frame(luma, chroma), submit, self._session.result, out, request)

    def _upscale_luma(self, rgb_hwc: Frame, out: Frame | None, request: Request) -> Frame:
        """Upscales the luma with the network and the chroma by bicubic interpolation.

        The luma is rounded only where 8-bit pictures run in a graph of uint8 frames.
        """
        luma, chroma = split_luma(rgb_hwc)
        region = request.region
        # The chroma at the edge of the region depends on samples beyond it.
        window = None if region is None else region.grown(BICUBIC_REACH_PX, *rgb_hwc.shape[:2])
        request = replace(request, region=window)

        def submit(tile_hwc: Planes) -> int:
            return self._session.submit(np.ascontiguousarray(tile_hwc.transpose(2, 0, 1)[np.newaxis]), self._controls)

        def result(ticket: int) -> Planes:
            upscaled = cast(Batch, self._session.result(ticket))
            require_numbers(upscaled)
            return np.asarray(np.clip(upscaled[0].transpose(1, 2, 0), 0.0, 1.0))

        if self._rounds_luma(rgb_hwc):
            upscaled: Planes | Frame = self._upscale(rounded_luma(luma), None, request)
        else:
            upscaled = self._tiled.upscale(luma, submit, result, None, request)
        if region is None or window is None:
            return merge_luma(upscaled, chroma, self.scale, output_frame(rgb_hwc, self.scale, out))
        merged = merge_luma(
            upscaled, window.cut(chroma), self.scale, output_frame(window.cut(rgb_hwc), self.scale, None)
        )
        out = output_frame(region.cut(rgb_hwc), self.scale, out)
        np.copyto(out, region.relative_to(window).cut(merged, self.scale))
        return out

    def _rounds_luma(self, rgb_hwc: Frame) -> bool:
        """Whether the luma is rounded: only where 8-bit pictures run in a graph of uint8 frames."""
        return rgb_hwc.dtype == np.uint8 and self._session.spec.has_uint8_graph

    def count_changed(self, frame_hwc: Frame | Nv12Frame, time_s: float | None = None) -> int | None:
        """The number of tiles of a frame that `upscale` would compute at that time; None if reuse is off."""
        is_luma = self._session.spec.channels == 1 and frame_hwc.shape[2] == 3
        if self._tiled.reuse is None or isinstance(frame_hwc, Nv12Frame) or not is_luma:
            return self._tiled.count_changed(frame_hwc, time_s)
        luma, _ = split_luma(frame_hwc)
        return self._tiled.count_changed(rounded_luma(luma) if self._rounds_luma(frame_hwc) else luma, time_s)

    def upscale_picture(self, picture: Picture, on_tile: OnTile | None = None, roi: Roi | None = None) -> Picture:
        """Upscales the pixels and, with them, the opacity; profile, metadata and notes are kept.

        A picture whose opacity varies is upscaled three times, see `sr_edge.opacity`, but once by a network with four
        channels, which upscales the opacity itself.

        Args:
            picture: A picture of any size.
            on_tile: Called after each tile.
            roi: The part of the picture to upscale, as in a call of the upscaler.

        Raises:
            FrameError, UsageError, EngineError: as `upscale`, and FrameError where memory is too short.
        """
        region = None if roi is None else Region.of(roi)
        if region is not None:
            region.require_within(picture.height, picture.width)
        try:
            return self._upscale_with_opacity(picture, on_tile, region)
        except MemoryError as error:
            raise FrameError(
                f"not enough memory to upscale a picture of {picture.width}x{picture.height} pixels {self.scale} times",
                found=(picture.height, picture.width),
                remedy="cut it into smaller pictures",
            ) from error

    def _upscale_with_opacity(self, picture: Picture, on_tile: OnTile | None, region: Region | None) -> Picture:
        if picture.alpha is None:
            return replace(picture, pixels=self.upscale(picture.pixels, on_tile=on_tile, roi=region))
        if self._session.spec.channels == 4:
            return self._upscale_four_channels(picture, on_tile, region)

        passes, done_passes = count_passes(picture.alpha), itertools.count()

        def upscale(frame_hwc: Frame) -> Frame:
            before = next(done_passes)
            report = on_tile and (lambda done, total: on_tile(before * total + done, passes * total))
            return self._upscale(frame_hwc, None, Request(report, region, alpha_pass=(before, passes)))

        pixels, alpha = upscale_with_alpha(upscale, picture.pixels, picture.alpha, self.scale, region)
        return replace(picture, pixels=pixels, alpha=alpha)

    def _upscale_four_channels(self, picture: Picture, on_tile: OnTile | None, region: Region | None) -> Picture:
        """Upscales alpha and the visible colours together, so that hidden ones under it have no effect."""
        upscaled = self.upscale(frame_of(with_visible_colours(picture)), on_tile=on_tile, roi=region)
        pixels = np.ascontiguousarray(picture_frame(upscaled, picture.pixels.shape[2]))
        return replace(picture, pixels=pixels, alpha=np.ascontiguousarray(upscaled[..., 3]))
