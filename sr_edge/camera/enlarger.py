"""What makes a frame larger: a network, or bicubic where a cheap answer is wanted."""

from __future__ import annotations

from typing import Protocol

from sr_edge.camera.conversion import RGB_COLOUR, frame_from_rgb, resized, rgb_from_frame
from sr_edge.camera.frame import PixelFormat, VideoFrame
from sr_edge.camera.policy import Dropping, Policy
from sr_edge.camera.turns import FairLock
from sr_edge.controls import Controls
from sr_edge.errors import UsageError
from sr_edge.runtimes.session import Session
from sr_edge.upscaler import Upscaler


class FrameUpscaler(Protocol):
    """Three steps, of which `prepare` and `infer` are done while holding one of `lock`. For any number of threads."""

    @property
    def name(self) -> str: ...

    @property
    def scale(self) -> int: ...

    @property
    def lock(self) -> FairLock:
        """Who may use the engine; streams that share an enlarger share them."""
        ...

    def prepare(self, frame: VideoFrame) -> VideoFrame:
        """The frame as `infer` takes it."""
        ...

    def infer(self, prepared: VideoFrame) -> VideoFrame:
        """`scale` times as large; raises EngineError or FrameError where that fails."""
        ...

    def finish(self, upscaled: VideoFrame, like: VideoFrame) -> VideoFrame:
        """In the pixel format and colour of `like`, the frame that came in."""
        ...


class NetworkFrameUpscaler:
    """A network in an open session, which stays the caller's."""

    def __init__(
        self, session: Session, concurrency: int = 1, overlap_px: int | None = None, controls: Controls | None = None
    ) -> None:
        """Args:
        session: must be open while the enlarger is used.
        concurrency: frames in the engine at a time. 1 gives the least latency; one more than the session has slots
            hides all other work behind the network.
        overlap_px, controls: as `Upscaler` takes them.
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
        self._upscaler = Upscaler(session, overlap_px, controls)

    def prepare(self, frame: VideoFrame) -> VideoFrame:
        form = PixelFormat.RGB if frame.format.bits == 8 else PixelFormat.RGB_16
        return frame.with_planes((rgb_from_frame(frame),), form, RGB_COLOUR)

    def infer(self, prepared: VideoFrame) -> VideoFrame:
        return prepared.with_planes((self._upscaler.upscale(prepared.planes[0]),))

    def finish(self, upscaled: VideoFrame, like: VideoFrame) -> VideoFrame:
        return frame_from_rgb(upscaled.planes[0], like)


def frame_upscaler_for(session: Session, policy: Policy, controls: Controls | None = None) -> NetworkFrameUpscaler:
    """Over a session of this stream's own: under `block` there is always a frame ready for the engine.

    Under other policies one frame at a time: it is the newest when its turn comes.
    """
    concurrency = session.spec.slots + 1 if policy.dropping is Dropping.BLOCK else 1
    return NetworkFrameUpscaler(session, concurrency, controls=controls)


class BicubicFrameUpscaler:
    """Bicubic on the planes as they are, without RGB."""

    def __init__(self, scale: int, concurrency: int = 2) -> None:
        if scale < 1:
            raise UsageError(
                f"scale {scale} is not a magnification", found=scale, wanted=(2, 3, 4), remedy="use 2, 3 or 4"
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
