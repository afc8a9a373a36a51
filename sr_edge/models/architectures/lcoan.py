"""LCoAN: a residual convolutional network whose groups share one learned pattern of sparse attention.

    head:   X_0 = conv(x - mean)
    group:  X_m = X_{m-1} + 0.1 conv(LCoA(four times [conv, ReLU, conv, + input]))       m = 1 … 10
    tail:   y = conv(upsample(X_0 + conv(X_10))) + mean

Source: Zhao et al., "Efficient Learnable Collaborative Attention for Single Image Super-Resolution"
(arXiv 2404.04922), section III-C and figure 1; the attention is in lsp.py. Widths, depths and residual connections are
those of the authors' published weights, whose keys this module has. 128 features, 10 groups of 4 blocks, 128 clusters
and windows of 384 give the paper's 15.67 M (x2), 16.41 M (x3) and 16.26 M (x4) parameters. They include
values that inference does not need: the query convolutions of groups 2 to 10, the two mean shifts, which are not
trained, and `a`, a scalar that nothing reads. They are kept for the keys and the count; the static twin drops them.

The sizes light and tiny are ours. Their windows shrink with the number of clusters, so that a window still contains
several clusters.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor, nn

from sr_edge.models.layers.lsp import CollaborativeAttention, SparsePattern
from sr_edge.models.layers.swin import RGB_MEAN, pixelshuffle_stages

GROUP_SCALE = 0.1


@dataclass(frozen=True)
class LCoANConfig:
    """Sizes of one network: `groups` of `blocks` residual blocks each; `window` in tokens."""

    features: int
    groups: int
    blocks: int
    clusters: int
    window: int
    scale: int = 2

    def at_scale(self, scale: int) -> LCoANConfig:
        return replace(self, scale=scale)


LCOAN_SIZES = {
    "m": LCoANConfig(128, 10, 4, 128, 384),
    "light": LCoANConfig(48, 6, 2, 128, 384),
    "tiny": LCoANConfig(24, 4, 2, 32, 128),
}


def conv3x3(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1)


class MeanShift(nn.Conv2d):
    """Adds sign * mean to the colours, as a 1x1 convolution that is not trained."""

    def __init__(self, sign: int) -> None:
        super().__init__(3, 3, 1)
        self.weight = nn.Parameter(torch.eye(3).view(3, 3, 1, 1), requires_grad=False)
        self.bias = nn.Parameter(sign * torch.tensor(RGB_MEAN), requires_grad=False)


class ResidualBlock(nn.Module):
    """conv, ReLU, conv, and the residual around them."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.body = nn.Sequential(conv3x3(features, features), nn.ReLU(), conv3x3(features, features))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class ResidualGroup(nn.Module):
    """Residual blocks, LCoA and a convolution; the first group computes the pattern that all groups use."""

    def __init__(self, config: LCoANConfig) -> None:
        super().__init__()
        features = config.features
        self.local_body = nn.Sequential(*(ResidualBlock(features) for _ in range(config.blocks)))
        self.attention = nn.Sequential(CollaborativeAttention(features, config.clusters, config.window))
        self.m_conv = nn.Sequential(conv3x3(features, features))

    @property
    def lcoa(self) -> CollaborativeAttention:
        """The attention layer."""
        return cast("CollaborativeAttention", self.attention[0])

    def forward(self, x: Tensor, pattern: SparsePattern | None) -> tuple[Tensor, SparsePattern]:
        local = self.local_body(x)
        if pattern is None:
            pattern = self.lcoa.compute_pattern(local)
        return x + GROUP_SCALE * self.m_conv(self.lcoa(local, pattern)), pattern


class LCoAN(nn.Module):
    """The network of one configuration."""

    def __init__(self, config: LCoANConfig) -> None:
        super().__init__()
        self.config = config
        self.scale = config.scale
        features = config.features
        self.a = nn.Parameter(torch.zeros(1))
        self.sub_mean = MeanShift(-1)
        self.head = nn.Sequential(conv3x3(3, features))
        self.body = nn.ModuleList(ResidualGroup(config) for _ in range(config.groups))
        self.m_conv = nn.Sequential(conv3x3(features, features))
        self.tail = nn.Sequential(pixelshuffle_stages(features, config.scale), conv3x3(features, 3))
        self.add_mean = MeanShift(1)

    def forward(self, x: Tensor) -> Tensor:
        """Upscales RGB (batch, 3, height, width) in [0, 1] by `scale`; any size."""
        shallow = self.head(self.sub_mean(x))
        deep, pattern = shallow, None
        for group in self.body:
            deep, pattern = group(deep, pattern)
        return self.add_mean(self.tail(shallow + self.m_conv(deep)))


@torch.no_grad()
def initialize_lcoan(network: nn.Module) -> None:
    """Sets the weights of an `LCoAN` in place so that it upscales by nearest neighbour before the first training step.

    The first three channels are the colours. They pass through the upsampling stages, each of which repeats every
    pixel, and the deep branch starts at zero.
    """
    lcoan = cast("LCoAN", network)
    stages = [layer for layer in cast("nn.Sequential", lcoan.tail[0]) if isinstance(layer, nn.Conv2d)]
    nn.init.zeros_(cast("Tensor", lcoan.m_conv[0].weight))
    nn.init.zeros_(cast("Tensor", lcoan.m_conv[0].bias))
    for conv in (lcoan.head[0], *stages, lcoan.tail[1]):
        _pass_colours(cast("nn.Conv2d", conv))


def _pass_colours(conv: nn.Conv2d) -> None:
    """Makes the first three channels the input's colours, each as often as the following pixel shuffle needs it."""
    copies = max(1, conv.out_channels // conv.in_channels) if conv.in_channels > 3 else 1
    nn.init.zeros_(cast("Tensor", conv.bias))
    for output in range(3 * copies):
        conv.weight[output] = 0
        conv.weight[output, output // copies, 1, 1] = 1
