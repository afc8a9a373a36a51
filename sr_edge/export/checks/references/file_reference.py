"""A user's ONNX file as the reference of the graph that was made from it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from sr_edge.export.graph.file_network import NetworkFile
from sr_edge.export.graph.inputs import Tensor
from sr_edge.export.graph.patches import Patch
from sr_edge.spec import Control

SEED = 0


class FileReference:
    """Runs the user's file in ONNX Runtime, and again so that only rounding differs.

    No runtime computes a whole ONNX graph in float64, as PyTorch does. The second run sums in another order, without
    ONNX Runtime's optimizations, and takes an input in which every sample is rounded otherwise. A network whose
    output then changes amplifies rounding. One that amplifies it but hides this from both changes gets no excuse, so
    that the measurement errs on the strict side.
    """

    rounding = "the output of the file changes, if its input and its sums are rounded otherwise, by"

    def __init__(self, file: NetworkFile, controls: tuple[Control, ...]) -> None:
        self.name = file.path.name
        self.controls = controls
        self.input_step = file.input_step
        self.output_step = file.output_step
        self._file = file

    def run(self, batch: Patch, setting: Mapping[str, float]) -> Tensor:
        return self._file.run(batch, setting)

    def run_again(self, batch: Patch, setting: Mapping[str, float]) -> Tensor:
        return self._file.run(rounded_otherwise(batch), setting, optimize=False)

    def caveats(self, photograph: Patch) -> tuple[str, ...]:
        return ()


def rounded_otherwise(batch: Patch) -> Patch:
    """The image with every sample replaced by one of its two neighbours in float32, at random, within [0, 1]."""
    towards = np.random.default_rng(SEED).integers(0, 2, batch.shape).astype(np.float32)
    return np.nextafter(batch, towards)
