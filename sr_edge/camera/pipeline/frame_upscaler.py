"""Upscalers of video frames: a network in a session, or bicubic interpolation."""

from __future__ import annotations

from copy import copy
from dataclasses import replace
from typing import Protocol

from sr_edge.camera.flow.drop_policy import Dropping, Policy
from sr_edge.camera.flow.events import ignore_event
from sr_edge.camera.flow.fair_lock import FairLock
from sr_edge.camera.media.conversion import (
    RGB_COLOUR,
    frame_from_rgb,
    nv12_obstacle,
    nv12_planes,
    resized,
    rgb_from_frame,
)
from sr_edge.camera.media.frame import PixelFormat, VideoFrame
from sr_edge.controls import Controls
from sr_edge.errors import UsageError
from sr_edge.nv12.frames import Nv12Frame
from sr_edge.runtimes.session import Session, SessionSpec
from sr_edge.spec import OnEvent, Precision
from sr_edge.upscaler import OnTiles, Upscaler
from sr_edge.upscaler.reuse import FrameReuse
from sr_edge.upscaler.reuse_options import EXACT, ReuseOptions
from sr_edge.upscaler.tile_choice import choose_tiles


class FrameUpscaler(Protocol):
    """Upscales a frame in three steps. Safe for use from any number of threads.

    `prepare` and `infer` are called while holding `lock`, `finish` without it.
    """

    @property
    def name(self) -> str:
        """The name in messages, such as "openvino int8"."""
        ...

    @property
    def scale(self) -> int:
        """The magnification."""
        ...

    @property
    def lock(self) -> FairLock:
        """The lock of the engine. Streams that share an upscaler share its lock."""
        ...

    @property
    def reuse(self) -> ReuseOptions:
        """Which tiles are reused from frame to frame."""
        ...

    def prepare(self, frame: VideoFrame) -> VideoFrame:
        """Converts a frame to the input of `infer`."""
        ...

    def infer(self, prepared: VideoFrame) -> VideoFrame:
        """Returns a frame with `scale` times the width and height.

        Raises:
            EngineError: the runtime failed.
            FrameError: the frame does not suit the engine.
        """
        ...

    def finish(self, upscaled: VideoFrame, like: VideoFrame) -> VideoFrame:
        """Converts the result to the pixel format and colour of `like`, the frame that `prepare` was given."""
        ...

    def for_stream(self) -> FrameUpscaler:
        """The upscaler for one more stream: the same engine and lock, and its own store of tiles to reuse."""
        ...

    def count_changed(self, frame: VideoFrame) -> int | None:
        """The number of tiles that `infer` would compute for a frame; None if that is not known beforehand.

        Called without the lock, with a frame as `prepare` takes it.
        """
        ...


class NetworkFrameUpscaler:
    """A network in an open session, which the caller owns and closes."""

    def __init__(
        self,
        session: Session,
        concurrency: int = 1,
        overlap_px: int | None = None,
        controls: Controls | None = None,
        reuse: ReuseOptions | str | float = EXACT,
        on_tiles: OnTiles | None = None,
        *,
        nv12_session: Session | None = None,
        on_event: OnEvent = ignore_event,
    ) -> None:
        """Creates the upscaler of a session.

        Args:
            session: must be open while the upscaler is used.
            concurrency: frames in the engine at a time. 1 has the lowest latency; one more than the slots of the
                session has the highest throughput, because the conversions overlap with inference.
            overlap_px: see `Upscaler`.
            controls: see `Upscaler`.
            reuse: see `Upscaler`. Each stream reuses its own tiles, in the memory of these options for both sessions.
            on_tiles: see `Upscaler`.
            nv12_session: a session over the graph of the same network that converts NV12 frames itself. It runs the
                8-bit 4:2:0 frames with its matrix and range, in its tile, and `session` all others.
            on_event: called once for each reason why frames do not run in the `nv12_session`, or in the tile that
                `session` has for them.

        Raises:
            UsageError: the concurrency is less than 1, or there is no such mode of reuse.
        """
        if concurrency < 1:
            raise UsageError(
                f"concurrency={concurrency} is less than 1",
                found=concurrency,
                wanted="1 or more",
                remedy="give 1 or more",
            )
        spec = session.spec
        self.name = f"{spec.runtime} {spec.ran}"
        self.scale = spec.scale
        self.lock = FairLock(concurrency)
        self.reuse = ReuseOptions.parse(reuse)
        self._upscaler = Upscaler(session, overlap_px, controls, reuse=self.reuse, on_tiles=on_tiles)
        self._nv12 = None if nv12_session is None else self._upscaler.with_session(nv12_session)
        self._overlap_px = spec.overlap_px if overlap_px is None else overlap_px
        self._on_event = on_event
        self._reported: set[str] = set()

    def for_stream(self) -> NetworkFrameUpscaler:
        stream = copy(self)
        stream._upscaler = self._upscaler.with_own_reuse()
        stream._nv12 = None if self._nv12 is None else stream._upscaler.with_session(self._nv12.session)
        return stream

    def count_changed(self, frame: VideoFrame) -> int | None:
        prepared = self.prepare(frame)
        if self._nv12 is not None and prepared.format is PixelFormat.NV12:
            return self._nv12.count_changed(Nv12Frame(*prepared.planes), frame.time_s)
        return self._upscaler.count_changed(prepared.planes[0], frame.time_s)

    def prepare(self, frame: VideoFrame) -> VideoFrame:
        if self._nv12 is not None and self._takes_nv12(frame, self._nv12.session.spec):
            return frame.with_planes(nv12_planes(frame), PixelFormat.NV12)
        pixel_format = PixelFormat.RGB if frame.format.bits == 8 else PixelFormat.RGB_16
        return frame.with_planes((rgb_from_frame(frame),), pixel_format, RGB_COLOUR)

    def infer(self, prepared: VideoFrame) -> VideoFrame:
        reuses: list[FrameReuse] = []
        if self._nv12 is not None and prepared.format is PixelFormat.NV12:
            luma, chroma = prepared.planes
            upscaled = self._nv12.upscale_nv12(luma, chroma, on_reuse=reuses.append, time_s=prepared.time_s)
            prepared = prepared.with_planes((upscaled,), PixelFormat.RGB, RGB_COLOUR)
        else:
            upscaled = self._upscaler.upscale(prepared.planes[0], on_reuse=reuses.append, time_s=prepared.time_s)
            prepared = prepared.with_planes((upscaled,))
        return replace(prepared, reuse=reuses[0] if reuses else None)

    def finish(self, upscaled: VideoFrame, like: VideoFrame) -> VideoFrame:
        return replace(frame_from_rgb(upscaled.planes[0], like), reuse=upscaled.reuse)

    def _takes_nv12(self, frame: VideoFrame, spec: SessionSpec) -> bool:
        """Whether the graph that converts NV12 frames takes this one; the first time, the event says why not."""
        if spec.nv12_colour is None:
            return False
        obstacle = nv12_obstacle(frame, spec.nv12_colour, spec.tile)
        if Precision.BF16 in (spec.ran, spec.float_precision_ran):
            obstacle = "the engine computes in bf16, which is too coarse for the conversion"
        if obstacle:
            self._report_once(f"frames are converted to RGB before the graph: {obstacle}")
            return False
        rgb_tile = choose_tiles(self._upscaler.session.spec, frame.height, frame.width, self._overlap_px).plan.tile
        if rgb_tile != spec.tile:
            self._report_once(
                f"NV12 frames are cut into tiles of {spec.tile}, since other tiles have no NV12 graph; converted to "
                f"RGB, they would be cut into tiles of {rgb_tile}"
            )
        return True

    def _report_once(self, event: str) -> None:
        if event not in self._reported:
            self._reported.add(event)
            self._on_event(event)


def frame_upscaler_for(
    session: Session,
    policy: Policy,
    controls: Controls | None = None,
    reuse: ReuseOptions | str | float = EXACT,
    on_tiles: OnTiles | None = None,
    *,
    nv12_session: Session | None = None,
    on_event: OnEvent = ignore_event,
) -> NetworkFrameUpscaler:
    """The upscaler of a session that one stream uses alone.

    Under `block` a further frame is prepared while the engine is busy. Other policies have one frame in the engine at a
    time, so the next one taken is the newest.

    Args:
        session: An open session.
        policy: The drop policy of the stream.
        controls: Values of the network's controls.
        reuse: Which tiles are reused, see `Upscaler`.
        on_tiles: See `Upscaler`.
        nv12_session: As for `NetworkFrameUpscaler`.
        on_event: As for `NetworkFrameUpscaler`.
    """
    concurrency = session.spec.slots + 1 if policy.dropping is Dropping.BLOCK else 1
    return NetworkFrameUpscaler(
        session,
        concurrency,
        controls=controls,
        reuse=reuse,
        on_tiles=on_tiles,
        nv12_session=nv12_session,
        on_event=on_event,
    )


class BicubicFrameUpscaler:
    """Bicubic interpolation of the planes, without conversion to RGB."""

    def __init__(self, scale: int, concurrency: int = 2) -> None:
        """Creates the upscaler.

        Args:
            scale: the magnification.
            concurrency: frames that may be upscaled at a time.

        Raises:
            UsageError: the scale is less than 1.
        """
        if scale < 1:
            raise UsageError(
                f"the scale must be at least 1, but is {scale}", found=scale, wanted="1 or more", remedy="use 1 or more"
            )
        self.name = "bicubic"
        self.scale = scale
        self.reuse = ReuseOptions()
        self.lock = FairLock(concurrency)

    def prepare(self, frame: VideoFrame) -> VideoFrame:
        return frame

    def infer(self, prepared: VideoFrame) -> VideoFrame:
        return resized(prepared, self.scale * prepared.width, self.scale * prepared.height)

    def finish(self, upscaled: VideoFrame, like: VideoFrame) -> VideoFrame:
        return upscaled

    def for_stream(self) -> FrameUpscaler:
        return self

    def count_changed(self, frame: VideoFrame) -> int | None:
        return None
