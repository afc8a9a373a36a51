"""The LSTEA block of LabNet and RealNet: local and large-scale features in parallel, then a gated feed-forward network.

    n = LayerNorm(x);   y = x + A(conv1x1(Concat(local(n), MLFR(STEA(n)))));   out = y + GDFN(LayerNorm(y))

local is depthwise 3x3, GELU, depthwise 3x3; A is channel attention. Source: arXiv 2408.00470, section II-C and
figure 2. The paper does not print the residual sums, without which stacks of forty blocks do not train; they are
placed as in Restormer, from which the GDFN is taken.
"""

from __future__ import annotations

from enum import Enum

import torch
from torch import Tensor, nn
from torch.nn import functional

from sr_edge.models.layers.channel_attention import ChannelAttention
from sr_edge.models.layers.mlfr import MLFR
from sr_edge.models.layers.stea import STEA

EXPANSION = 2.66


class LargeScale(str, Enum):
    """The layers of the large-scale branch: the rows of the paper's tables VII and VIII."""

    NONE = "none"
    STEA = "stea"
    MLFR = "mlfr"
    STEA_MLFR = "stea+mlfr"


def large_scale_branch(channels: int, kind: LargeScale) -> nn.Sequential:
    """STEA followed by MLFR, or the part of them that `kind` names; an empty branch is the identity."""
    branch = nn.Sequential()
    if kind in (LargeScale.STEA, LargeScale.STEA_MLFR):
        branch.add_module("stea", STEA(channels))
    if kind in (LargeScale.MLFR, LargeScale.STEA_MLFR):
        branch.add_module("mlfr", MLFR(channels))
    return branch


class ChannelLayerNorm(nn.LayerNorm):
    """LayerNorm over the channels of each pixel: (batch, C, h, w) -> the same shape; weight and bias have one value per
    channel."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class GDFN(nn.Module):
    """The gated depthwise feed-forward network: one half of the hidden channels gates the other.

        [g, v] = dw3x3(P_in x),   out = P_out (gelu(g) ∘ v)

    No convolution has a bias; the hidden width is int(2.66 C). Source: Zamir et al., "Restormer" (2022), equation 2.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = int(channels * EXPANSION)
        self.project_in = nn.Conv2d(channels, 2 * hidden, 1, bias=False)
        self.depthwise = nn.Conv2d(2 * hidden, 2 * hidden, 3, padding=1, groups=2 * hidden, bias=False)
        self.project_out = nn.Conv2d(hidden, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        gate, value = self.depthwise(self.project_in(x)).chunk(2, dim=1)
        return self.project_out(functional.gelu(gate) * value)


class LSTEA(nn.Module):
    """One block: (batch, channels, h, w) -> the same shape."""

    def __init__(self, channels: int, large_scale: LargeScale = LargeScale.STEA_MLFR) -> None:
        super().__init__()
        self.norm1 = ChannelLayerNorm(channels)
        self.local = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, groups=channels),
            nn.GELU(),
            nn.Conv2d(channels, channels, 3, padding=1, groups=channels),
        )
        self.large_scale = large_scale_branch(channels, large_scale)
        self.fuse = nn.Conv2d(2 * channels, channels, 1)
        self.attention = ChannelAttention(channels)
        self.norm2 = ChannelLayerNorm(channels)
        self.gdfn = GDFN(channels)

    def forward(self, x: Tensor) -> Tensor:
        normed = self.norm1(x)
        both = torch.cat([self.local(normed), self.large_scale(normed)], dim=1)
        x = x + self.attention(self.fuse(both))
        return x + self.gdfn(self.norm2(x))
