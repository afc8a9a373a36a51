"""The engine of one element: opened from the properties, it upscales from one buffer to another."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import numpy as np

from sr_edge.camera.flow.events import ignore_event
from sr_edge.camera.media.frame import VideoFrame
from sr_edge.camera.pipeline.frame_upscaler import NetworkFrameUpscaler
from sr_edge.camera.sources.gst.planes import BufferLayout
from sr_edge.errors import UsageError
from sr_edge.model_sources import EngineChoice, choose_engine, open_engine, open_model, tile_reporter
from sr_edge.spec import FrameFormat, OnEvent
from sr_edge.upscaler.reuse_options import (
    DEFAULT_REFRESH_S,
    DEFAULT_REUSE_MEMORY_BYTES,
    EXACT,
    OFF,
    ReuseOptions,
    parse_memory,
)

_WARM_UP_RUNS = 2
_NANOSECOND = Fraction(1, 1_000_000_000)


@dataclass(frozen=True)
class NetworkSettings:
    """The properties of the element as the user writes them; an empty text or 0 threads select the default."""

    model: str
    runtime: str = ""
    precision: str = ""
    float_precision: str = ""
    device: str = ""
    threads: int = 0
    reuse: str = ""
    reuse_memory: str = ""
    reuse_refresh_s: float = DEFAULT_REFRESH_S
    nv12: bool = False


class GstUpscaler:
    """An open engine, for use by one thread.

    Attributes:
        engine: The engine that was chosen.
        tiles: Number of tiles of all frames that were upscaled.
        reused_tiles: Number of them that were not computed, because they did not change.
        obstacle: Why no tiles are reused; empty if they are, or reuse is off.
    """

    def __init__(
        self, settings: NetworkSettings, on_event: OnEvent = ignore_event, on_tiles: OnEvent = ignore_event
    ) -> None:
        """Opens the bundle or ONNX file in its runtime.

        Args:
            settings: The properties of the element.
            on_event: Called with the reason why frames do not run in the NV12 graph.
            on_tiles: Called with the tiles that frames of each size are cut into, where the model has several sizes of
                tiles or another one would fit better, see `tile_reporter`.

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
        memory_bytes = parse_memory(settings.reuse_memory) if settings.reuse_memory else DEFAULT_REUSE_MEMORY_BYTES
        reuse = ReuseOptions.parse(settings.reuse or EXACT, memory_bytes)
        reuse = replace(reuse, refresh_s=settings.reuse_refresh_s)
        with ExitStack() as resources:
            bundle = resources.enter_context(open_model(Path(settings.model).expanduser()))
            self.engine = choose_engine(bundle, choice)
            self._session = resources.enter_context(open_engine(bundle, self.engine))
            self._nv12_session = (
                resources.enter_context(open_engine(bundle, self.engine, io=FrameFormat.NV12))
                if settings.nv12
                else None
            )
            self._resources = resources.pop_all()
        self._frame_upscaler = NetworkFrameUpscaler(
            self._session,
            reuse=reuse,
            on_tiles=tile_reporter(bundle, on_tiles),
            nv12_session=self._nv12_session,
            on_event=on_event,
        )
        self.tiles = self.reused_tiles = 0
        self.obstacle = ""

    @property
    def scale(self) -> int:
        return self._frame_upscaler.scale

    @property
    def name(self) -> str:
        return self._frame_upscaler.name

    def upscale(
        self,
        source: memoryview,
        source_layout: BufferLayout,
        target: memoryview,
        target_layout: BufferLayout,
        pts_ns: int | None = None,
    ) -> None:
        """Upscales the frame in `source` and writes it to `target`, in the same format and colour.

        Args:
            source: The samples of the frame.
            source_layout: Where its planes are in `source`.
            target: Memory for the upscaled frame.
            target_layout: Where its planes are in `target`.
            pts_ns: The timestamp of the frame, by which kept results are refreshed; None for the time now.

        Raises:
            EngineError, FrameError: The frame cannot be upscaled.
        """
        planes = source_layout.planes(source)
        frame = VideoFrame(planes, source_layout.format, source_layout.colour, pts_ns, _NANOSECOND)
        upscaled = _upscaled(frame, self._frame_upscaler)
        if upscaled.reuse is not None:
            self.tiles += upscaled.reuse.tiles
            self.reused_tiles += upscaled.reuse.tiles - upscaled.reuse.computed
            self.obstacle = upscaled.reuse.statistics.obstacle
        for target_plane, plane in zip(target_layout.planes(target), upscaled.planes, strict=True):
            np.copyto(target_plane, plane)

    def warmed_up_ms(self, layout: BufferLayout) -> float:
        """Upscales black frames of this layout, because the first inferences are slow.

        Returns:
            The processing time of the last one, without reuse: that of a frame in which everything moves.
        """
        planes = tuple(
            np.zeros(plane.shape(layout.height, layout.width), layout.format.dtype) for plane in layout.format.layout
        )
        frame = VideoFrame(planes, layout.format, layout.colour)
        computing = NetworkFrameUpscaler(self._session, reuse=OFF, nv12_session=self._nv12_session)
        for _ in range(_WARM_UP_RUNS):
            started_s = time.perf_counter()
            _upscaled(frame, computing)
            elapsed_s = time.perf_counter() - started_s
        return 1e3 * elapsed_s

    def close(self) -> None:
        self._resources.close()


def _upscaled(frame: VideoFrame, upscaler: NetworkFrameUpscaler) -> VideoFrame:
    return upscaler.finish(upscaler.infer(upscaler.prepare(frame)), frame)
