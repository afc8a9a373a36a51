"""LabNet: a U-Net of LSTEA modules between two convolutions, added to bicubic upsampling.

    f = conv3x3(x);   out = conv3x3(shuffle(conv1x1(unet(f)))) + bicubic(x)

Source: arXiv 2408.00470, section II-C, figure 2, table I. It gives the number of LSTEA blocks in the six modules
from left to right, and 49 G multiply-accumulates at x4 on 64x64 pixels. The following choices are ours:

- Modules of 6, 8, 10, 6, 8 and 8 blocks at 64, 128, 256, 128, 128 and 128 channels: those of NLCUNet, the same
  group's earlier network. The two on the right work at full resolution with twice the first width, as in Restormer:
  skip and upsampled features are concatenated and not reduced.
- Down: conv3x3 C -> C/2 and PixelUnshuffle(2). Up: conv1x1 C -> 2C and PixelShuffle(2). Skips are concatenated and,
  but for the topmost, reduced by a 1x1 convolution.
- Reconstruction: one 1x1 convolution to the first width times scale², PixelShuffle, and a 3x3 convolution.
- Bicubic upsampling is added, so the network learns the difference from it.

Height and width must be multiples of `multiple_px`, 2 to the power of the levels; others are padded by reflection.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor, nn

from sr_edge.models.layers.lstea import LSTEA, LargeScale
from sr_edge.models.layers.swin import pad_to_multiple
from sr_edge.models.layers.upsampling import BicubicUpsampler, Reconstruction


@dataclass(frozen=True)
class LabNetConfig:
    """Sizes of one network: `blocks` has one entry a module, encoder, bottleneck, decoder, refinement."""

    features: int
    blocks: tuple[int, ...]
    scale: int = 2
    large_scale: LargeScale = LargeScale.STEA_MLFR

    def at_scale(self, scale: int) -> LabNetConfig:
        return replace(self, scale=scale)

    @property
    def levels(self) -> int:
        """How many times the U-Net halves height and width."""
        return (len(self.blocks) - 2) // 2


LABNET_SIZES = {
    "m": LabNetConfig(64, (6, 8, 10, 6, 8, 8)),
    "light": LabNetConfig(32, (2, 3, 1, 1)),
    "tiny": LabNetConfig(16, (1, 1, 1, 1)),
}


class Downsample(nn.Sequential):
    """(batch, C, h, w) -> (batch, 2C, h/2, w/2)."""

    def __init__(self, channels: int) -> None:
        super().__init__(nn.Conv2d(channels, channels // 2, 3, padding=1), nn.PixelUnshuffle(2))


class Upsample(nn.Sequential):
    """(batch, C, h, w) -> (batch, C/2, 2h, 2w)."""

    def __init__(self, channels: int) -> None:
        super().__init__(nn.Conv2d(channels, 2 * channels, 1), nn.PixelShuffle(2))


class UNet(nn.Module):
    """(batch, features, h, w) -> (batch, 2 features, h, w); h and w are multiples of 2 ** levels."""

    def __init__(self, config: LabNetConfig) -> None:
        super().__init__()
        levels, width = config.levels, config.features
        widths = [width * 2**level for level in range(levels + 1)]
        decoder_widths = [2 * width, *widths[1:]]  # the topmost decoder keeps both halves of its input

        def module(channels: int, count: int) -> nn.Sequential:
            return nn.Sequential(*(LSTEA(channels, config.large_scale) for _ in range(count)))

        upwards = range(levels - 1, -1, -1)
        self.encoders = nn.ModuleList(module(widths[level], config.blocks[level]) for level in range(levels))
        self.downs = nn.ModuleList(Downsample(widths[level]) for level in range(levels))
        self.bottleneck = module(widths[levels], config.blocks[levels])
        self.ups = nn.ModuleList(Upsample(widths[level + 1]) for level in upwards)
        self.reduces = nn.ModuleList(
            nn.Conv2d(2 * widths[level], decoder_widths[level], 1) if level else nn.Identity() for level in upwards
        )
        self.decoders = nn.ModuleList(
            module(decoder_widths[level], count)
            for level, count in zip(upwards, config.blocks[levels + 1 :], strict=False)
        )
        self.refinement = module(2 * width, config.blocks[-1])

    def forward(self, x: Tensor) -> Tensor:
        skips = []
        for encoder, down in zip(self.encoders, self.downs, strict=True):
            x = encoder(x)
            skips.append(x)
            x = down(x)
        x = self.bottleneck(x)
        for up, reduce, decoder in zip(self.ups, self.reduces, self.decoders, strict=True):
            x = decoder(reduce(torch.cat([up(x), skips.pop()], dim=1)))
        return self.refinement(x)


class LabNet(nn.Module):
    """The network of one configuration; `multiple_px` divides the height and width with which the U-Net runs."""

    def __init__(self, config: LabNetConfig) -> None:
        super().__init__()
        self.config = config
        self.scale = config.scale
        self.multiple_px = 2**config.levels
        self.shallow = nn.Conv2d(3, config.features, 3, padding=1)
        self.unet = UNet(config)
        self.reconstruct = Reconstruction(2 * config.features, config.features, config.scale)
        self.bicubic = BicubicUpsampler(config.scale)

    def forward(self, x: Tensor) -> Tensor:
        """Upscales RGB (batch, 3, height, width) in [0, 1] by `scale`; any size of more than half of `multiple_px`."""
        height, width = x.shape[-2:]
        padded = pad_to_multiple(x, self.multiple_px)
        detail = self.reconstruct(self.unet(self.shallow(padded)))
        return detail[..., : height * self.scale, : width * self.scale] + self.bicubic(x)


def initialize_labnet(network: nn.Module) -> None:
    """Sets the last convolution of a `LabNet` to zero, so that it starts training as bicubic upsampling."""
    cast("LabNet", network).reconstruct.initialize_to_zero()
