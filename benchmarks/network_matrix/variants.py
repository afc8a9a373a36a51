"""Two published variants of SPAN and SAFMN that no registry recognises, as factories for `--arch`.

`span_x4_ch28` is SPAN (Wan et al., "Swift Parameter-free Attention Network for Efficient Super-Resolution", 2024) with
28 channels, whose re-parameterised convolutions are stored as one 3x3 convolution each. `safmn_x4_dim40_blocks15` is
SAFMN (Sun et al., "Spatially-Adaptive Feature Modulation for Efficient Image Super-Resolution", 2023) with 40 channels
and 15 blocks, whose convolutional channel mixer has two 1x1 convolutions.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

MEAN_RGB = (0.4488, 0.4371, 0.4040)
"""What SPAN subtracts from a picture, as its authors do."""

LEVELS = 4
"""The scales at which SAFMN modulates its features, each half the size of the one before."""


class _StoredConv(nn.Module):
    """A re-parameterised convolution, of which the file has the merged kernel."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.eval_conv = nn.Conv2d(inputs, outputs, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.eval_conv(x)
        return result


class _AttentionBlock(nn.Module):
    """Three convolutions; the last one's output is both the residual and, without parameters, its attention."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.c1_r, self.c2_r, self.c3_r = (_StoredConv(width, width) for _ in range(3))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The output of the block, and the activated output of its first convolution."""
        first = functional.silu(self.c1_r(x))
        third = self.c3_r(functional.silu(self.c2_r(first)))
        return (third + x) * (torch.sigmoid(third) - 0.5), first


class _Span(nn.Module):
    block_1: _AttentionBlock
    block_2: _AttentionBlock
    block_3: _AttentionBlock
    block_4: _AttentionBlock
    block_5: _AttentionBlock
    block_6: _AttentionBlock
    mean: Tensor

    def __init__(self, width: int, scale: int) -> None:
        super().__init__()
        self.conv_1, self.conv_2 = _StoredConv(3, width), _StoredConv(width, width)
        for number in range(1, 7):
            setattr(self, f"block_{number}", _AttentionBlock(width))
        self.conv_cat = nn.Conv2d(4 * width, width, 1)
        self.upsampler = nn.Sequential(nn.Conv2d(width, 3 * scale**2, 3, padding=1), nn.PixelShuffle(scale))

        self.register_buffer("mean", torch.tensor(MEAN_RGB).view(1, 3, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        features = self.conv_1((x - self.mean) * 255)
        first, _ = self.block_1(features)
        output = first
        for block in (self.block_2, self.block_3, self.block_4, self.block_5):
            output, _ = block(output)
        output, inner = self.block_6(output)
        result: Tensor = self.upsampler(self.conv_cat(torch.cat([features, self.conv_2(output), first, inner], 1)))
        return result


class _GroupNorm(nn.Module):
    """GroupNorm with one group: over channels, rows and columns together."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(1, width)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.norm(x)
        return result


class _FeatureModulation(nn.Module):
    """Depthwise convolutions of the features at several scales modulate the features."""

    def __init__(self, width: int) -> None:
        super().__init__()
        part = width // LEVELS
        self.mfr = nn.ModuleList(nn.Conv2d(part, part, 3, padding=1, groups=part) for _ in range(LEVELS))
        self.aggr = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        parts = []
        for level, (part, conv) in enumerate(zip(x.chunk(LEVELS, dim=1), self.mfr, strict=True)):
            if level:
                small = functional.adaptive_max_pool2d(part, (height // 2**level, width // 2**level))
                parts.append(functional.interpolate(conv(small), size=(height, width), mode="nearest"))
            else:
                parts.append(conv(part))
        return functional.gelu(self.aggr(torch.cat(parts, dim=1))) * x


class _ModulationBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = _GroupNorm(width), _GroupNorm(width)
        self.safm = _FeatureModulation(width)
        self.ffn = nn.Sequential(nn.Conv2d(width, 2 * width, 1), nn.GELU(), nn.Conv2d(2 * width, width, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = self.safm(self.norm1(x)) + x
        result: Tensor = self.ffn(self.norm2(x)) + x
        return result


class _Safmn(nn.Module):
    def __init__(self, width: int, blocks: int, scale: int) -> None:
        super().__init__()
        self.scale = scale
        self.to_feat = nn.Conv2d(3, width, 3, padding=1)
        self.blocks = nn.Sequential(*(_ModulationBlock(width) for _ in range(blocks)))
        self.upsampler = nn.Sequential(nn.Conv2d(width, 3 * scale**2, 3, padding=1), nn.PixelShuffle(scale))

    def forward(self, x: Tensor) -> Tensor:
        features = self.to_feat(x)
        details: Tensor = self.upsampler(self.blocks(features) + features)
        return details + functional.interpolate(x, scale_factor=self.scale, mode="bilinear")


def span_x4_ch28() -> nn.Module:
    return _Span(width=28, scale=4).eval()


def safmn_x4_dim40_blocks15() -> nn.Module:
    return _Safmn(width=40, blocks=15, scale=4).eval()


FACTORIES = ("span_x4_ch28", "safmn_x4_dim40_blocks15")
"""The names of published files, without suffix, that are loaded with the factory of the same name."""
