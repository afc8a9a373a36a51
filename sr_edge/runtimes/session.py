"""The one shape that every runtime has: a request in, a session out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Protocol

import numpy as np
import numpy.typing as npt

from sr_edge.bundle import Artifact
from sr_edge.controls import Controls
from sr_edge.errors import PrecisionUnavailable, UsageError
from sr_edge.spec import ActivationType, Control, FrameFormat, Latency, ModelCard, Precision, TileSpec

Batch = npt.NDArray[np.float32]
Frame = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class SessionRequest:
    """What to run and how: one artifact file, and the precision it must run in.

    `artifact` is an ONNX file, except for the torch runtime, where it is a .safetensors file of weights and
    `architecture` says which network they belong to (the card's name where it is empty). `float_precision` is wanted of
    all that is not a convolution or matmul. `threads` None leaves the number to the runtime. `slots` is how many
    tiles may be in flight; None compiles for the latency of one, with a second slot to hide the host's work.
    `options` are the runtime's own settings, by its own names.
    """

    artifact: Path
    card: ModelCard
    tile: TileSpec
    precision: Precision
    float_precision: Precision = Precision.FP32
    activation_type: ActivationType | None = None
    io: FrameFormat = FrameFormat.FLOAT_NCHW
    device: str = "cpu"
    threads: int | None = None
    slots: int | None = None
    allow_other_precision: bool = False
    architecture: str = ""
    options: Mapping[str, str] | None = None

    def __post_init__(self) -> None:
        for name, value in (("threads", self.threads), ("slots", self.slots)):
            if value is not None and value < 1:
                raise UsageError(
                    f"{name} is {value}",
                    found=value,
                    wanted="1 or more",
                    remedy="pass 1 or more, or leave it out for the runtime to choose",
                )
        if not self.artifact.is_file():
            raise UsageError(
                f"no model file at {self.artifact}",
                found=self.artifact,
                wanted="a model file",
                remedy="export one with `sr-edge export`",
            )

    @property
    def inference_precision(self) -> Precision:
        """What is wanted of everything that is not INT8."""
        return self.float_precision if self.precision is Precision.INT8 else self.precision


@dataclass(frozen=True)
class SessionSpec:
    """What was asked for and what really runs.

    `ran` is the arithmetic of the convolutions and matmuls and `float_precision_ran` that of all else, both read from
    the compiled engine, never assumed; `note` says where the engine mixes precisions. `load_ms` is from the
    file to an engine ready to run, without importing the library and without reading `ran`. `overlap_px` is the
    card's: the overlap of tiles, in low-resolution pixels, at which seams were found invisible.
    """

    runtime: str
    version: str
    device: str
    requested: Precision
    ran: Precision
    float_precision_ran: Precision
    io: FrameFormat
    tile: TileSpec
    scale: int
    threads: int
    load_ms: float
    artifact_bytes: int
    note: str = ""
    slots: int = 1
    controls: tuple[Control, ...] = ()
    overlap_px: int = 8


@dataclass(frozen=True)
class StageTimes:
    """Milliseconds of one run: host work before the engine, the engine, host work after it."""

    pre_ms: float
    compute_ms: float
    post_ms: float

    @property
    def total_ms(self) -> float:
        return self.pre_ms + self.compute_ms + self.post_ms


class Session(Protocol):
    """A loaded engine. It owns its input and output buffers; what `run` and `result` return is the caller's.

    Any number of threads may use one session; at most `spec.slots` tiles are in flight at a time.
    """

    @property
    def spec(self) -> SessionSpec: ...

    def run(self, frames: Batch | Frame, controls: Controls | None = None) -> Batch | Frame:
        """Upscales one tile.

        Where `frames` is not in the graph's own format it is converted on the host: uint8 is divided by 255,
        floats are clipped to [0, 1] and rounded to 8 bits. A contiguous, writable array in the graph's own
        format is read in place, so no other thread may change it meanwhile.

        Args:
            frames: float32 (1, 3, height, width) in [0, 1], or uint8 (height, width, 3), both of the session's tile.
            controls: values of the network's named scalars (`spec.controls`); those not named take their defaults.

        Returns:
            The same layout and type as `frames`, `scale` times as large. A fresh array.

        Raises:
            TileError: the shape is not the session's.
            UsageError: another type than the two, a control that the network has not or a value that it does not
                take, or the session is closed.
            EngineError: the runtime failed.
        """
        ...

    def run_staged(self, frames: Batch | Frame, controls: Controls | None = None) -> tuple[Batch | Frame, StageTimes]:
        """`run`, with the time that each stage took."""
        ...

    def submit(self, frames: Batch | Frame, controls: Controls | None = None) -> int:
        """Starts one tile and returns its ticket; blocks while all of the session's slots are in flight.

        `frames` is copied first: the caller may change it as soon as this returns. Raises as `run` does.
        """
        ...

    def result(self, ticket: int) -> Batch | Frame:
        """Waits for `ticket` and returns its output; each ticket can be redeemed once, in any order.

        Raises:
            UsageError: no such ticket, redeemed before, or the session is closed.
            EngineError: the runtime failed on this tile.
        """
        ...

    def measure(self, runs: int = 20, warm_up: int = 3) -> Latency:
        """Latency of `run` on a seeded random tile in the graph's own format, one request at a time."""
        ...

    def close(self) -> None:
        """Waits for what is in flight and frees the engine; closing twice is fine, anything else is an error."""
        ...

    def __enter__(self) -> Session: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


@dataclass(frozen=True)
class Device:
    """One device that a runtime can use: the name to pass, what it is, and the precisions its library can compute.

    `caveats` say of a precision why sessions refuse it all the same for the graphs that sr_edge writes.
    """

    name: str
    description: str
    precisions: tuple[Precision, ...]
    caveats: Mapping[Precision, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Availability:
    """Whether a runtime works here; if not, `reason` and `how_to_install` say why and what to do."""

    works: bool
    version: str = ""
    devices: tuple[Device, ...] = ()
    reason: str = ""
    how_to_install: str = ""


class Runtime(Protocol):
    """What each runtime's module offers; the module imports its library, so it is itself imported lazily."""

    def availability(self) -> Availability:
        """Version and devices of a library that could be imported."""
        ...

    def obstacle(self, precision: Precision, device: str) -> PrecisionUnavailable | None:
        """The error that says why `precision` cannot run on `device` and what to do instead; None where it can.

        Raises:
            RuntimeUnavailable: there is no such device.
        """
        ...

    def choose_artifact(
        self, artifacts: Sequence[Artifact], precision: Precision, float_precision: Precision, io: FrameFormat | None
    ) -> Artifact | None:
        """The artifact of a bundle that this runtime wants for `precision`; None if the bundle has no such."""
        ...

    def open_request(self, request: SessionRequest) -> Session:
        """Compiles the artifact and verifies which precision really runs.

        Raises:
            RuntimeUnavailable: there is no such device.
            PrecisionUnavailable: the precision cannot run here, and no other one is allowed.
            EngineError: the artifact is damaged or the library cannot compile it.
        """
        ...
