"""The network of one element: opened from its properties, from one buffer's memory to another's."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sr_edge.camera.enlarger import NetworkFrameUpscaler
from sr_edge.camera.frame import VideoFrame
from sr_edge.errors import UnknownNameError, UsageError
from sr_edge.gstreamer.planes import BufferLayout
from sr_edge.runtimes import find_entry, open_frame_session, preferred_runtime
from sr_edge.spec import Precision

_WARM_UPS = 2


@dataclass(frozen=True)
class NetworkSettings:
    """The element's properties as they are written; empty ones are the defaults."""

    model: str
    runtime: str = ""
    precision: str = ""
    float_precision: str = ""
    device: str = ""
    threads: int = 0


def _checked_precision(text: str) -> Precision:
    """Raises UnknownNameError."""
    try:
        return Precision(text or Precision.FP32)
    except ValueError:
        raise UnknownNameError("precision", text, [known.value for known in Precision]) from None


class GstUpscaler:
    """An open session; for one thread."""

    def __init__(self, settings: NetworkSettings) -> None:
        """Opens the bundle in its runtime.

        Raises:
            UsageError: no model, or an unknown runtime or precision.
            BundleError, EngineError, RuntimeUnavailable: as `open_session`.
        """
        if not settings.model:
            raise UsageError(
                "sredge has no model",
                wanted="NAME.sredge",
                remedy="set model=NAME.sredge, the bundle that `sr-edge deploy` writes",
            )
        runtime = settings.runtime or preferred_runtime()
        self._session = open_frame_session(
            Path(settings.model).expanduser(),
            runtime,
            _checked_precision(settings.precision),
            settings.device or find_entry(runtime).device,
            float_precision=_checked_precision(settings.float_precision),
            threads=settings.threads or None,
        )
        self._frame_upscaler = NetworkFrameUpscaler(self._session)

    @property
    def scale(self) -> int:
        return self._frame_upscaler.scale

    @property
    def name(self) -> str:
        return self._frame_upscaler.name

    def upscale(self, small: memoryview, layout: BufferLayout, large: memoryview, large_layout: BufferLayout) -> None:
        """Writes the frame in `small` to `large`, in the same format and colour.

        Raises:
            EngineError, FrameError: the frame cannot be enlarged.
        """
        frame = VideoFrame(layout.planes(small), layout.format, layout.colour)
        upscaled = self._upscale(frame)
        for target, plane in zip(large_layout.planes(large), upscaled.planes, strict=True):
            np.copyto(target, plane)

    def warmed_up_ms(self, layout: BufferLayout) -> float:
        """Enlarges black frames of this layout, so that the stream's first is no slower; the time that one takes."""
        planes = tuple(
            np.zeros(part.shape(layout.height, layout.width), layout.format.dtype) for part in layout.format.layout
        )
        frame = VideoFrame(planes, layout.format, layout.colour)
        for _ in range(_WARM_UPS):
            started_s = time.perf_counter()
            self._upscale(frame)
            took_s = time.perf_counter() - started_s
        return 1e3 * took_s

    def close(self) -> None:
        self._session.close()

    def _upscale(self, frame: VideoFrame) -> VideoFrame:
        return self._frame_upscaler.finish(self._frame_upscaler.infer(self._frame_upscaler.prepare(frame)), frame)
