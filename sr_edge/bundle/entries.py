"""The entries of a manifest: artifacts, golden frames, measurements and the origin of INT8 scales."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import PurePosixPath

from sr_edge.errors import BundleError
from sr_edge.nv12.colour import Nv12Colour, require_nv12_colour
from sr_edge.spec import ActivationType, FrameFormat, Precision, TileSpec, take_names

_MAX_NAME_BYTES = 240
"""The longest name that every file system stores, with room for the folder in front of it."""

GOLDEN_MIN_PSNR_DB: Mapping[Precision, float] = {
    Precision.FP32: 60.0,
    Precision.FP16: 45.0,
    Precision.BF16: 35.0,
    Precision.INT8: 35.0,
}
"""Least PSNR for a pass: rounding errors stay well above these limits, whereas wrong arithmetic is below 30 dB."""


class ArtifactKind(str, Enum):
    """Format of an artifact: an ONNX graph, or the weights of a PyTorch network as safetensors."""

    ONNX = "onnx"
    WEIGHTS = "weights"

    def __str__(self) -> str:
        return self.value


def require_inner_path(file: str) -> None:
    """Raises BundleError unless `file` is a plain relative path, of printable characters, that stays in the bundle."""
    path = PurePosixPath(file)
    is_inside = file == str(path) and not path.is_absolute() and path.parts != () and ".." not in path.parts
    is_portable = file.isprintable() and not set(file) & set("\\:") and len(file.encode()) <= _MAX_NAME_BYTES
    if not is_inside or not is_portable:
        raise BundleError(
            f"the bundle is unsafe: it refers to {file!r}, which is not a file inside it",
            found=file,
            wanted="a relative path inside the bundle",
            remedy="obtain it again from a source that you trust",
        )


def _require_digest(sha256: str, file: str) -> None:
    if re.fullmatch(r"[0-9a-f]{64}", sha256) is None:
        raise BundleError(
            f"the SHA-256 of {file!r} in the manifest is {sha256!r} instead of 64 hexadecimal digits",
            found=sha256,
            wanted="64 hexadecimal digits",
            remedy="deploy again",
        )


@dataclass(frozen=True)
class Artifact:
    """One file that a runtime can open.

    Attributes:
        file: Path inside the bundle.
        kind: Format of the file.
        precision: Precision of convolutions and matrix multiplications.
        float_precision: Precision of all operators that are not INT8.
        activation_type: Data type of INT8 activations; None for a float graph.
        io: Format of input and output.
        shape: Shape of the RGB tile in NCHW order, whatever `io` is.
        sha256: Digest of the file.
        runtimes: Names of the runtimes that the file was made for, which prefer it; empty if it is for all of them.
        passes: Names of the passes that made the graph faster (`sr_edge.export.passes.speed_passes`), in order.
        nv12_colour: Matrix and range of the frames of a graph with NV12 input; None for other formats.
    """

    file: str
    kind: ArtifactKind
    precision: Precision
    float_precision: Precision
    activation_type: ActivationType | None
    io: FrameFormat
    shape: tuple[int, int, int, int]
    sha256: str
    runtimes: tuple[str, ...] = ()
    passes: tuple[str, ...] = ()
    nv12_colour: Nv12Colour | None = None

    def __post_init__(self) -> None:
        take_names(self, kind=ArtifactKind, precision=Precision, float_precision=Precision)
        take_names(self, activation_type=ActivationType, io=FrameFormat, nv12_colour=Nv12Colour)
        require_nv12_colour(self.io, self.nv12_colour)
        require_inner_path(self.file)
        _require_digest(self.sha256, self.file)

    @property
    def tile(self) -> TileSpec:
        """Input size of the graph; that of the bundle's main tile for weights, which have none."""
        return TileSpec(*self.shape[2:])

    def for_all_runtimes(self) -> Artifact:
        """This artifact as it would be without a choice of runtimes, to compare it with others."""
        return replace(self, file="model", sha256="0" * 64, runtimes=(), passes=())


@dataclass(frozen=True)
class PassMeasurement:
    """What the passes gain in one runtime and precision, as it was measured when the bundle was made.

    Attributes:
        runtime: Name of the runtime.
        precision: Precision of the graph.
        passes: The passes of the graph that the runtime opens; empty for the graph without any.
        base: The passes of the graph that it was compared with: none, unless that graph could not be timed, or is INT8.
        time_ratio: Median of its time divided by that of this graph, round by round.
        interval: The 95 % interval of that median.
        rounds: Number of rounds; 0 if nothing could be timed, and then `time_ratio` and `interval` are 1.
        cpu: The processor.
        version: Version of the runtime.
        remark: What could not be timed, and why; empty if everything was.
    """

    runtime: str
    precision: Precision
    passes: tuple[str, ...]
    base: tuple[str, ...]
    time_ratio: float
    interval: tuple[float, float]
    rounds: int
    cpu: str
    version: str
    remark: str = ""

    def __post_init__(self) -> None:
        take_names(self, precision=Precision)
        low, high = self.interval
        if self.rounds < 0 or not 0 < low <= self.time_ratio <= high < math.inf:
            raise BundleError(
                f"the measurement of passes in {self.runtime} has a ratio of times of {self.time_ratio} in {low} to "
                f"{high}, after {self.rounds} rounds",
                found=(self.time_ratio, low, high, self.rounds),
                wanted="a finite ratio above 0 in its interval",
                remedy="deploy again",
            )

    def __str__(self) -> str:
        """What was chosen and gained: "channel-first: 0.52 of the time of the plain graph (0.50 to 0.54)"."""
        names, remark = ", ".join(self.passes), f" ({self.remark})" if self.remark else ""
        if not self.rounds:
            return f"{self.precision} with {names or 'no passes'}, as in all runtimes{remark}"
        if self.passes == self.base:
            return f"{self.precision}: no pass is faster than the graph of all runtimes{remark}"
        low, high = self.interval
        base = f"graph with {', '.join(self.base)}" if self.base else "plain graph"
        ratio = f"{self.time_ratio:.2f} of the time of the {base} ({low:.2f} to {high:.2f})"
        return f"{self.precision} with {names or 'no passes'}: {ratio}{remark}"


@dataclass(frozen=True)
class GoldenFrame:
    """A low-resolution tile and the network's output for it at one precision, both as 8-bit RGB PNG.

    A runtime passes if the PSNR of its output to `output` is at least `min_psnr_db`. `controls` are the values of the
    network's run-time controls; those not named are at their defaults.

    Attributes:
        input: Path of the tile inside the bundle.
        output: Path of the output inside the bundle.
        precision: Precision in which a runtime must reproduce the output.
        min_psnr_db: PSNR that a runtime has to reach.
        input_sha256: Digest of the tile.
        output_sha256: Digest of the output.
        controls: Values of the network's controls.
        io: Frame format of the input. A packed NV12 tile (`sr_edge.nv12`) is stored as a gray picture; its output is
            that for its RGB pixels.
    """

    input: str
    output: str
    precision: Precision
    min_psnr_db: float
    input_sha256: str
    output_sha256: str
    controls: Mapping[str, float] = field(default_factory=dict)
    io: FrameFormat = FrameFormat.UINT8_NHWC

    def __post_init__(self) -> None:
        take_names(self, precision=Precision, io=FrameFormat)
        for file, sha256 in ((self.input, self.input_sha256), (self.output, self.output_sha256)):
            require_inner_path(file)
            _require_digest(sha256, file)


@dataclass(frozen=True)
class CalibrationRecord:
    """The origin of the INT8 scales.

    Attributes:
        method: Method that determined the activation ranges.
        patches: Number of patches, including the synthetic black-and-white ones.
        patches_sha256: Digest of the digests of the patches, in order.
        float_layers: Reason for each layer that could be INT8 but is not.
        cache: Path of the calibration cache, which has the scales but no pictures.
        cache_sha256: Digest of the cache.
    """

    method: str
    patches: int
    patches_sha256: str
    float_layers: Mapping[str, str]
    cache: str
    cache_sha256: str

    def __post_init__(self) -> None:
        require_inner_path(self.cache)
        _require_digest(self.cache_sha256, self.cache)
