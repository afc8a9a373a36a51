"""The passes that make a graph faster without changing what it computes, and where each of them is applied."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from functools import partial

import onnx

from sr_edge.export.passes.attention.broadcasting import broadcast_without_expand
from sr_edge.export.passes.attention.factors import factors_in_weights
from sr_edge.export.passes.attention.movement import move_once
from sr_edge.export.passes.attention.product_columns import products_of_columns
from sr_edge.export.passes.attention.score_constants import constants_without_reshape, sums_of_constants
from sr_edge.export.passes.folding.linear_layers import fold_linear_layers
from sr_edge.export.passes.layout.activations import mish_as_sigmoid, prelu_as_minimum
from sr_edge.export.passes.layout.assignments import assignment_as_concat
from sr_edge.export.passes.layout.channel_first import channel_first, channel_first_products
from sr_edge.export.passes.layout.group_norm import group_norm_without_reshape
from sr_edge.export.passes.layout.movement import movement_merged
from sr_edge.export.passes.layout.normalization import channel_means_as_convolutions
from sr_edge.export.passes.layout.split_convolutions import split_outputs
from sr_edge.export.passes.pass_result import GraphPass
from sr_edge.export.passes.rewrites.merge_axes import merge_axes
from sr_edge.spec import PassChoice


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
        "linear-folding",
        fold_linear_layers,
        Gain.STRUCTURE,
        "Branches and chains of convolutions, sums and constant factors become one convolution where that has fewer "
        "operators and no more multiply-accumulates.",
    ),
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
    SpeedPass(
        "merged-movement",
        movement_merged,
        Gain.STRUCTURE,
        "Transposes and Reshapes in a row become one or none, zeros around the input of a convolution become its "
        "padding, and Pads of zero width are removed.",
    ),
    SpeedPass(
        "slice-assignment",
        assignment_as_concat,
        Gain.MEASUREMENT,
        "The ScatterND of an assignment to a range of one axis becomes a Concat.",
    ),
    SpeedPass(
        "prelu",
        prelu_as_minimum,
        Gain.MEASUREMENT,
        "PRelu becomes LeakyRelu if all slopes are equal, otherwise Relu, Min, Mul and Add, which more compilers fuse.",
    ),
    SpeedPass(
        "mish",
        mish_as_sigmoid,
        Gain.MEASUREMENT,
        "The Softplus and Tanh of Mish become a quotient of Sigmoid, which ONNX Runtime computes faster.",
    ),
    SpeedPass(
        "group-norm",
        group_norm_without_reshape,
        Gain.MEASUREMENT,
        "GroupNorm written as Reshape, InstanceNormalization, Reshape becomes means over axes without Reshape.",
    ),
    SpeedPass(
        "channel-first-products",
        channel_first_products,
        Gain.MEASUREMENT,
        "Matrix products and elementwise operators on channels-last tensors between two Transposes become 1x1 "
        "convolutions and elementwise operators on channel-first tensors.",
    ),
    SpeedPass(
        "channel-first",
        channel_first,
        Gain.MEASUREMENT,
        "The same for islands with LayerNormalization, which becomes means over the channels.",
    ),
    SpeedPass(
        "split-convolutions",
        split_outputs,
        Gain.MEASUREMENT,
        "A convolution whose output is split becomes one convolution for each part, with a part of its weights.",
    ),
    SpeedPass(
        "channel-means",
        channel_means_as_convolutions,
        Gain.MEASUREMENT,
        "Means over the channels become 1x1 convolutions to one channel, which ONNX Runtime computes faster.",
    ),
)
"""The passes in the order in which they are applied."""


def passes_for_all_targets(choice: PassChoice, every: Sequence[SpeedPass] = SPEED_PASSES) -> tuple[SpeedPass, ...]:
    """The passes that are applied whatever the runtime.

    Args:
        choice: What was asked for; for MEASURED, those that do not need a measurement.
        every: All passes.
    """
    if choice is PassChoice.ALL:
        return tuple(every)
    if choice is PassChoice.NONE:
        return ()
    return tuple(speed_pass for speed_pass in every if speed_pass.gain is Gain.STRUCTURE)


def apply_passes(graph: onnx.ModelProto, passes: Sequence[SpeedPass]) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    """Applies passes in their order.

    Args:
        graph: The graph, which is not modified.
        passes: The passes.

    Returns:
        The resulting graph, and the names of the passes that changed it.

    Raises:
        SrEdgeError: A pass cannot process this graph.
    """
    names = []
    for speed_pass in passes:
        result = speed_pass.apply(graph)
        graph = result.model
        names += [speed_pass.name] if result.changed else []
    return graph, tuple(names)
