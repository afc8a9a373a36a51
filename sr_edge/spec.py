"""The value objects that cross from one stage to the next: plain, frozen, checked when made."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

from sr_edge.errors import TileError, UsageError


class Precision(str, Enum):
    """The arithmetic of a graph's convolutions and matmuls."""

    FP32 = "fp32"
    BF16 = "bf16"
    FP16 = "fp16"
    INT8 = "int8"

    def __str__(self) -> str:
        return self.value


class FrameFormat(str, Enum):
    """What a graph takes and gives: float NCHW in [0, 1], or uint8 NHWC."""

    FLOAT_NCHW = "float"
    UINT8_NHWC = "uint8"

    def __str__(self) -> str:
        return self.value


class ActivationType(str, Enum):
    """How INT8 activations are written: as INT8 with zero point 0, or the same values as UINT8 with zero point 128."""

    INT8 = "int8"
    UINT8 = "uint8"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class TileSpec:
    """Height and width, in low-resolution pixels, of the one input shape that a deployed graph has."""

    height: int
    width: int

    def __post_init__(self) -> None:
        if self.height < 1 or self.width < 1:
            raise TileError(
                f"a tile of {self.height}x{self.width} pixels is empty",
                found=(self.height, self.width),
                wanted="at least 1x1",
                remedy="pass at least 1x1, for example --tile 96x96",
            )

    @classmethod
    def parse(cls, text: str) -> TileSpec:
        """Reads HEIGHTxWIDTH ("96x96") or one side ("96"); raises TileError for anything else."""
        match = re.fullmatch(r"(\d+)(?:x(\d+))?", text.strip().lower())
        if match is None:
            raise TileError(
                f"cannot read {text!r} as the size of a tile",
                found=text,
                wanted="HEIGHTxWIDTH",
                remedy="write HEIGHTxWIDTH in pixels, for example 96x96",
            )
        height = int(match[1])
        return cls(height, int(match[2] or height))

    def require_multiple_of(self, multiple: int) -> None:
        """Raises TileError, naming the nearest valid tiles, unless height and width are multiples of `multiple`."""
        if self.height % multiple == 0 and self.width % multiple == 0:
            return
        smaller, larger = (
            "x".join(str(max(multiple, step * multiple)) for step in steps)
            for steps in (
                (self.height // multiple, self.width // multiple),
                (-(-self.height // multiple), -(-self.width // multiple)),
            )
        )
        choices = smaller if smaller == larger else f"{smaller} or {larger}"
        raise TileError(
            f"height and width of the tile {self} must be multiples of {multiple}, the window size of the network",
            found=self,
            wanted=multiple,
            remedy=f"pass for example --tile {choices}",
        )

    def __str__(self) -> str:
        return f"{self.height}x{self.width}"


USUAL_TILE = TileSpec(96, 96)
"""Where nothing asks for another."""


@dataclass(frozen=True)
class Control:
    """A scalar that the user sets at run time: input `name`, float32 of shape [1], of the network and its graphs."""

    name: str
    default: float
    minimum: float
    maximum: float

    def __post_init__(self) -> None:
        if not self.name.isidentifier():
            raise UsageError(
                f"{self.name!r} is not a valid name for a control",
                found=self.name,
                wanted="an identifier",
                remedy="use letters, digits and underscores, for example 'alpha'",
            )
        self.checked(self.default)

    def checked(self, value: object) -> float:
        """`value` as a float; raises UsageError unless it is a number within the range."""
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise self._refused(value, f"is {value!r}, which is not a number")
        if not self.minimum <= value <= self.maximum:
            raise self._refused(value, f"is {value:g}, which is out of range")
        return float(value)

    def _refused(self, value: object, reason: str) -> UsageError:
        wanted = (self.minimum, self.maximum)
        return UsageError(
            f"control {self.name} {reason}", found=value, wanted=wanted, remedy=f"give a number {self._range}"
        )

    def __str__(self) -> str:
        return f"{self.name} {self._range} ({self.default:g})"

    @property
    def _range(self) -> str:
        return f"from {self.minimum:g} to {self.maximum:g}"


@dataclass(frozen=True)
class TileNeeds:
    """What tiles do to a network's pictures, measured on one picture of `measured_on`, in low-resolution pixels.

    One pixel was turned black or white, statistics held: `reach_px` is how far away anything changed at all,
    `halo_px` how far by 1/255 of white or more; None where that went on to the picture's edge. `statistics_change` is
    how much, of white, the right quarter changes through global statistics alone when the left half is inverted.
    The rest compares tiled with whole, PSNR of RGB, at most 99: each tile with its own statistics, with those of the
    shrunk whole picture, and with those that the tiles have together. The latter two are None without such statistics.
    """

    measured_on: TileSpec
    tile: TileSpec
    overlap_px: int
    reach_px: int | None
    halo_px: int | None
    statistics_change: float
    own_db: float
    reference_db: float | None = None
    synchronous_db: float | None = None


class Tiling(str, Enum):
    """Whether a network may be run in tiles: freely, with a visible loss, or not at all since it tiles by itself."""

    SUPPORTED = "supported"
    DISCOURAGED = "discouraged"
    INTERNAL = "internal"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class ModelCard:
    """What a deployed network is and what it needs from the one who runs it.

    `multiple_px` divides every legal tile side. `overlap_px` is the tile overlap, in low-resolution pixels,
    at which seams were found invisible. `global_statistics` says that an output pixel depends on the whole
    input (then tiling changes the result). `forms` records the choices made at export, per layer. `controls` are
    the scalars that its user sets at run time, `baked` those that the export made constants. `tile_needs` is
    None where nobody measured them.

    The remaining fields describe a network that was recognised in a user's checkpoint: its architecture family, the
    hyper-parameters read from the shapes, what it was trained for, the licence of the architecture's code, how many
    channels go in and come out, the smallest side of a tile, whether tiles must be square, and whether tiling suits it.
    `licence` is the weights'.
    """

    name: str
    scale: int
    parameters: int
    multiple_px: int = 1
    overlap_px: int = 8
    global_statistics: bool = False
    input_range: float = 1.0
    random_weights: bool = False
    weights_source: str = ""
    weights_sha256: str = ""
    licence: str = ""
    static: bool = True
    forms: Mapping[str, str] = field(default_factory=dict)
    controls: tuple[Control, ...] = ()
    baked: Mapping[str, float] = field(default_factory=dict)
    tile_needs: TileNeeds | None = None
    family: str = ""
    hyper_parameters: Mapping[str, str] = field(default_factory=dict)
    purpose: str = ""
    architecture_licence: str = ""
    input_channels: int = 3
    output_channels: int = 3
    minimum_px: int = 1
    square_tiles: bool = False
    tiling: Tiling = Tiling.SUPPORTED

    def __post_init__(self) -> None:
        if self.scale < 1:
            raise UsageError(
                f"scale {self.scale} is not a magnification",
                found=self.scale,
                wanted=(1, 2, 3, 4, 8, 16),
                remedy="use 1, 2, 3, 4, 8 or 16",
            )

    @property
    def usual_tile(self) -> TileSpec:
        """USUAL_TILE, or the next larger square tile that the network takes."""
        side = max(USUAL_TILE.height, self.minimum_px)
        side = -(-side // self.multiple_px) * self.multiple_px
        return TileSpec(side, side)

    def require_tile(self, tile: TileSpec) -> None:
        """Raises TileError, naming a valid tile, unless the network accepts this one."""
        tile.require_multiple_of(self.multiple_px)
        if min(tile.height, tile.width) < self.minimum_px:
            raise TileError(
                f"the tile {tile} is too small for {self.name}, which needs at least {self.minimum_px} pixels in "
                "height and width",
                found=tile,
                wanted=self.minimum_px,
                remedy=f"pass for example --tile {self.usual_tile}",
            )
        if self.square_tiles and tile.height != tile.width:
            square = TileSpec(max(tile.height, tile.width), max(tile.height, tile.width))
            raise TileError(
                f"the tile {tile} is not square, which {self.name} requires",
                found=tile,
                wanted=square,
                remedy=f"pass --tile {square}",
            )


@dataclass(frozen=True)
class Latency:
    """Wall-clock milliseconds of one stage over `runs` repetitions, warm-up left out."""

    min_ms: float
    p50_ms: float
    p90_ms: float
    p99_ms: float
    mean_ms: float
    runs: int

    @classmethod
    def from_samples(cls, samples_ms: Sequence[float]) -> Latency:
        """Percentiles by linear interpolation; raises UsageError without a sample."""
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


@dataclass(frozen=True)
class Memory:
    """Resident memory of a fresh process: `baseline` before the engine was loaded, `peak` after running it."""

    baseline_rss_bytes: int
    peak_rss_bytes: int

    @property
    def added_bytes(self) -> int:
        return max(0, self.peak_rss_bytes - self.baseline_rss_bytes)
