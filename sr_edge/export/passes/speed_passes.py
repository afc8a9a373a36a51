"""The passes that make a graph faster without changing what it computes, and where each of them is applied."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from sr_edge.export.passes.layout.activations import mish_as_sigmoid, prelu_as_minimum
from sr_edge.export.passes.layout.assignments import assignment_as_concat
from sr_edge.export.passes.layout.channel_first import channel_first, channel_first_products
from sr_edge.export.passes.layout.group_norm import group_norm_without_reshape
from sr_edge.export.passes.layout.movement import movement_merged
from sr_edge.export.passes.layout.normalization import channel_means_as_convolutions
from sr_edge.export.passes.layout.split_convolutions import split_outputs
from sr_edge.export.passes.pass_result import GraphPass


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
