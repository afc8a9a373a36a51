"""Reuse of tiles that changed a little, within a bound in decibels."""

from __future__ import annotations

import numpy as np

from sr_edge.errors import UsageError
from sr_edge.reuse_table import ReuseTable
from sr_edge.spec import FrameFormat
from sr_edge.tiling import Samples
from sr_edge.upscaler.reuse_options import ReuseOptions
from sr_edge.upscaler.tile_change import is_within


class ReuseBound:
    """Which changed tiles are reused: those within limits, until they are refreshed.

    Every tile has its moment in each period of `refresh_s` seconds, which is its phase, from 0 to 1. The number of such
    moments that have passed is its turn. A result of an earlier turn is computed again if the tile has changed at all,
    so that no result is older than a period. The tiles of a frame have different phases, and are never all refreshed in
    the same frame.
    """

    def __init__(self, options: ReuseOptions, table: ReuseTable) -> None:
        """Creates the bound.

        Args:
            options: The bound in decibels, and the seconds until a refresh.
            table: The losses of the network.

        Raises:
            UsageError: The table does not give this bound.
        """
        self._limits = table.limits(options.bound_db or 0.0)
        self._refresh_s = options.refresh_s

    def allows(self, kept: Samples, samples: Samples) -> bool:
        """Whether the result of the kept samples is close enough to that of these."""
        return is_within(kept, samples, self._limits)

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
