"""The passes that make a graph faster without changing what it computes, and where each of them is applied."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from sr_edge.export.passes.folding.linear_layers import fold_linear_layers
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
        "linear-folding",
        fold_linear_layers,
        Gain.STRUCTURE,
        "Branches and chains of convolutions, sums and constant factors become one convolution where that has fewer "
        "operators and no more multiply-accumulates.",
    ),
)
"""The passes in the order in which they are applied."""
