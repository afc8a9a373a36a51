"""A U-Net discriminator that classifies each pixel as belonging to an original or to a generated image.

    a = conv3x3(x); b, c, d = each a strided conv4x4 further down, twice the channels
    up again: c' = conv(up(d)) + c, b' = conv(up(c')) + b, a' = conv(up(b')) + a;  then three to one channel

Source: Real-ESRGAN (arXiv 2107.10833, section 3.3 and figure 6), from which RealNet-GAN takes it. All convolutions
but the first and the last are under spectral normalisation.
"""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import spectral_norm

SLOPE = 0.2
LEVELS = 3
MULTIPLE_PX = 2**LEVELS


class UNetDiscriminator(nn.Module):
    """Maps RGB (batch, 3, height, width) to one logit for each pixel, above 0 for original images.

    Height and width must be multiples of MULTIPLE_PX.

    Args:
        features: width of the first convolution.
    """

    def __init__(self, features: int = 64) -> None:
        super().__init__()
        widths = [features * 2**level for level in range(LEVELS + 1)]

        def conv(channels: int, outputs: int) -> nn.Module:
            return spectral_norm(nn.Conv2d(channels, outputs, 3, padding=1, bias=False))

        self.first = nn.Conv2d(3, features, 3, padding=1)
        self.downs = nn.ModuleList(
            spectral_norm(nn.Conv2d(wide, wider, 4, stride=2, padding=1, bias=False))
            for wide, wider in pairwise(widths)
        )
        self.ups = nn.ModuleList(conv(wider, wide) for wide, wider in reversed(list(pairwise(widths))))
        self.last = nn.ModuleList([conv(features, features), conv(features, features)])
        self.judge = nn.Conv2d(features, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.leaky_relu(self.first(x), SLOPE)
        skips = []
        for down in self.downs:
            skips.append(x)
            x = functional.leaky_relu(down(x), SLOPE)
        for up in self.ups:
            larger = functional.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
            x = functional.leaky_relu(up(larger), SLOPE) + skips.pop()
        for conv in self.last:
            x = functional.leaky_relu(conv(x), SLOPE)
        return self.judge(x)
