"""What a bundle says about itself: the dataclasses behind manifest.json, checked when made."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import PurePosixPath

from sr_edge.errors import BundleError
from sr_edge.spec import ActivationType, FrameFormat, ModelCard, Precision, TileSpec

SCHEMA_VERSION = 2
MANIFEST_NAME = "manifest.json"


class ArtifactKind(str, Enum):
    ONNX = "onnx"
    WEIGHTS = "weights"

    def __str__(self) -> str:
        return self.value


def require_inner_path(file: str) -> None:
    """Raises BundleError unless `file` is a plain relative path that stays inside the bundle."""
    path = PurePosixPath(file)
    if not file or "\\" in file or ":" in file or path.is_absolute() or ".." in path.parts or path.parts == ():
        raise BundleError(
            f"the bundle is unsafe: it refers to {file!r}, which is not a file inside it",
            found=file,
            wanted="a relative path inside the bundle",
            remedy="obtain it again from its maker",
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

    `precision` is that of convolutions and matrix multiplications, `float_precision` that of all other operators,
    `activation_type` how INT8
    activations are written (None for a float graph). `shape` is the input in NCHW whatever `io` is.
    """

    file: str
    kind: ArtifactKind
    precision: Precision
    float_precision: Precision
    activation_type: ActivationType | None
    io: FrameFormat
    shape: tuple[int, int, int, int]
    sha256: str

    def __post_init__(self) -> None:
        require_inner_path(self.file)
        _require_digest(self.sha256, self.file)


@dataclass(frozen=True)
class GoldenFrame:
    """A low-resolution tile and what the network makes of it at one precision, both as 8-bit RGB PNG.

    A runtime passes when its output has at least `min_psnr_db` against `output`. `controls` is the setting of the
    network's run-time scalars; those not named are at their defaults.
    """

    input: str
    output: str
    precision: Precision
    min_psnr_db: float
    input_sha256: str
    output_sha256: str
    controls: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for file, sha256 in ((self.input, self.input_sha256), (self.output, self.output_sha256)):
            require_inner_path(file)
            _require_digest(sha256, file)


@dataclass(frozen=True)
class CalibrationRecord:
    """Where the INT8 scales came from.

    `patches` counts those in hard black and white too; `patches_sha256` is the digest of their digests, in order.
    `float_layers` maps each layer that could have been INT8 and is not to the reason. `cache` is the calibration cache:
    the scales without the pictures.
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


@dataclass(frozen=True)
class Manifest:
    """Everything a device needs to know to run the bundle.

    `architecture` is what the torch runtime rebuilds the network from, with the weights artifact: a model's
    name, or `package.module:factory`; empty where the bundle has no weights. `tools` maps each program that
    took part to its version, `licences` each part to its licence. `left_out` maps each precision that the network was
    tried in and cannot be run in to the reason.
    """

    card: ModelCard
    tile: TileSpec
    artifacts: tuple[Artifact, ...]
    golden: tuple[GoldenFrame, ...] = ()
    architecture: str = ""
    calibration: CalibrationRecord | None = None
    tools: Mapping[str, str] = field(default_factory=dict)
    licences: Mapping[str, str] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)
    created: str = ""
    schema_version: int = SCHEMA_VERSION

    def __post_init__(self) -> None:
        if not self.artifacts:
            raise BundleError("the manifest lists no artifacts", found=0, wanted=1, remedy="deploy again")
        names = [artifact.file for artifact in self.artifacts]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise BundleError(
                f"the manifest lists these files more than once: {', '.join(repeated)}",
                found=repeated,
                wanted="each file once",
                remedy="deploy again",
            )

    def digests(self) -> dict[str, str]:
        """SHA-256 of every file that the manifest vouches for, by its path inside the bundle."""
        digests = {artifact.file: artifact.sha256 for artifact in self.artifacts}
        for frame in self.golden:
            digests[frame.input] = frame.input_sha256
            digests[frame.output] = frame.output_sha256
        if self.calibration is not None:
            digests[self.calibration.cache] = self.calibration.cache_sha256
        return digests
