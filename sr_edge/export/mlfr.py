"""The static twin of MLFR: the branches' fuse, the bypass and the last fuse are one affine map.

Equations 17 to 19 only mix the channels of 2n + 1 planes, the n branches' two convolutions and the input: one map of
(2n + 1) C channels, C products each, where the training form takes 2n + 1 + n + 1 times C².
"""

from __future__ import annotations

import copy
from typing import cast

import torch
from torch import Tensor, nn

from sr_edge.export.affine import Affine, Joined, side_by_side
from sr_edge.models.mlfr import MLFR, MLFRBranch


class MLFRPlanes(nn.Module):
    """The planes of which MLFR's result is the affine map `tail`: each branch's two convolutions, then the input."""

    def __init__(self, layer: MLFR) -> None:
        super().__init__()
        branches = [cast("MLFRBranch", branch) for branch in layer.branches]
        convs = [conv for branch in branches for conv in (branch.dilated, branch.depthwise)]
        self.convs = nn.ModuleList(copy.deepcopy(convs))
        *fuses, bypass = Affine.of(layer.fuse).split([layer.bypass.out_channels] * (len(branches) + 1))
        mixed = [fuse.after(Affine.of(branch.fuse)) for fuse, branch in zip(fuses, branches, strict=True)]
        self.tail = side_by_side([*mixed, bypass.after(Affine.of(layer.bypass))])

    def forward(self, x: Tensor) -> list[Tensor]:
        return [*(conv(x) for conv in self.convs), x]


class StaticMLFR(Joined):
    """MLFR as a layer of its own."""

    def __init__(self, layer: MLFR, input_shape: torch.Size) -> None:
        planes = MLFRPlanes(layer)
        super().__init__(planes, planes.tail, layer.bypass.weight.dtype)


TWINS = ((MLFR, StaticMLFR),)
