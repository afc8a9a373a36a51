"""The interface of all runtimes: a `SessionRequest` opens a `Session`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Protocol

from sr_edge.bundle import Artifact, TileTime
from sr_edge.controls import Controls
from sr_edge.errors import PrecisionUnavailable, UsageError
from sr_edge.frames import Batch, Uint8Frame
from sr_edge.nv12.colour import Nv12Colour, require_nv12_colour
from sr_edge.quantities import whole_number
from sr_edge.reuse_table import ReuseTable
from sr_edge.spec import (
    CHANNEL_NAMES,
    RGB,
    ActivationType,
    Control,
    FrameFormat,
    ModelCard,
    Precision,
    TileSpec,
    take_names,
)


@dataclass(frozen=True)
class SessionRequest:
    """The artifact to open, the precision that it must run in, and the resources that it may use.

    Attributes:
        artifact: an ONNX file; for the torch runtime a .safetensors file of weights.
        card: the model card.
        tile: size of the input.
        precision: precision of convolutions and matrix multiplications.
        float_precision: precision of the other operators of an INT8 network.
        activation_type: type of the quantized activations; None for a float network.
        io: frame format of the graph.
        device: device of the runtime.
        threads: number of threads on the CPU; None leaves it to the runtime.
        slots: number of tiles that may be in flight; None optimizes for the latency of one tile, with a second slot so
            that the conversion on the host overlaps with the engine.
        allow_other_precision: open the session even if the graph runs in another precision.
        architecture: name of the network that the weights belong to. If empty, the name in the model card is used.
        options: runtime-specific options, with the names that the runtime uses.
        nv12_colour: matrix and range of NV12 frames; None for other formats.
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
    nv12_colour: Nv12Colour | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "tile", TileSpec.of(self.tile))
        take_names(self, precision=Precision, float_precision=Precision, activation_type=ActivationType, io=FrameFormat)
        take_names(self, nv12_colour=Nv12Colour)
        require_nv12_colour(self.io, self.nv12_colour)
        for name, value in (("threads", self.threads), ("slots", self.slots)):
            if value is not None:
                whole_number(value, name, 1, "pass 1 or more, or leave it out for the runtime to choose")
        if not self.artifact.is_file():
            raise UsageError(
                f"no model file at {self.artifact}",
                found=self.artifact,
                wanted="a model file",
                remedy="export one with `sr-edge export`",
            )

    @property
    def inference_precision(self) -> Precision:
        """The requested precision of all operators that are not INT8."""
        return self.float_precision if self.precision is Precision.INT8 else self.precision


@dataclass(frozen=True)
class SessionSpec:
    """What was requested and what runs.

    Attributes:
        runtime: name of the runtime.
        version: version of its library.
        device: device that it runs on.
        io: frame format of the graph.
        tile: size of the input.
        scale: magnification.
        threads: number of threads on the CPU.
        artifact_bytes: size of the file that was opened.
        controls: scalars that the user sets at run time.
        requested: the requested precision.
        ran: precision of the convolutions and matrix multiplications, read from the compiled engine.
        float_precision_ran: precision of the other operators, read from the compiled engine.
        load_ms: time from the file to an engine that is ready to run, without the import of the library and without
            the inspection of the engine.
        note: remark on an engine that mixes precisions.
        slots: number of tiles that may be in flight.
        overlap_px: overlap of neighbouring tiles in low-resolution pixels at which no seams are visible, from the card.
        channels: number of channels of input and output, from the card: 1 (luma), 3 (RGB) or 4 (RGB with alpha).
        has_uint8_graph: whether uint8 frames run in a graph of their own, without conversion to float on the host.
        tiles: sizes of input that the session takes, the main one first; empty if `tile` is the only one.
        tile_times: the measured time of each of them; empty if they were not measured on this machine.
        reuse_table: what it costs to reuse the results of changed tiles, from the card; None if it was not measured.
        nv12_colour: matrix and range of the frames of a graph that takes packed NV12 tiles; None for other graphs.
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
    channels: int = RGB
    has_uint8_graph: bool = False
    tiles: tuple[TileSpec, ...] = ()
    tile_times: tuple[TileTime, ...] = ()
    reuse_table: ReuseTable | None = None
    nv12_colour: Nv12Colour | None = None

    def __str__(self) -> str:
        """What runs where: "openvino on cpu: int8+bf16, x2, tile 96x96"."""
        is_mixed = self.float_precision_ran not in (self.ran, Precision.FP32)
        ran = f"{self.ran}+{self.float_precision_ran}" if is_mixed else str(self.ran)
        instead = "" if self.ran is self.requested else f" instead of {self.requested}"
        channels = "" if self.channels == RGB else f", {CHANNEL_NAMES[self.channels]}"
        tiles = f"tiles {' and '.join(map(str, self.tiles))}" if len(self.tiles) > 1 else f"tile {self.tile}"
        return f"{self.runtime} on {self.device}: {ran}{instead}, x{self.scale}, {tiles}{channels}"


@dataclass(frozen=True)
class StageTimes:
    """Times of one run in milliseconds: the host's work before the engine, the engine, and the host's work after it.

    Attributes:
        pre_ms: Before the engine.
        compute_ms: The engine.
        post_ms: After the engine.
    """

    pre_ms: float
    compute_ms: float
    post_ms: float

    @property
    def total_ms(self) -> float:
        """All three together."""
        return self.pre_ms + self.compute_ms + self.post_ms


@dataclass(frozen=True)
class Latency:
    """Wall-clock milliseconds of one stage over `runs` repetitions, warm-up excluded."""

    min_ms: float
    p50_ms: float
    p90_ms: float
    p99_ms: float
    mean_ms: float
    runs: int

    @classmethod
    def from_samples(cls, samples_ms: Sequence[float]) -> Latency:
        """Computes percentiles by linear interpolation; raises UsageError without samples."""
        if not samples_ms:
            raise UsageError(
                "there are no latency samples to summarize", found=0, wanted=1, remedy="request at least one run"
            )
        ordered = sorted(samples_ms)

        def percentile(share: float) -> float:
            position = share * (len(ordered) - 1)
            below = int(position)
            above = min(below + 1, len(ordered) - 1)
            return ordered[below] + (position - below) * (ordered[above] - ordered[below])

        return cls(
            min_ms=ordered[0],
            p50_ms=percentile(0.50),
            p90_ms=percentile(0.90),
            p99_ms=percentile(0.99),
            mean_ms=sum(ordered) / len(ordered),
            runs=len(ordered),
        )


class Session(Protocol):
    """A loaded engine with its own input and output buffers.

    The arrays that `run` and `result` return belong to the caller. Any number of threads may use one session. At most
    `spec.slots` tiles are in flight at a time.
    """

    @property
    def spec(self) -> SessionSpec:
        """What was requested and what runs."""
        ...

    def run(self, frames: Batch | Uint8Frame, controls: Controls | None = None) -> Batch | Uint8Frame:
        """Upscales one tile.

        Frames in another format than the graph's are converted on the host: uint8 values are divided by 255, and
        floats are clipped to [0, 1] and rounded to 8 bits. A contiguous, writable array in the graph's format is read
        in place, so no other thread may change it meanwhile.

        Args:
            frames: float32 (1, channels, height, width) in [0, 1], or uint8 (height, width, channels), of the session's
                tile and with the channels of the network (`spec.channels`). `sr_edge.Upscaler` converts pictures. A
                graph of NV12 frames takes only packed tiles, as `sr_edge.nv12.Nv12Frame.cut` makes them.
            controls: values of the network's named scalars (`spec.controls`); the others have their defaults.

        Returns:
            A new array of the same layout and type as `frames`, `scale` times as large; for NV12 tiles uint8
            (height, width, 3).

        Raises:
            TileError: the shape is not that of the session's tile.
            UsageError: the type is neither of the two, the network has no such control or does not accept its value, or
                the session is closed.
            EngineError: the runtime failed.
        """
        ...

    def run_staged(
        self, frames: Batch | Uint8Frame, controls: Controls | None = None
    ) -> tuple[Batch | Uint8Frame, StageTimes]:
        """Same as `run`, but also returns the time of each stage."""
        ...

    def submit(self, frames: Batch | Uint8Frame, controls: Controls | None = None) -> int:
        """Starts one tile and returns its ticket; blocks while all slots of the session are in flight.

        `frames` is copied: the caller may change it as soon as this returns. Raises as `run` does.
        """
        ...

    def result(self, ticket: int) -> Batch | Uint8Frame:
        """Waits for the tile of `ticket` and returns its output; each ticket is valid once, in any order.

        Raises:
            UsageError: the ticket was never issued or its result was taken already, or the session is closed.
            EngineError: the runtime failed on this tile.
        """
        ...

    def measure(self, runs: int = 20, warm_up: int = 3) -> Latency:
        """Measures the latency of `run`, one tile at a time, on a seeded random tile in the graph's format."""
        ...

    def close(self) -> None:
        """Waits for the tiles in flight and frees the engine. Every later call but `close` raises UsageError."""
        ...

    def __enter__(self) -> Session: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


@dataclass(frozen=True)
class Device:
    """A device that a runtime can use.

    Attributes:
        name: the name to open it by.
        description: the hardware.
        precisions: precisions that the library can compute on it.
        caveats: maps a precision that the library supports, but that sr-edge sessions refuse on this device, to the
            reason.
    """

    name: str
    description: str
    precisions: tuple[Precision, ...]
    caveats: Mapping[Precision, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Availability:
    """Whether a runtime works on this machine; `reason` and `how_to_install` explain why not, and what to do.

    Attributes:
        works: Whether the runtime can be used.
        version: Version of its library.
        devices: Devices that it can use.
        reason: Why it does not work.
        how_to_install: The command that installs it.
    """

    works: bool
    version: str = ""
    devices: tuple[Device, ...] = ()
    reason: str = ""
    how_to_install: str = ""


class Runtime(Protocol):
    """The functions that the module of a runtime provides.

    Importing such a module imports the vendor library, so it is imported only when the runtime is used.
    """

    def availability(self) -> Availability:
        """Returns the version and the devices of the library, which has already been imported successfully."""
        ...

    def obstacle(self, precision: Precision, device: str) -> PrecisionUnavailable | None:
        """The error to raise because `precision` cannot run on `device`; None if it can.

        Raises:
            RuntimeUnavailable: the device does not exist.
        """
        ...

    def choose_artifact(
        self, artifacts: Sequence[Artifact], precision: Precision, float_precision: Precision, io: FrameFormat | None
    ) -> Artifact | None:
        """Selects the artifact of a bundle that this runtime opens for `precision`; None if the bundle has none."""
        ...

    def open_request(self, request: SessionRequest) -> Session:
        """Compiles the artifact and verifies in which precision it runs.

        Raises:
            RuntimeUnavailable: the device does not exist.
            PrecisionUnavailable: the precision cannot run here, and the request allows no other one.
            EngineError: the artifact is damaged or the library cannot compile it.
        """
        ...
