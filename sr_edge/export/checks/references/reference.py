"""The network that a graph has to be equal to, as the comparison of graphs sees it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from sr_edge.export.graph.inputs import Tensor
from sr_edge.export.graph.patches import Patch
from sr_edge.spec import Control


class Reference(Protocol):
    """A network that computes the expected output of a graph.

    Attributes:
        name: what messages call it.
        rounding: what differs between `run` and `run_again`, to be followed by the difference of their outputs.
        input_step: the distance of neighbouring input values where the network takes rounded ones, otherwise 0.
        output_step: the distance of neighbouring output values where the network rounds its output, otherwise 0.
        controls: its scalar inputs.
    """

    name: str
    rounding: str
    input_step: float
    output_step: float
    controls: tuple[Control, ...]

    def run(self, batch: Patch, setting: Mapping[str, float]) -> Tensor:
        """The output in float32 for an image, float32 (1, channels, h, w) in [0, 1].

        Args:
            batch: the image.
            setting: the values of all controls.
        """
        ...

    def run_again(self, batch: Patch, setting: Mapping[str, float]) -> Tensor:
        """The output for the same image, computed so that it differs by rounding alone.

        Raises:
            Exception: whatever the network raises in an arithmetic that it was not written for.
        """
        ...

    def caveats(self, photograph: Patch) -> tuple[str, ...]:
        """What comparing outputs cannot exclude, as remarks; called once, after all runs.

        Args:
            photograph: one of the images that it ran on.

        Raises:
            NotDeployable: no graph can be equal to this network.
        """
        ...
