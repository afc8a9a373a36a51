"""A plain convolutional network for real time: 3x3 convolutions with ReLU, a residual from the input, a pixel shuffle.

It is a design of this project and follows networks for mobile devices that quantize and run well (ABPN, QuickSRNet):
one width that fills INT8 vector lanes, no branches, and the input added to the last convolution's output as scale²
copies, so the network only learns the difference from nearest-neighbour upscaling.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class ConvNetConfig:
    """Sizes of one network: width, and number of convolutions between the first and the last."""

    features: int
    middle_convs: int
    scale: int = 2

    def at_scale(self, scale: int) -> ConvNetConfig:
        return replace(self, scale=scale)


CONVNET_SIZES = {"light": ConvNetConfig(64, 8), "tiny": ConvNetConfig(32, 4)}


class ConvNet(nn.Module):
    """The network of one configuration."""

    def __init__(self, config: ConvNetConfig) -> None:
        super().__init__()
        self.config = config
        self.scale = config.scale
        width = config.features
        self.first = nn.Conv2d(3, width, 3, padding=1)
        self.middle = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(config.middle_convs))
        self.last = nn.Conv2d(width, 3 * config.scale**2, 3, padding=1)
        self.shuffle = nn.PixelShuffle(config.scale)
        self.copied: Tensor
        self.register_buffer("copied", torch.arange(3).repeat_interleave(config.scale**2), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Upscales RGB (batch, 3, height, width) in [0, 1] by `scale`; any size."""
        features = self.first(x).relu()
        for conv in self.middle:
            features = conv(features).relu()
        # One Gather in the exported graph, as concatenating the copies took a tenth of the INT8 network's time at x4.
        copies = x.index_select(1, self.copied)
        return self.shuffle(self.last(features) + copies)
