"""What to build and how to prove it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sr_edge.calibration.search import SEARCH
from sr_edge.errors import TileError, UsageError
from sr_edge.export.checks.targets import require_known_targets
from sr_edge.spec import ModelCard, Precision, TileSpec


@dataclass(frozen=True)
class DeployPlan:
    """What to build and how to prove it.

    Every precision is built and, in every runtime, measured. `hr` is a folder of originals to measure quality
    on, `lr` their low-resolution halves (None makes them). `with_tile_needs` measures what tiles of this size do
    to pictures (`sr_edge.models.tile_safety`), which the card then tells. INT8 may cost `max_drop_db`, judged on
    held-out patches of the calibration pictures, never on `hr`, which stays an independent test. Layers are timed where
    the bundle is for one runtime that tells its layers' times; no one runtime's times hold for several. Every graph
    that one of `targets` (names of `sr_edge.export.TARGET_NAMES`) would read must be one that it takes.
    """

    tile: TileSpec
    runtimes: Sequence[str]
    precisions: Sequence[Precision]
    method: str = SEARCH
    include: Sequence[str] = ()
    exclude: Sequence[str] = ()
    max_drop_db: float = 0.05
    threads: int | None = None
    rounds: int = 20
    with_memory: bool = True
    hr: Path | None = None
    lr: Path | None = None
    with_tile_needs: bool = True
    targets: Sequence[str] = ()

    def __post_init__(self) -> None:
        require_known_targets(self.targets)
        if Precision.FP32 not in self.precisions:
            raise UsageError(
                "the precisions of a bundle must include fp32, from which the others are made",
                found=tuple(map(str, self.precisions)),
                wanted=str(Precision.FP32),
                remedy="add fp32 to the precisions",
            )


def require_fitting_tile(tile: TileSpec, card: ModelCard) -> None:
    """Raises TileError unless the network takes the tile and neighbours can overlap as they should."""
    card.require_tile(tile)
    if min(tile.height, tile.width) <= card.overlap_px:
        raise TileError(
            f"tile {tile} is not larger than the {card.overlap_px} pixels by which tiles of {card.name} overlap",
            found=min(tile.height, tile.width),
            wanted=card.overlap_px + 1,
            remedy=f"choose a tile above {card.overlap_px} pixels in height and width, better {4 * card.overlap_px}",
        )
