"""The passes that make a graph faster without changing what it computes, and where each of them is applied."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from functools import partial

from sr_edge.export.passes.attention.broadcasting import broadcast_without_expand
from sr_edge.export.passes.attention.factors import factors_in_weights
from sr_edge.export.passes.attention.movement import move_once
from sr_edge.export.passes.attention.product_columns import products_of_columns
from sr_edge.export.passes.attention.score_constants import constants_without_reshape, sums_of_constants
from sr_edge.export.passes.pass_result import GraphPass
from sr_edge.export.passes.rewrites.merge_axes import merge_axes


class Gain(str, Enum):
    """What shows that a pass makes graphs faster."""

    STRUCTURE = "structure"
    """The graph has fewer operators and the same arithmetic, so the pass is applied for all targets."""

    MEASUREMENT = "measurement"
    """The gain depends on the runtime, so the pass is applied only where a measurement shows it."""

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class SpeedPass:
    """A pass that makes graphs faster.

    Attributes:
        name: the name in reports and model cards, for example "channel-first".
        apply: the pass; it keeps the outputs of any float32 graph up to rounding, and leaves alone what it does not
            recognise, in graphs of any origin and with INT8 operators, too.
        gain: what shows that it makes graphs faster.
        summary: what it changes, as a sentence for the documentation.
    """

    name: str
    apply: GraphPass
    gain: Gain
    summary: str


SPEED_PASSES: tuple[SpeedPass, ...] = (
    SpeedPass(
        "constants-without-reshape",
        constants_without_reshape,
        Gain.STRUCTURE,
        "Adds masks and position biases to attention scores without a Reshape before and after.",
    ),
    SpeedPass(
        "sums-of-constants",
        sums_of_constants,
        Gain.STRUCTURE,
        "Adds the sum of two constants instead of one after the other, where it is no larger than each of them.",
    ),
    SpeedPass(
        "broadcast-without-expand",
        broadcast_without_expand,
        Gain.STRUCTURE,
        "Removes Expand in front of operators that broadcast on their own.",
    ),
    SpeedPass(
        "four-axes",
        partial(merge_axes, max_axes=4),
        Gain.STRUCTURE,
        "Merges axes that move together, so that attention has the four axes with which compilers fuse it.",
    ),
    SpeedPass(
        "moved-once",
        move_once,
        Gain.STRUCTURE,
        "Writes cyclic shifts, partitions into windows, splits into heads and their inverses with the fewest copies.",
    ),
    SpeedPass(
        "products-of-columns",
        products_of_columns,
        Gain.MEASUREMENT,
        "Computes queries, keys and values with a product each instead of slices of one product.",
    ),
    SpeedPass(
        "factors-in-weights",
        factors_in_weights,
        Gain.STRUCTURE,
        "Multiplies weights by the constant factor that the result of their product is multiplied by.",
    ),
)
"""The passes in the order in which they are applied."""
