"""A PyTorch network as the reference of its graph."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from sr_edge.export.checks.references.decisions import DataDependentBranches
from sr_edge.export.checks.references.float64 import run_float64
from sr_edge.export.checks.references.tie_order import TIES_REMARK, StableOrder
from sr_edge.export.graph.inputs import Tensor
from sr_edge.export.graph.patches import Patch
from sr_edge.models.controlled import control_tensors, controls_of


class TorchReference:
    """Runs a module in float32, and again with every operator in float64; detects branches that a trace loses.

    Equal values are sorted in the order of their positions, as the graph does.
    """

    name = "the PyTorch module"
    rounding = "PyTorch's float32 output differs from its float64 output by"
    input_step = 0.0
    output_step = 0.0

    def __init__(self, module: nn.Module) -> None:
        self.controls = controls_of(module)
        self._module = module
        self._branches = DataDependentBranches()
        self._order = StableOrder()

    def run(self, batch: Patch, setting: Mapping[str, float]) -> Tensor:
        x, scalars = torch.from_numpy(batch), control_tensors(self.controls, setting)
        with torch.inference_mode(), self._order, self._branches.recording(x, *scalars):
            output = self._module(x, *scalars)
        return output.numpy()

    def run_again(self, batch: Patch, setting: Mapping[str, float]) -> Tensor:
        with StableOrder():
            return run_float64(self._module, batch, setting)

    def caveats(self, photograph: Patch) -> tuple[str, ...]:
        self._branches.try_others(self._module, photograph, control_tensors(self.controls))
        self._branches.require_none()
        return (*self._branches.remarks, *([TIES_REMARK] if self._order.has_ties else []))
