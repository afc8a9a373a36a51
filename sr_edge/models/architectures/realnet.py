"""RealNet: a denoising and a deblurring branch that exchange features, in proportions that are set at run time.

    n, b = conv3x3(x), conv3x3(x)
    four times:  n, b = module(n), module(b);  between them:  n, b = n + adapt(n, beta b), b + adapt(b, alpha n)
    out = conv3x3(shuffle(conv1x1(Concat(alpha n, beta b)))) + bicubic(x)

    adapt(own, other) = A(conv1x1(Concat(own, conv3x3(other)))),   A: channel attention

Source: arXiv 2408.00470, section II-D, figure 6, table VIII. Details that it leaves open are implemented as follows:

- alpha scales the features that the denoising branch passes to the other branch and to the fusion; beta does the same
  for the deblurring branch. At 1 and 1 the network is as it was trained; at 0 and 0 it is close to bicubic upsampling.
- The adapter's output is added to its branch's own features, and bicubic upsampling to the image, as in LabNet. Without
  these residuals, eight stages of gates in (0, 1) would attenuate the features.
- Adapters are placed between modules. The last module's features are passed to the fusion, which weights them as well.
- Both branches take the same image. In training, the paper gives each branch an image with its own degradation, which
  `restore` supports.
- The width is 88, since no single width fits every row of table VIII. Millions of parameters and 10^9
  multiply-accumulates at x4 on 64x64 pixels: 4.16 and 16.9 without attention (paper: 4 and 17), 5.56 and 21.7 with
  STEA (5.8 and 25), 11.95 and 47.7 with STEA and MLFR (11.5 and 47). The difference that STEA makes in the paper's rows
  corresponds to 110 channels, that of MLFR to 64 (with 64 blocks) or 80 (with its 40).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor, nn

from sr_edge.models.layers.channel_attention import ChannelAttention
from sr_edge.models.layers.lstea import LSTEA, LargeScale
from sr_edge.models.layers.upsampling import BicubicUpsampler, Reconstruction
from sr_edge.spec import Control


@dataclass(frozen=True)
class RealNetConfig:
    """Sizes of one network: each branch has `modules` modules of `blocks` LSTEA blocks."""

    features: int
    modules: int
    blocks: int
    scale: int = 4
    large_scale: LargeScale = LargeScale.STEA_MLFR

    def at_scale(self, scale: int) -> RealNetConfig:
        return replace(self, scale=scale)


REALNET_SIZES = {
    "m": RealNetConfig(88, 4, 5),
    "light": RealNetConfig(48, 2, 2),
    "tiny": RealNetConfig(16, 2, 2),
}


class Adapter(nn.Module):
    """Adds the adapted features of the other branch, already scaled, to those of its own: (own, other) -> sum."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.read = nn.Conv2d(channels, channels, 3, padding=1)
        self.fuse = nn.Conv2d(2 * channels, channels, 1)
        self.attention = ChannelAttention(channels)

    def forward(self, own: Tensor, other: Tensor) -> Tensor:
        return own + self.attention(self.fuse(torch.cat([own, self.read(other)], dim=1)))


class Exchange(nn.Module):
    """The two adapters between one pair of modules and the next."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.denoise = Adapter(channels)
        self.deblur = Adapter(channels)

    def forward(self, noise: Tensor, blur: Tensor, alpha: Tensor, beta: Tensor) -> tuple[Tensor, Tensor]:
        return self.denoise(noise, beta * blur), self.deblur(blur, alpha * noise)


class RealNet(nn.Module):
    """The network of one configuration."""

    controls = (Control("alpha", 1.0, 0.0, 2.0), Control("beta", 1.0, 0.0, 2.0))

    def __init__(self, config: RealNetConfig) -> None:
        super().__init__()
        self.config = config
        self.scale = config.scale
        width = config.features

        def branch() -> nn.ModuleList:
            return nn.ModuleList(
                nn.Sequential(*(LSTEA(width, config.large_scale) for _ in range(config.blocks)))
                for _ in range(config.modules)
            )

        self.shallow_denoise = nn.Conv2d(3, width, 3, padding=1)
        self.shallow_deblur = nn.Conv2d(3, width, 3, padding=1)
        self.denoise = branch()
        self.deblur = branch()
        self.exchanges = nn.ModuleList(Exchange(width) for _ in range(config.modules - 1))
        self.reconstruct = Reconstruction(2 * width, width, config.scale)
        self.bicubic = BicubicUpsampler(config.scale)

    def forward(self, x: Tensor, alpha: Tensor | None = None, beta: Tensor | None = None) -> Tensor:
        """Upscales RGB (batch, 3, height, width) in [0, 1] by `scale`; any size of at least 2 pixels.

        Args:
            x: the image.
            alpha: proportion of denoising, float (1,); None is 1.
            beta: proportion of deblurring, float (1,); None is 1.
        """
        return self.restore(x, x, x, alpha, beta)

    def restore(
        self, noisy: Tensor, blurred: Tensor, base: Tensor, alpha: Tensor | None = None, beta: Tensor | None = None
    ) -> Tensor:
        """Upscales as `forward` does, with an image for each branch.

        Args:
            noisy: image of the denoising branch.
            blurred: image of the deblurring branch, of the same size.
            base: image that is upscaled bicubically, of the same size.
            alpha: proportion of denoising, float (1,); None is 1.
            beta: proportion of deblurring, float (1,); None is 1.
        """
        alpha = base.new_ones(1) if alpha is None else alpha
        beta = base.new_ones(1) if beta is None else beta
        noise, blur = self.shallow_denoise(noisy), self.shallow_deblur(blurred)
        for at, (denoise, deblur) in enumerate(zip(self.denoise, self.deblur, strict=True)):
            noise, blur = denoise(noise), deblur(blur)
            if at < len(self.exchanges):
                noise, blur = self.exchanges[at](noise, blur, alpha, beta)
        return self.reconstruct(torch.cat([alpha * noise, beta * blur], dim=1)) + self.bicubic(base)


def initialize_realnet(network: nn.Module) -> None:
    """Sets the last convolution of a `RealNet` to zero, so that it starts training as bicubic upsampling."""
    cast("RealNet", network).reconstruct.initialize_to_zero()


class PairedInput(nn.Module):
    """A `RealNet` in training, where each of its branches may read an image with its own degradation.

    It takes one image as the network does, (batch, 3, height, width), or two of one place side by side in the
    channels, (batch, 6, height, width), the denoising branch's first. Bicubic upsampling, which has no branch, is given
    the mean of the two.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = cast("RealNet", network)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[1] == 3:
            return self.network(x)
        noisy, blurred = x.chunk(2, dim=1)
        return self.network.restore(noisy, blurred, (noisy + blurred) / 2)
