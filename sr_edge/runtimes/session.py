"""The one shape that every runtime has: a request in, a session out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol

import numpy as np
import numpy.typing as npt

from sr_edge.spec import FrameFormat, Latency, ModelCard, Precision, Spelling, TileSpec

Controls = Mapping[str, float]
Batch = npt.NDArray[np.float32]
Frame = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class SessionRequest:
    """What to run and how: one artifact file, and the precision it must run in.

    `artifact` is an ONNX file, except for the torch runtime, where it is the folder of a bundle's weights.
    `threads` None leaves the number to the runtime. `options` are the runtime's own settings, by its own names.
    """

    artifact: Path
    card: ModelCard
    tile: TileSpec
    precision: Precision
    rest: Precision = Precision.FP32
    spelling: Spelling | None = None
    io: FrameFormat = FrameFormat.FLOAT_NCHW
    device: str = "cpu"
    threads: int | None = None
    allow_other_precision: bool = False
    options: Mapping[str, str] | None = None


@dataclass(frozen=True)
class SessionSpec:
    """What was asked for and what really runs. `ran` is read from the compiled engine, never assumed."""

    runtime: str
    version: str
    device: str
    requested: Precision
    ran: Precision
    rest_ran: Precision
    io: FrameFormat
    tile: TileSpec
    scale: int
    threads: int
    load_ms: float
    artifact_bytes: int
    note: str = ""


class Session(Protocol):
    """A loaded engine. It owns its input and output buffers; what `run` and `result` return is the caller's."""

    @property
    def spec(self) -> SessionSpec: ...

    def run(self, frames: Batch | Frame, controls: Controls | None = None) -> Batch | Frame:
        """Upscales one tile.

        Args:
            frames: float32 (1, 3, height, width) in [0, 1], or uint8 (height, width, 3), both of the session's tile.
            controls: the network's named scalars; None for a network without any.

        Returns:
            The same layout and type as `frames`, `scale` times as large. A fresh array.

        Raises:
            TileError: the shape is not the session's.
        """
        ...

    def submit(self, frames: Batch | Frame, controls: Controls | None = None) -> int:
        """Starts one tile and returns its ticket; blocks while all of the session's slots are in flight."""
        ...

    def result(self, ticket: int) -> Batch | Frame:
        """Waits for `ticket` and returns its output; each ticket can be redeemed once."""
        ...

    def measure(self, runs: int = 20, warm_up: int = 3) -> Latency:
        """Latency of `run` on a seeded random tile, one request at a time."""
        ...

    def close(self) -> None: ...

    def __enter__(self) -> Session: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
