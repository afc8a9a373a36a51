"""The static twin of MLFR, in which the fuse of each branch, the bypass and the last fuse are one affine map.

Equations 17 to 19 only mix the channels of 2n + 1 feature maps: two convolutions for each of the n branches, and the
input. Composed into one affine map, these (2n + 1) C channels take C products each, where the training form takes
(2n + 1) + n + 1 times C².
"""

from __future__ import annotations

import copy
from typing import cast

import torch
from torch import Tensor, nn

from sr_edge.export.twins.affine import Affine, ConcatenatedConv, sum_of_maps
from sr_edge.models.layers.mlfr import MLFR, MLFRBranch


class MLFRFeatures(nn.Module):
    """The feature maps whose affine map `tail` is the result of MLFR: two for each branch, then the input."""

    def __init__(self, layer: MLFR) -> None:
        super().__init__()
        branches = [cast("MLFRBranch", branch) for branch in layer.branches]
        convs = [conv for branch in branches for conv in (branch.dilated, branch.depthwise)]
        self.convs = nn.ModuleList(copy.deepcopy(convs))
        *fuses, bypass = Affine.from_layer(layer.fuse).split([layer.bypass.out_channels] * (len(branches) + 1))
        mixed = [fuse.after(Affine.from_layer(branch.fuse)) for fuse, branch in zip(fuses, branches, strict=True)]
        self.tail = sum_of_maps([*mixed, bypass.after(Affine.from_layer(layer.bypass))])

    def forward(self, x: Tensor) -> list[Tensor]:
        return [*(conv(x) for conv in self.convs), x]


class StaticMLFR(ConcatenatedConv):
    """The twin of an MLFR that is a layer of its own."""

    def __init__(self, layer: MLFR, input_shape: torch.Size) -> None:
        planes = MLFRFeatures(layer)
        super().__init__(planes, planes.tail, layer.bypass.weight.dtype)


TWINS = ((MLFR, StaticMLFR),)
