"""The skeleton of SwinIR, TaylorSwinIR and UPS: shallow convolution, residual groups of transformer blocks, upsampler.

    features = conv_first(x);  deep = conv_after_body(norm(groups(features))) + features;  out = upsample(deep)

Source: Liang et al., "SwinIR" (2021). Module names are those of its public checkpoints, so that they load.
Tokens are (batch, height, width, channels) inside the groups and NCHW outside.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from enum import Enum
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from sr_edge.errors import TileError
from sr_edge.models.layers.upsampling import bicubic_of_neighbours

RGB_MEAN = (0.4488, 0.4371, 0.4040)  # DIV2K's mean, subtracted by every public SwinIR checkpoint


class Upsampler(str, Enum):
    """How features become the output image: by stages of convolution and pixel shuffle, or by a single one."""

    PIXELSHUFFLE = "pixelshuffle"
    PIXELSHUFFLE_DIRECT = "pixelshuffledirect"


@dataclass(frozen=True)
class SwinConfig:
    """Sizes of one network; `depths` is the number of transformer blocks of each residual group."""

    dim: int
    depths: tuple[int, ...]
    heads: int
    window: int
    mlp_ratio: int
    upsampler: Upsampler
    scale: int = 2

    def at_scale(self, scale: int) -> SwinConfig:
        return replace(self, scale=scale)


class Mlp(nn.Module):
    """Linear, GELU, Linear on the last axis."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.act(self.fc1(x)))


class TransformerBlock(nn.Module):
    """x + attend(norm1(x)), then x + mlp(norm2(x)); subclasses implement `attend`."""

    def __init__(self, dim: int, window: int, shifted: bool, mlp_ratio: int, attention: nn.Module) -> None:
        super().__init__()
        self.window = window
        self.shifted = shifted
        self.norm1 = nn.LayerNorm(dim)
        self.attn = attention
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, dim * mlp_ratio)

    def shift_for(self, height: int, width: int) -> int:
        """Half a window in shifted blocks, 0 where one window covers the smaller of height and width (as in Swin)."""
        return self.window // 2 if self.shifted and min(height, width) > self.window else 0

    def attend(self, x: Tensor) -> Tensor:
        """Attention on (batch, height, width, dim)."""
        raise TypeError(f"{type(self).__name__} must implement attend")

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attend(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class BlockList(nn.Module):
    """A sequence of `blocks`; public checkpoints have this extra level in their keys (`residual_group.blocks.0...`)."""

    def __init__(self, blocks: Iterable[nn.Module]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return x


class ResidualGroup(nn.Module):
    """RSTB: transformer blocks, a 3x3 convolution, and the residual around both."""

    def __init__(self, dim: int, blocks: Iterable[nn.Module]) -> None:
        super().__init__()
        self.residual_group = BlockList(blocks)
        self.conv = nn.Conv2d(dim, dim, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        features = self.conv(self.residual_group(x).permute(0, 3, 1, 2))
        return x + features.permute(0, 2, 3, 1)


class PatchEmbed(nn.Module):
    """Patch embedding for patches of 1x1 pixels, which is a LayerNorm alone."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x)


def pixelshuffle_stages(dim: int, scale: int) -> nn.Sequential:
    """A convolution and a PixelShuffle for each factor of two (x2, x4), or one such stage for x3."""
    factors = {2: (2,), 3: (3,), 4: (2, 2)}[scale]
    stages: list[nn.Module] = []
    for factor in factors:
        stages += [nn.Conv2d(dim, dim * factor**2, 3, padding=1), nn.PixelShuffle(factor)]
    return nn.Sequential(*stages)


class SwinSkeleton(nn.Module):
    """A super-resolution network of residual transformer groups.

    Args:
        config: its sizes.
        make_block: returns a block; called with (config, shifted), where every second block of a group is shifted.
    """

    mean: Tensor
    upsample_features = 64

    def __init__(self, config: SwinConfig, make_block: Callable[[SwinConfig, bool], TransformerBlock]) -> None:
        super().__init__()
        self.config = config
        self.scale = config.scale
        self.window = config.window
        dim = config.dim
        self.register_buffer("mean", torch.tensor(RGB_MEAN).view(1, 3, 1, 1), persistent=False)
        self.conv_first = nn.Conv2d(3, dim, 3, padding=1)
        self.patch_embed = PatchEmbed(dim)
        self.layers = nn.ModuleList(
            ResidualGroup(dim, (make_block(config, index % 2 == 1) for index in range(depth)))
            for depth in config.depths
        )
        self.norm = nn.LayerNorm(dim)
        self.conv_after_body = nn.Conv2d(dim, dim, 3, padding=1)
        if config.upsampler is Upsampler.PIXELSHUFFLE:
            self.conv_before_upsample = nn.Sequential(
                nn.Conv2d(dim, self.upsample_features, 3, padding=1), nn.LeakyReLU()
            )
            self.upsample = pixelshuffle_stages(self.upsample_features, config.scale)
            self.conv_last = nn.Conv2d(self.upsample_features, 3, 3, padding=1)
        else:
            self.upsample = nn.Sequential(
                nn.Conv2d(dim, 3 * config.scale**2, 3, padding=1), nn.PixelShuffle(config.scale)
            )
        self.apply(_initialize_linear)

    def body(self, features: Tensor) -> Tensor:
        """Deep features of shallow ones, (batch, dim, height, width) -> the same shape."""
        x = self.patch_embed(features.permute(0, 2, 3, 1))
        for layer in self.layers:
            x = layer(x)
        return self.conv_after_body(self.norm(x).permute(0, 3, 1, 2)) + features

    def reconstruct(self, features: Tensor) -> Tensor:
        """The upscaled image without the mean: (batch, dim, h, w) -> (batch, 3, scale h, scale w)."""
        if self.config.upsampler is Upsampler.PIXELSHUFFLE:
            return self.conv_last(self.upsample(self.conv_before_upsample(features)))
        return self.upsample(features)

    def forward(self, x: Tensor) -> Tensor:
        """Upscales RGB (batch, 3, height, width) in [0, 1] by `scale`; any size of more than half a window."""
        height, width = x.shape[-2:]
        x = pad_to_multiple(x, self.window) - self.mean
        out = self.reconstruct(self.body(self.conv_first(x))) + self.mean
        return out[..., : height * self.scale, : width * self.scale]


def pad_to_multiple(x: Tensor, multiple: int) -> Tensor:
    """Pads (…, height, width) by reflection at the bottom and right to multiples; returns `x` itself if it fits.

    Raises:
        TileError: height or width is too small to be reflected that far.
    """
    height, width = x.shape[-2:]
    bottom, right = -height % multiple, -width % multiple
    if bottom == 0 and right == 0:
        return x
    if bottom >= height or right >= width:
        raise TileError(
            f"an image of {height}x{width} pixels is too small to be padded by reflection to multiples of {multiple}",
            found=(height, width),
            wanted=multiple // 2 + 1,
            remedy=f"give an image of more than {multiple // 2} pixels in height and width, or use a session, which "
            "pads to its tile",
        )
    return functional.pad(x, (0, right, 0, bottom), mode="reflect")


def _initialize_linear(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)


@torch.no_grad()
def initialize_swin(network: nn.Module) -> None:
    """Sets the weights of a `SwinSkeleton` in place so that it upscales bicubically before the first training step.

    The first features become the colours of a pixel and its eight neighbours, the last convolution weights them, and
    the deep branch starts at zero. A network with the longer upsampler (`Upsampler.PIXELSHUFFLE`) is left unchanged.
    """
    skeleton = cast("SwinSkeleton", network)
    if skeleton.config.upsampler is not Upsampler.PIXELSHUFFLE_DIRECT:
        return
    first, deep, last = (
        cast("nn.Conv2d", layer) for layer in (skeleton.conv_first, skeleton.conv_after_body, skeleton.upsample[0])
    )
    for conv in (first, deep, last):
        conv.bias = nn.Parameter(torch.zeros(conv.out_channels))
    deep.weight.zero_()
    last.weight.mul_(0.1)
    last.weight[:, : 3 * 9] = 0
    for colour in range(3):
        neighbours = slice(colour * 9, (colour + 1) * 9)
        phases = slice(colour * skeleton.scale**2, (colour + 1) * skeleton.scale**2)
        first.weight[neighbours] = 0
        first.weight[neighbours, colour] = torch.eye(9).reshape(9, 3, 3)
        last.weight[phases, neighbours] = bicubic_of_neighbours(skeleton.scale)
