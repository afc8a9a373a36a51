"""The PSNR that it costs to reuse the result of a tile that changed a little, which `deploy` measures for a network.

The change of a tile has two measures, both in 8-bit levels:

- *block change*: the root mean square difference of the samples in the block of 8x8 pixels where it is largest. A small
  object that moves changes few blocks, but these by much, so that it counts whatever the size of the tile.
- *level change*: the difference of the means of a channel, the largest of all channels. Noise hardly changes it,
  whereas light that becomes dimmer changes all samples in the same direction.

A loss is the PSNR of the luma against the original where the tile is computed, less that where the result of the
earlier samples is reused.

*Placed* tiles have another origin than the tiles of the grid, around a change at the border of several of them. Their
loss is that of the output with the placed tile against the output of the grid, or what would be lost if all differences
between these two were errors, whichever is more: a placed tile is to show what the grid would show.

A bound holds for the mean over changes that are spread evenly up to a limit, as those of a scene that moves or becomes
darker steadily: the change grows from 0 to the limit, and then the tile is computed. At no change may the loss of a
single tile exceed WORST_RATIO times the bound.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise, takewhile

from sr_edge.errors import UsageError

BLOCK_PX = 8
"""Height and width of the blocks of the block change, before upscaling."""

WORST_RATIO = 6.0
"""How many times the bound a single tile may lose: 0.3 dB where the mean may be 0.05 dB."""

_STEPS = 480
"""Number of limits that are evaluated between 0 and the largest change of a table."""

_Bounds = tuple[list[float], list[float]]
"""Limits of a change, and the bound in decibels that each of them requires."""


@dataclass(frozen=True)
class ReuseLoss:
    """What reuse costs at one change of a tile.

    Attributes:
        change: The block change and, for `level_db`, the level change.
        mean_db: Mean loss by noise, compression or a shift of the picture, whichever costs most.
        worst_db: Largest loss of these in a tile.
        level_db: Mean loss by a change of the level.
        local_error: Root mean square difference of the outputs in the block, of 8x8 pixels before upscaling, where it
            is largest, in 8-bit levels.
    """

    change: float
    mean_db: float
    worst_db: float
    level_db: float
    local_error: float


@dataclass(frozen=True)
class ChangeLimits:
    """The largest changes of a tile, in 8-bit levels, with which its earlier result is reused.

    Attributes:
        block: Limit of the block change.
        level: Limit of the level change.
    """

    block: float
    level: float


@dataclass(frozen=True)
class PlacementLoss:
    """What it costs to place tiles with one margin.

    Attributes:
        margin_px: Distance of the changed area from the edges of the placed tile.
        align_px: The origins of the placed tile and of the tiles of the grid differ by multiples of this.
        mean_db: Mean loss in the area of the placed tile.
        worst_db: Largest loss of a placed tile.
        local_error: Root mean square difference from the output of the grid in the block, of 8x8 pixels before
            upscaling, where it is largest, in 8-bit levels.
    """

    margin_px: int
    align_px: int
    mean_db: float
    worst_db: float
    local_error: float


@dataclass(frozen=True)
class PlacementTable:
    """The losses of a network by tiles that are placed around changed areas.

    Attributes:
        height: Height of the tiles that were measured.
        width: Their width.
        losses: The rows, the one that is preferred first.
    """

    height: int
    width: int
    losses: tuple[PlacementLoss, ...]

    def __post_init__(self) -> None:
        values = [value for row in self.losses for value in (row.mean_db, row.worst_db, row.local_error)]
        fit = all(0 < 2 * row.margin_px < min(self.height, self.width) and row.align_px > 0 for row in self.losses)
        if not (self.losses and fit and all(0 <= value < math.inf for value in values)):
            raise UsageError(
                "the table of losses by placed tiles is not a table of finite losses at margins that leave a core",
                found=self.losses,
                wanted="losses of 0 or more at margins of less than half of the tile",
                remedy="deploy again",
            )

    def within(self, bound_db: float) -> PlacementLoss | None:
        """The first row that fits into a bound; None if there is none.

        What is placed takes the place of tiles that may have lost the bound themselves, but for the share of the tile
        over which it fades in. This share is left to them.
        """
        return next((row for row in self.losses if self._required_db(row) <= bound_db), None)

    @property
    def least_db(self) -> float:
        """The least bound that has a row."""
        return min(map(self._required_db, self.losses))

    def _required_db(self, row: PlacementLoss) -> float:
        shown = (self.height - row.margin_px) * (self.width - row.margin_px) / (self.height * self.width)
        return max(row.mean_db, row.worst_db / WORST_RATIO) / shown


@dataclass(frozen=True)
class ReuseTable:
    """The losses of a network at several changes.

    Attributes:
        losses: The rows, the smallest change first.
        psnr_db: Mean PSNR of the luma of computed tiles against the originals, on the pictures of the measurement.
        patches: Number of these pictures.
        placement: What placed tiles cost; None if it was not measured.
        compression: Codecs whose changes were measured, "JPEG and H.264" where PyAV was installed.
    """

    losses: tuple[ReuseLoss, ...]
    psnr_db: float
    patches: int
    placement: PlacementTable | None = None
    compression: str = "JPEG"

    def __post_init__(self) -> None:
        changes = [0.0, *(row.change for row in self.losses)]
        values = [value for row in self.losses for value in (row.mean_db, row.worst_db, row.level_db, row.local_error)]
        ascend = all(before < after < math.inf for before, after in pairwise(changes))
        if not (self.losses and ascend and all(0 <= value < math.inf for value in values)):
            raise UsageError(
                "the table of losses by reuse is not a table of finite losses at ascending changes",
                found=self.losses,
                wanted="changes above 0 in ascending order, with losses of 0 or more",
                remedy="deploy again",
            )

    @property
    def range_db(self) -> tuple[float, float]:
        """The smallest and the largest bound that this table gives."""
        limits, required_db = self._block_bounds()
        pairs = zip(limits, required_db, strict=True)
        return next(bound_db for limit, bound_db in pairs if limit >= self.losses[0].change), max(required_db)

    def limits(self, bound_db: float) -> ChangeLimits:
        """The largest limits that keep a bound.

        Args:
            bound_db: The mean loss that is allowed.

        Raises:
            UsageError: The bound is outside of the range of the table.
        """
        smallest_db, largest_db = self.range_db
        if not smallest_db <= bound_db <= largest_db:
            is_small = bound_db < smallest_db
            least, most = math.ceil(1e4 * smallest_db) / 1e4, math.floor(1e4 * largest_db) / 1e4
            raise UsageError(
                f"a bound of {bound_db:g} dB is {'below' if is_small else 'above'} those that the reuse table of this "
                f"network has, {least:g} to {most:g} dB",
                found=bound_db,
                wanted=(smallest_db, largest_db),
                remedy=f"give at least {least:g} dB, or use exact" if is_small else f"give at most {most:g} dB",
            )
        return ChangeLimits(
            _largest_limit(*self._block_bounds(), bound_db),
            _largest_limit(*self._means_up_to([row.level_db for row in self.losses]), bound_db),
        )

    def _block_bounds(self) -> _Bounds:
        """Limits of the block change, and the bound that each requires."""
        limits, means_db = self._means_up_to([row.mean_db for row in self.losses])
        worst_db = self._between([row.worst_db for row in self.losses], limits)
        return limits, [max(mean, worst / WORST_RATIO) for mean, worst in zip(means_db, worst_db, strict=True)]

    def _means_up_to(self, losses_db: Sequence[float]) -> _Bounds:
        """Many limits of a change, and the mean loss over all changes from 0 to each of them."""
        changes = [self.losses[-1].change * step / _STEPS for step in range(_STEPS + 1)]
        sums_db = accumulate((before + after) / 2 for before, after in pairwise(self._between(losses_db, changes)))
        return changes[1:], [total / count for count, total in enumerate(sums_db, start=1)]

    def _between(self, losses_db: Sequence[float], changes: Sequence[float]) -> list[float]:
        """Losses at any changes up to the last one: linear between the rows, and 0 without a change."""
        known = [0.0, *(row.change for row in self.losses)]
        values_db = [0.0, *losses_db]
        between = []
        for change in changes:
            after = min(max(bisect_left(known, change), 1), len(known) - 1)
            share = (change - known[after - 1]) / (known[after] - known[after - 1])
            between.append(values_db[after - 1] + share * (values_db[after] - values_db[after - 1]))
        return between


def _largest_limit(limits: Sequence[float], required_db: Sequence[float], bound_db: float) -> float:
    """The limit before the first one that requires more than a bound; 0 if that is the first."""
    within = list(takewhile(lambda pair: pair[1] <= bound_db, zip(limits, required_db, strict=True)))
    return within[-1][0] if within else 0.0
