"""MLFR, multi-scale large field reception: dilated convolutions of three rates, with depthwise ones for their gaps.

    Y_r = Concat(DC_r(X), DW_k(X))            for r = 6, 4, 2, each with a kernel k of its own            (16)
    F_r = conv1x1(Y_r)                                                                                   (17)
    F_b = conv1x1(X)                                                                                     (18)
    out = conv1x1(Concat(F_6, F_4, F_2, F_b))                                                            (19)

Source: arXiv 2408.00470, section II-B. The paper gives neither k nor the dilated convolution's groups, only
parameters at C = 64: 50.5 K for rates {6}, 64.1 K for {6, 4}, 89.9 K for {6, 4, 2}. No simple layout has all three
counts: the second branch would be half as large as the third. The layout used here, dilated 3x3 in four groups with
depthwise kernels 13, 5 and 7 and biases everywhere, has 40,832, 64,128 and 88,960 (-19 %, 0 %, -1 %). Kernels of
2r + 1, the extent of the dilated ones, would give 40.8, 67.7 and 91.0 K. Layouts within 2 % of every row exist only
with 21x21 kernels for rate 6, which are far larger than the gaps.

At other widths there are as many groups as give each at least 16 channels, so that the branches keep their proportions
and vector units are used fully.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

DEPTHWISE_KERNELS = {6: 13, 4: 5, 2: 7}
DILATIONS = tuple(DEPTHWISE_KERNELS)
GROUP_CHANNELS = 16


def group_count(channels: int) -> int:
    """The largest number of groups that divides `channels` and gives each group GROUP_CHANNELS or more."""
    return max((n for n in range(1, channels // GROUP_CHANNELS + 1) if channels % n == 0), default=1)


class MLFRBranch(nn.Module):
    """Equations 16 and 17 for one rate."""

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        groups = group_count(channels)
        kernel = DEPTHWISE_KERNELS[dilation]
        self.dilated = nn.Conv2d(channels, channels, 3, padding=dilation, dilation=dilation, groups=groups)
        self.depthwise = nn.Conv2d(channels, channels, kernel, padding=kernel // 2, groups=channels)
        self.fuse = nn.Conv2d(2 * channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.fuse(torch.cat([self.dilated(x), self.depthwise(x)], dim=1))


class MLFR(nn.Module):
    """Equations 16 to 19 on (batch, C, h, w).

    Args:
        channels: C.
        dilations: the rates of the branches, a subset of 6, 4 and 2.
    """

    def __init__(self, channels: int, dilations: tuple[int, ...] = DILATIONS) -> None:
        super().__init__()
        self.branches = nn.ModuleList(MLFRBranch(channels, dilation) for dilation in dilations)
        self.bypass = nn.Conv2d(channels, channels, 1)
        self.fuse = nn.Conv2d((len(dilations) + 1) * channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.fuse(torch.cat([*(branch(x) for branch in self.branches), self.bypass(x)], dim=1))
