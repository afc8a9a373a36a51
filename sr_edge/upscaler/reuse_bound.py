"""Reuse of tiles that changed a little, within a bound in decibels."""

from __future__ import annotations

import math

import numpy as np

from sr_edge.errors import UsageError
from sr_edge.reuse_table import ReuseTable
from sr_edge.spec import FrameFormat, TileSpec
from sr_edge.tiling import Samples
from sr_edge.upscaler.placement import PlacementRule
from sr_edge.upscaler.reuse_options import ReuseOptions
from sr_edge.upscaler.tile_change import is_within


class ReuseBound:
    """Which changed tiles are reused: those within limits, until they are refreshed.

    Every tile has its moment in each period of `refresh_s` seconds, which is its phase, from 0 to 1. The number of such
    moments that have passed is its turn. A result of an earlier turn is computed again if the tile has changed at all,
    so that no result is older than a period. The tiles of a frame have different phases, and are never all refreshed in
    the same frame.

    Attributes:
        limits: The limits of a change.
    """

    def __init__(self, options: ReuseOptions, table: ReuseTable) -> None:
        """Creates the bound.

        Args:
            options: The bound in decibels, and the seconds until a refresh.
            table: The losses of the network.

        Raises:
            UsageError: The table does not give this bound.
        """
        bound_db = options.bound_db or 0.0
        self.limits = table.limits(bound_db)
        self._refresh_s = options.refresh_s
        self._placement = table.placement
        self._placement_loss = table.placement.within(bound_db) if table.placement else None

    def allows(self, kept: Samples, samples: Samples) -> bool:
        """Whether the result of the kept samples is close enough to that of these."""
        return is_within(kept, samples, self.limits)

    def placement_rule(self, tile: TileSpec) -> PlacementRule | None:
        """Where tiles of this size may be placed; None if they may not, see `placement_obstacle`."""
        table, loss = self._placement, self._placement_loss
        if table is None or loss is None or (table.height, table.width) != (tile.height, tile.width):
            return None
        return PlacementRule(tile, loss.margin_px, loss.align_px)

    def placement_obstacle(self, tile: TileSpec) -> str:
        """Why tiles of this size are not placed around changed areas; empty if they may be."""
        if self._placement is None:
            return "it was not measured for this network"
        if (self._placement.height, self._placement.width) != (tile.height, tile.width):
            return f"it was measured for tiles of {self._placement.height}x{self._placement.width}, not for {tile}"
        least_db = math.ceil(1e4 * self._placement.least_db) / 1e4
        return "" if self._placement_loss else f"it needs a bound of {least_db:g} dB for this network"

    def turn(self, phase: float, time_s: float) -> float:
        """The number of moments of a phase that have passed at a time."""
        return float(np.floor(time_s / self._refresh_s - phase))


def require_bound_for(options: ReuseOptions, io: FrameFormat) -> None:
    """Raises UsageError for a bound in a graph of NV12 frames, since the bound was measured with changes of RGB."""
    if options.bound_db is not None and io is FrameFormat.NV12:
        raise UsageError(
            f"reuse within a bound of {options.bound_db:g} dB was measured with RGB tiles, not with NV12 frames",
            found=str(io),
            wanted="off or exact for graphs of NV12 frames",
            remedy="use exact, or run the graph of RGB frames, without NV12",
        )


def reuse_bound(options: ReuseOptions, table: ReuseTable | None) -> ReuseBound | None:
    """The bound of these options; None if they have none.

    Raises:
        UsageError: There is no table, or it does not give this bound.
    """
    if options.bound_db is None:
        return None
    if table is None:
        raise UsageError(
            f"reuse within a bound of {options.bound_db:g} dB needs to know how much a change of the input affects "
            "the output, which was not measured for this network",
            found=options.bound_db,
            wanted="off, exact, or a bundle with a reuse table",
            remedy="use exact, or make the bundle again with `sr-edge deploy`, which measures it for trained networks",
        )
    return ReuseBound(options, table)
