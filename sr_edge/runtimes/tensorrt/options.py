"""Options for building an engine, checked when they are created."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from sr_edge.errors import TileError, UnknownNameError, UsageError
from sr_edge.spec import FrameFormat, Precision, TileSpec

MIN_LEVEL, MAX_LEVEL = 0, 5
MAX_WORKSPACE_BYTES = 2**50
"""More memory than any device has, but a number that every version of TensorRT accepts."""

SIZES_FORM = "MIN,OPT,MAX"
_WRITE_SIZES = f"write {SIZES_FORM}, for example 64,96,256"


class Compatibility(str, Enum):
    """What else an engine must be compatible with: other TensorRT versions, or other GPUs from Ampere on."""

    VERSION = "version"
    HARDWARE = "hardware"

    def __str__(self) -> str:
        return self.value


def compatibility_named(name: str) -> Compatibility:
    """The compatibility of that name; raises UnknownNameError."""
    try:
        return Compatibility(name)
    except ValueError:
        raise UnknownNameError("compatibility", name, [str(kind) for kind in Compatibility]) from None


@dataclass(frozen=True)
class SizeRange:
    """The tiles that an engine of a dynamic graph accepts; it is optimized for `optimum`."""

    minimum: TileSpec
    optimum: TileSpec
    maximum: TileSpec

    def __post_init__(self) -> None:
        for name in ("height", "width"):
            edges = [getattr(tile, name) for tile in (self.minimum, self.optimum, self.maximum)]
            if edges != sorted(edges):
                raise TileError(
                    f"sizes {self} are not in ascending order", found=str(self), wanted=SIZES_FORM, remedy=_WRITE_SIZES
                )

    @classmethod
    def parse(cls, text: str) -> SizeRange:
        """Parses MIN,OPT,MAX, each as TileSpec does; raises TileError."""
        parts = text.split(",")
        if len(parts) != 3:
            raise TileError(f"cannot read {text!r} as sizes", found=text, wanted=SIZES_FORM, remedy=_WRITE_SIZES)
        return cls(*(TileSpec.parse(part) for part in parts))

    def require(self, tile: TileSpec) -> None:
        """Raises TileError unless an engine of this range accepts `tile`."""
        low, high = self.minimum, self.maximum
        if not (low.height <= tile.height <= high.height and low.width <= tile.width <= high.width):
            raise TileError(
                f"tile {tile} is outside the sizes of the engine, {low} to {high}",
                found=tile,
                wanted=(low, high),
                remedy="compile it with other --sizes",
            )

    def __str__(self) -> str:
        return f"{self.minimum},{self.optimum},{self.maximum}"


@dataclass(frozen=True)
class BuildOptions:
    """Options of a build.

    Attributes:
        precision: precision of the graph's convolutions and matrix multiplications; a graph of another one is an error.
        float_precision: precision of the other operators of an INT8 graph.
        io: frame format of the graph.
        tile: the size of a dynamic graph, where `sizes` is None.
        sizes: the range of sizes of a dynamic graph.
        workspace_bytes: limit of the scratch memory; None for half of the free memory.
        optimization_level: 0 to 5; higher levels take longer to build.
        compute_capability: with TensorRT-RTX, that of a GPU elsewhere ("8.6"); empty for the local GPU.
        dla_core: DLA core of a Jetson; None for the GPU.
        compatible: what else the engine must be compatible with.
        timing_cache: file of measured kernel times, which is read and extended.
    """

    precision: Precision = Precision.FP32
    float_precision: Precision = Precision.FP32
    io: FrameFormat = FrameFormat.FLOAT_NCHW
    tile: TileSpec | None = None
    sizes: SizeRange | None = None
    workspace_bytes: int | None = None
    optimization_level: int = 3
    compute_capability: str = ""
    dla_core: int | None = None
    compatible: tuple[Compatibility, ...] = ()
    timing_cache: Path | None = None

    def __post_init__(self) -> None:
        if not MIN_LEVEL <= self.optimization_level <= MAX_LEVEL:
            raise UsageError(
                f"there is no optimization level {self.optimization_level}",
                found=self.optimization_level,
                wanted=range(MIN_LEVEL, MAX_LEVEL + 1),
                remedy=f"choose {MIN_LEVEL} to {MAX_LEVEL}",
            )
        if self.workspace_bytes is not None and not 1 <= self.workspace_bytes <= MAX_WORKSPACE_BYTES:
            size = "more memory than any device has" if self.workspace_bytes > 0 else "too little to build anything"
            raise UsageError(
                f"a workspace of {self.workspace_bytes >> 20:,} MiB is {size}",
                found=self.workspace_bytes,
                wanted=range(1, MAX_WORKSPACE_BYTES + 1),
                remedy="give for example --workspace 512",
            )
        if self.compute_capability and re.fullmatch(r"\d+\.\d", self.compute_capability) is None:
            raise UsageError(
                f"cannot read {self.compute_capability!r} as a compute capability",
                found=self.compute_capability,
                wanted="MAJOR.MINOR",
                remedy="write it as NVIDIA does, for example 8.6",
            )
        if self.dla_core is not None and self.precision is not Precision.FP16:
            raise UsageError(
                f"sr-edge builds for DLA in fp16 only, not in {self.precision}: INT8 on DLA needs implicit "
                "calibration, which TensorRT 11 has removed and sr-edge does not write",
                found=self.precision,
                wanted=Precision.FP16,
                remedy="pass --precision fp16 with --dla, or leave --dla out",
            )
