"""From deep features to the picture, in LabNet and RealNet: 1x1 convolution, pixel shuffle, 3x3 convolution.

The first has no bias, which the last would only pass on: so the three are one linear map of the plane, and deploy as
one convolution at the low resolution. Source: arXiv 2408.00470, sections II-C and II-D, which give the steps.
"""

from __future__ import annotations

from torch import Tensor, nn


class Reconstruction(nn.Module):
    """(batch, C, h, w) -> RGB (batch, 3, scale h, scale w), over `features` channels at the high resolution."""

    def __init__(self, channels: int, features: int, scale: int) -> None:
        super().__init__()
        self.scale = scale
        self.widen = nn.Conv2d(channels, features * scale**2, 1, bias=False)
        self.shuffle = nn.PixelShuffle(scale)
        self.last = nn.Conv2d(features, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.shuffle(self.widen(x)))
