"""The session that a benchmark of the picture path runs: of a bundle, or synthetic, taking a given time a tile."""

from __future__ import annotations

import argparse
import itertools
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

import numpy as np

from sr_edge.controls import Controls
from sr_edge.errors import TileError
from sr_edge.frames import Batch, Uint8Frame
from sr_edge.model_sources import open_session
from sr_edge.runtimes import Session, SessionSpec, StageTimes
from sr_edge.runtimes.session import Latency
from sr_edge.spec import FrameFormat, Precision, TileSpec

SYNTHETIC_SLOTS = 2


def add_session_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options that `chosen_session` reads."""
    parser.add_argument("--bundle", type=Path, help="bundle to run; without one, the session is synthetic")
    parser.add_argument("--runtime", default="openvino")
    parser.add_argument("--precision", type=Precision, choices=list(Precision), default=Precision.FP32)
    parser.add_argument("--io", type=FrameFormat, choices=list(FrameFormat), help="frame format; float is preferred")
    parser.add_argument("--threads", type=int)
    parser.add_argument(
        "--overlap", type=int, help="overlap of tiles in low-resolution pixels; by default that of the network"
    )
    parser.add_argument("--tile", type=TileSpec.parse, default=TileSpec(360, 640), help="of the synthetic session")
    parser.add_argument("--scale", type=int, default=2, help="of the synthetic session")
    parser.add_argument("--network-ms", type=float, default=40.0, help="time of the synthetic session for one tile")


def chosen_session(args: argparse.Namespace) -> Session:
    """Opens the session; the caller closes it."""
    if args.bundle is None:
        return SyntheticSession(args.tile, args.scale, args.network_ms)
    return open_session(args.bundle, args.runtime, args.precision, io=args.io, threads=args.threads)


class SyntheticSession:
    """Takes uint8 tiles, sleeps as a device that computes elsewhere would, and writes a fresh tile."""

    def __init__(self, tile: TileSpec, scale: int, network_ms: float) -> None:
        self._network_s = network_ms / 1e3
        self._out_shape = (tile.height * scale, tile.width * scale, 3)
        self._engine = ThreadPoolExecutor(1)
        self._flying: dict[int, Future[Uint8Frame]] = {}
        self._tickets = itertools.count()
        self._spec = SessionSpec(
            runtime="synthetic",
            version="",
            device="none",
            requested=Precision.FP32,
            ran=Precision.FP32,
            float_precision_ran=Precision.FP32,
            io=FrameFormat.UINT8_NHWC,
            tile=tile,
            scale=scale,
            threads=1,
            load_ms=0.0,
            artifact_bytes=0,
            note=f"sleeps {network_ms:g} ms a tile",
            slots=SYNTHETIC_SLOTS,
        )

    @property
    def spec(self) -> SessionSpec:
        return self._spec

    def _compute(self, frames: Batch | Uint8Frame) -> Uint8Frame:
        if frames.dtype != np.uint8 or frames.shape != (self._spec.tile.height, self._spec.tile.width, 3):
            raise TileError(
                f"the synthetic session takes uint8 tiles of {self._spec.tile}, not {frames.dtype} {frames.shape}",
                found=frames.shape,
                wanted=(self._spec.tile.height, self._spec.tile.width, 3),
            )
        started = time.perf_counter()
        upscaled = np.full(self._out_shape, frames[0, 0, 0], np.uint8)
        time.sleep(max(0.0, self._network_s - (time.perf_counter() - started)))
        return upscaled

    def run(self, frames: Batch | Uint8Frame, controls: Controls | None = None) -> Batch | Uint8Frame:
        return self._compute(frames)

    def run_staged(
        self, frames: Batch | Uint8Frame, controls: Controls | None = None
    ) -> tuple[Batch | Uint8Frame, StageTimes]:
        started = time.perf_counter()
        upscaled = self._compute(frames)
        return upscaled, StageTimes(0.0, 1e3 * (time.perf_counter() - started), 0.0)

    def submit(self, frames: Batch | Uint8Frame, controls: Controls | None = None) -> int:
        """One tile computes at a time, as on one engine; up to `SYNTHETIC_SLOTS` wait for it."""
        ticket = next(self._tickets)
        self._flying[ticket] = self._engine.submit(self._compute, frames.copy())
        return ticket

    def result(self, ticket: int) -> Batch | Uint8Frame:
        return self._flying.pop(ticket).result()

    def measure(self, runs: int = 20, warm_up: int = 3) -> Latency:
        frames = np.zeros((self._spec.tile.height, self._spec.tile.width, 3), np.uint8)
        return Latency.from_samples([self.run_staged(frames)[1].compute_ms for _ in range(warm_up + runs)][warm_up:])

    def close(self) -> None:
        self._engine.shutdown()

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
