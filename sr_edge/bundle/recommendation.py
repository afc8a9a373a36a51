"""What a measurement recommends to run, with the hardware and library versions for which that is valid."""

from __future__ import annotations

import math
from dataclasses import dataclass

from sr_edge.errors import BundleError
from sr_edge.spec import Precision, TileSpec, take_names


@dataclass(frozen=True)
class Fingerprint:
    """What decides which precision is fastest in a runtime, besides the bundle.

    The number of threads is not part of it: the instructions decide how fast INT8 and bf16 are beside fp32, and a
    limit on threads slows all of them.

    Attributes:
        device: Device of the runtime, for example "cpu" or "cuda".
        hardware: Model of the CPU or GPU.
        instructions: Instruction sets for low precision; empty for a GPU.
        version: Version of the runtime.
    """

    device: str
    hardware: str
    instructions: tuple[str, ...]
    version: str

    def mismatch(self, here: Fingerprint) -> str:
        """How the machine of a measurement differs from `here`, as the end of "measured ..."; empty if they fit."""
        if self.device != here.device:
            return f"on another device ({self.device})"
        if self.hardware != here.hardware:
            return f"on another {'CPU' if self.device == 'cpu' else 'device'} ({self.hardware or 'unknown'})"
        if self.instructions != here.instructions:
            return f"with other instructions ({', '.join(self.instructions) or 'none'})"
        if self.version != here.version:
            return f"with version {self.version or 'unknown'}, and {here.version} is installed"
        return ""


@dataclass(frozen=True)
class TileTime:
    """The measured time of one tile.

    Attributes:
        tile: Size of the tile.
        latency_ms: Median time of an 8-bit tile, conversion included.
    """

    tile: TileSpec
    latency_ms: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "tile", TileSpec.of(self.tile))
        if not 0.0 < self.latency_ms < math.inf:
            raise BundleError(
                f"the time of a tile of {self.tile} is {self.latency_ms} ms",
                found=self.latency_ms,
                wanted="a finite time above 0 ms",
                remedy="measure again",
            )


@dataclass(frozen=True)
class RecommendedEngine:
    """The fastest variant of one runtime whose loss of quality was within the budget.

    Attributes:
        runtime: Name of the runtime.
        precision: Precision of convolutions and matrix multiplications.
        float_precision: Precision of the operators of an INT8 graph that are not INT8.
        fingerprint: For which hardware and version this is valid.
        latency_ms: Median time of one tile.
        cost_db: Loss of quality against fp32.
        max_drop_db: Loss that was allowed.
        measured_by: The command: "deploy" or "bench".
        measured_at: Date and time in ISO format.
        threads: Number of threads that was asked for; None left it to the runtime.
        tile_times: The time of each tile of a bundle that has several, measured alternately; else empty.
    """

    runtime: str
    precision: Precision
    float_precision: Precision
    fingerprint: Fingerprint
    latency_ms: float
    cost_db: float
    max_drop_db: float
    measured_by: str
    measured_at: str
    threads: int | None = None
    tile_times: tuple[TileTime, ...] = ()

    def __post_init__(self) -> None:
        take_names(self, precision=Precision, float_precision=Precision)
        if self.latency_ms < 0 or (self.threads is not None and self.threads < 1):
            raise BundleError(
                f"a recommendation has {self.latency_ms:g} ms and {self.threads} threads",
                found=(self.latency_ms, self.threads),
                wanted="0 ms or more, and 1 thread or more",
                remedy="measure again",
            )

    @property
    def origin(self) -> str:
        """Who measured it and when: "measured by deploy on 2026-12-01"."""
        threads = f" with {self.threads} thread{'s' * (self.threads > 1)}" if self.threads else ""
        return f"measured by {self.measured_by} on {self.measured_at[:10]}{threads}"
