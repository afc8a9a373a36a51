"""A session whose output at a pixel depends on its neighbours, so that the borders of tiles show."""

from __future__ import annotations

import itertools
from types import TracebackType
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from sr_edge.controls import Controls
from sr_edge.frames import Batch, Uint8Frame, batch_from_frame, frame_from_batch
from sr_edge.runtimes.session import Latency, Session, SessionSpec, StageTimes
from sr_edge.spec import FrameFormat, Precision, TileSpec

TILE = TileSpec(16, 24)


def noise(dtype: npt.DTypeLike, *shape: int) -> npt.NDArray[Any]:
    return np.random.default_rng(0).integers(0, np.iinfo(np.dtype(dtype)).max + 1, shape).astype(dtype)


class BlurringSession:
    """Repeats each pixel of the mean of 5x5 pixels, `scale` times."""

    def __init__(self, channels: int = 3, tile: TileSpec = TILE, has_uint8_graph: bool = False) -> None:
        self.spec = SessionSpec(
            runtime="fake",
            version="1",
            device="cpu",
            requested=Precision.FP32,
            ran=Precision.FP32,
            float_precision_ran=Precision.FP32,
            io=FrameFormat.FLOAT_NCHW,
            tile=tile,
            scale=2,
            threads=1,
            load_ms=0,
            artifact_bytes=0,
            slots=2,
            overlap_px=4,
            channels=channels,
            has_uint8_graph=has_uint8_graph,
        )
        self.tiles = 0
        self.is_closed = False
        self._tickets = itertools.count()
        self._flying: dict[int, Batch | Uint8Frame] = {}

    def run(self, frames: Batch | Uint8Frame, controls: Controls | None = None) -> Batch | Uint8Frame:
        self.tiles += 1
        if frames.dtype == np.uint8:
            return cast(
                Uint8Frame, frame_from_batch(self._upscaled(batch_from_frame(cast(Uint8Frame, frames))), np.uint8)
            )
        return self._upscaled(cast(Batch, frames))

    def _upscaled(self, batch: Batch) -> Batch:
        padded = np.pad(batch, [(0, 0), (0, 0), (2, 2), (2, 2)], mode="edge")
        windows = np.lib.stride_tricks.sliding_window_view(padded, (5, 5), axis=(2, 3))
        mean = windows.mean(axis=(-2, -1), dtype=np.float32)
        return cast(Batch, mean.repeat(self.spec.scale, axis=2).repeat(self.spec.scale, axis=3))

    def run_staged(
        self, frames: Batch | Uint8Frame, controls: Controls | None = None
    ) -> tuple[Batch | Uint8Frame, StageTimes]:
        return self.run(frames, controls), StageTimes(0, 0, 0)

    def submit(self, frames: Batch | Uint8Frame, controls: Controls | None = None) -> int:
        ticket = next(self._tickets)
        self._flying[ticket] = self.run(frames, controls)
        return ticket

    def result(self, ticket: int) -> Batch | Uint8Frame:
        return self._flying.pop(ticket)

    def measure(self, runs: int = 20, warm_up: int = 3) -> Latency:
        return Latency.from_samples([1.0] * runs)

    def close(self) -> None:
        self.is_closed = True

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
