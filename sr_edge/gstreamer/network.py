"""The engine of one element: opened from the properties, it upscales from one buffer to another."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sr_edge.camera.flow.events import ignore_event
from sr_edge.camera.media.frame import VideoFrame
from sr_edge.camera.pipeline.frame_upscaler import NetworkFrameUpscaler
from sr_edge.camera.sources.gst.planes import BufferLayout
from sr_edge.errors import UsageError
from sr_edge.model_sources import EngineChoice, choose_engine, open_engine, open_model
from sr_edge.spec import FrameFormat, OnEvent

_WARM_UP_RUNS = 2


@dataclass(frozen=True)
class NetworkSettings:
    """The properties of the element as the user writes them; an empty text or 0 selects the default."""

    model: str
    runtime: str = ""
    precision: str = ""
    float_precision: str = ""
    device: str = ""
    threads: int = 0
    nv12: bool = False


class GstUpscaler:
    """An open engine, for use by one thread."""

    def __init__(self, settings: NetworkSettings, on_event: OnEvent = ignore_event) -> None:
        """Opens the bundle or ONNX file in its runtime.

        Args:
            settings: The properties of the element.
            on_event: Called with the reason why frames do not run in the NV12 graph.

        Raises:
            UsageError: No model is set, or the runtime or precision is unknown.
            PrecisionUnavailable: `nv12` is set, and the bundle has no NV12 graph that can run here.
            BundleError, ExportError, EngineError, RuntimeUnavailable: As raised by `open_model` and `open_engine`.
        """
        if not settings.model:
            raise UsageError(
                "sredge has no model",
                wanted="NAME.sredge",
                remedy="set model=NAME.sredge, the bundle that `sr-edge deploy` writes, or an ONNX file",
            )
        choice = EngineChoice.read(
            settings.runtime,
            settings.precision,
            settings.float_precision,
            settings.device,
            settings.threads or None,
        )
        with ExitStack() as resources:
            bundle = resources.enter_context(open_model(Path(settings.model).expanduser()))
            self.engine = choose_engine(bundle, choice)
            session = resources.enter_context(open_engine(bundle, self.engine))
            nv12_session = (
                resources.enter_context(open_engine(bundle, self.engine, io=FrameFormat.NV12))
                if settings.nv12
                else None
            )
            self._resources = resources.pop_all()
        self._frame_upscaler = NetworkFrameUpscaler(session, nv12_session=nv12_session, on_event=on_event)

    @property
    def scale(self) -> int:
        return self._frame_upscaler.scale

    @property
    def name(self) -> str:
        return self._frame_upscaler.name

    def upscale(
        self, source: memoryview, source_layout: BufferLayout, target: memoryview, target_layout: BufferLayout
    ) -> None:
        """Upscales the frame in `source` and writes it to `target`, in the same format and colour.

        Raises:
            EngineError, FrameError: The frame cannot be upscaled.
        """
        frame = VideoFrame(source_layout.planes(source), source_layout.format, source_layout.colour)
        upscaled = self._upscale(frame)
        for target_plane, plane in zip(target_layout.planes(target), upscaled.planes, strict=True):
            np.copyto(target_plane, plane)

    def warmed_up_ms(self, layout: BufferLayout) -> float:
        """Upscales black frames of this layout, because the first inferences are slow.

        Returns:
            The processing time of the last one.
        """
        planes = tuple(
            np.zeros(plane.shape(layout.height, layout.width), layout.format.dtype) for plane in layout.format.layout
        )
        frame = VideoFrame(planes, layout.format, layout.colour)
        for _ in range(_WARM_UP_RUNS):
            started_s = time.perf_counter()
            self._upscale(frame)
            elapsed_s = time.perf_counter() - started_s
        return 1e3 * elapsed_s

    def close(self) -> None:
        self._resources.close()

    def _upscale(self, frame: VideoFrame) -> VideoFrame:
        return self._frame_upscaler.finish(self._frame_upscaler.infer(self._frame_upscaler.prepare(frame)), frame)
