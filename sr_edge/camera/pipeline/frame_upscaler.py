"""Upscalers of video frames: a network in a session, or bicubic interpolation."""

from __future__ import annotations

from typing import Protocol

from sr_edge.camera.flow.drop_policy import Dropping, Policy
from sr_edge.camera.flow.fair_lock import FairLock
from sr_edge.camera.media.conversion import RGB_COLOUR, frame_from_rgb, resized, rgb_from_frame
from sr_edge.camera.media.frame import PixelFormat, VideoFrame
from sr_edge.controls import Controls
from sr_edge.errors import UsageError
from sr_edge.runtimes.session import Session
from sr_edge.upscaler import OnTiles, Upscaler


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


class NetworkFrameUpscaler:
    """A network in an open session, which the caller owns and closes."""

    def __init__(
        self,
        session: Session,
        concurrency: int = 1,
        overlap_px: int | None = None,
        controls: Controls | None = None,
        on_tiles: OnTiles | None = None,
    ) -> None:
        """Creates the upscaler of a session.

        Args:
            session: must be open while the upscaler is used.
            concurrency: frames in the engine at a time. 1 has the lowest latency; one more than the slots of the
                session has the highest throughput, because the conversions overlap with inference.
            overlap_px: see `Upscaler`.
            controls: see `Upscaler`.
            on_tiles: see `Upscaler`.

        Raises:
            UsageError: the concurrency is less than 1.
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
        self._upscaler = Upscaler(session, overlap_px, controls, on_tiles=on_tiles)

    def prepare(self, frame: VideoFrame) -> VideoFrame:
        pixel_format = PixelFormat.RGB if frame.format.bits == 8 else PixelFormat.RGB_16
        return frame.with_planes((rgb_from_frame(frame),), pixel_format, RGB_COLOUR)

    def infer(self, prepared: VideoFrame) -> VideoFrame:
        return prepared.with_planes((self._upscaler.upscale(prepared.planes[0]),))

    def finish(self, upscaled: VideoFrame, like: VideoFrame) -> VideoFrame:
        return frame_from_rgb(upscaled.planes[0], like)


def frame_upscaler_for(
    session: Session, policy: Policy, controls: Controls | None = None, on_tiles: OnTiles | None = None
) -> NetworkFrameUpscaler:
    """The upscaler of a session that one stream uses alone.

    Under `block` a further frame is prepared while the engine is busy. Other policies have one frame in the engine at a
    time, so the next one taken is the newest.

    Args:
        session: An open session.
        policy: The drop policy of the stream.
        controls: Values of the network's controls.
        on_tiles: See `Upscaler`.
    """
    concurrency = session.spec.slots + 1 if policy.dropping is Dropping.BLOCK else 1
    return NetworkFrameUpscaler(session, concurrency, controls=controls, on_tiles=on_tiles)


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
        self.lock = FairLock(concurrency)

    def prepare(self, frame: VideoFrame) -> VideoFrame:
        return frame

    def infer(self, prepared: VideoFrame) -> VideoFrame:
        return resized(prepared, self.scale * prepared.width, self.scale * prepared.height)

    def finish(self, upscaled: VideoFrame, like: VideoFrame) -> VideoFrame:
        return upscaled
