"""How an engine is built: the choices that its user has, checked when made."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from sr_edge.errors import TileError, UnknownNameError, UsageError
from sr_edge.spec import FrameFormat, Precision, TileSpec

MIN_LEVEL, MAX_LEVEL = 0, 5
MAX_WORKSPACE_BYTES = 2**50
"""More than any device has, and still a number that every TensorRT can read."""


class Compatibility(str, Enum):
    """Where else an engine shall run: other TensorRT versions, other GPUs from Ampere on."""

    VERSION = "version"
    HARDWARE = "hardware"

    def __str__(self) -> str:
        return self.value


def compatibility_named(name: str) -> Compatibility:
    """Raises UnknownNameError."""
    try:
        return Compatibility(name)
    except ValueError:
        raise UnknownNameError("compatibility", name, [str(kind) for kind in Compatibility]) from None


@dataclass(frozen=True)
class SizeRange:
    """The tiles that an engine of a dynamic graph takes; it is fastest at `usual`."""

    smallest: TileSpec
    usual: TileSpec
    largest: TileSpec

    def __post_init__(self) -> None:
        for name in ("height", "width"):
            sides = [getattr(tile, name) for tile in (self.smallest, self.usual, self.largest)]
            if sides != sorted(sides):
                raise TileError(f"sizes {self} are not in order; write SMALLEST,USUAL,LARGEST, for example 64,96,256")

    @classmethod
    def parse(cls, text: str) -> SizeRange:
        """Reads SMALLEST,USUAL,LARGEST, each as TileSpec does; raises TileError."""
        parts = text.split(",")
        if len(parts) != 3:
            raise TileError(f"cannot read {text!r} as sizes; write SMALLEST,USUAL,LARGEST, for example 64,96,256")
        return cls(*(TileSpec.parse(part) for part in parts))

    def require(self, tile: TileSpec) -> None:
        """Raises TileError unless an engine of this range takes `tile`."""
        low, high = self.smallest, self.largest
        if not (low.height <= tile.height <= high.height and low.width <= tile.width <= high.width):
            raise TileError(
                f"tile {tile} is outside the engine's sizes, {low} to {high}; compile it with other --sizes"
            )

    def __str__(self) -> str:
        return f"{self.smallest},{self.usual},{self.largest}"


@dataclass(frozen=True)
class BuildOptions:
    """What may be chosen about a build.

    `precision` is what the graph must hold, `rest` of what is not INT8; the graph decides, this is checked against it.
    `tile` is the size of a dynamic graph without `sizes`. `compute_capability` ("8.6") is for TensorRT-RTX, which
    builds for a GPU that is not there; empty for this machine's. `workspace_bytes` None takes half of what is free.
    """

    precision: Precision = Precision.FP32
    rest: Precision = Precision.FP32
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
            raise UsageError(f"optimization level {self.optimization_level} is none; choose {MIN_LEVEL} to {MAX_LEVEL}")
        if self.workspace_bytes is not None and self.workspace_bytes < 1:
            raise UsageError("a workspace of no bytes builds nothing; give for example --workspace 512")
        if self.workspace_bytes is not None and self.workspace_bytes > MAX_WORKSPACE_BYTES:
            raise UsageError(
                f"a workspace of {self.workspace_bytes >> 20:,} MiB is more than any device has; give for example "
                "--workspace 512"
            )
        if self.compute_capability and re.fullmatch(r"\d+\.\d", self.compute_capability) is None:
            raise UsageError(
                f"cannot read {self.compute_capability!r} as a compute capability; write it as NVIDIA does: 8.6"
            )
        if self.dla_core is not None and self.precision is not Precision.FP16:
            raise UsageError(
                f"DLA runs fp16 here, not {self.precision}: its INT8 wants implicit calibration, which TensorRT 11 no "
                "longer has and sr-edge does not write; pass --precision fp16 with --dla, or leave --dla out"
            )
