"""Networks after the publications of three families, written as their authors export them: seeded, for measurements.

Each is a factory for `--arch foreign_networks:NAME`. They contain the layers that compilers run slowly as exported:
`bsrn_like` has linear layers and activations on channels-last tensors, `safmn_like` normalizations of one group, and
`compact_few` PReLU activations of few channels.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

SEED = 0
SCALE = 4


class ChannelsLastLinear(nn.Linear):
    """A linear layer over the channels of an NCHW tensor, applied with the channels last."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class BlueprintConvolution(nn.Module):
    """A linear layer over the channels and a depthwise convolution of 3x3 (blueprint separable convolution)."""

    def __init__(self, channels: int, filters: int) -> None:
        super().__init__()
        self.pointwise = ChannelsLastLinear(channels, filters, bias=False)
        self.depthwise = nn.Conv2d(filters, filters, 3, padding=1, groups=filters)

    def forward(self, x: Tensor) -> Tensor:
        return self.depthwise(self.pointwise(x))


class SpatialAttention(nn.Module):
    """The enhanced spatial attention of RFANet with blueprint convolutions."""

    def __init__(self, channels: int, features: int = 16) -> None:
        super().__init__()
        self.reduce = ChannelsLastLinear(channels, features)
        self.skip = ChannelsLastLinear(features, features)
        self.expand = ChannelsLastLinear(features, channels)
        self.stride = nn.Conv2d(features, features, 3, stride=2)
        self.body = nn.Sequential(
            BlueprintConvolution(features, features),
            nn.GELU(),
            BlueprintConvolution(features, features),
            nn.GELU(),
            BlueprintConvolution(features, features),
        )

    def forward(self, x: Tensor) -> Tensor:
        reduced = self.reduce(x)
        pooled = functional.max_pool2d(self.stride(reduced), 7, 3)
        attention = functional.interpolate(self.body(pooled), x.shape[2:], mode="bilinear", align_corners=False)
        return x * torch.sigmoid(self.expand(attention + self.skip(reduced)))


class ContrastAttention(nn.Module):
    """The channel attention of IMDN, from the mean and the standard deviation of each channel."""

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        self.gate = nn.Sequential(
            nn.Conv2d(channels, channels // reduction, 1),
            nn.ReLU(),
            nn.Conv2d(channels // reduction, channels, 1),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean((2, 3), keepdim=True)
        deviation = (x - mean).pow(2).mean((2, 3), keepdim=True).sqrt()
        return x * self.gate(mean + deviation)


class DistillationBlock(nn.Module):
    """The efficient separable distillation block of BSRN, with its distilled features joined channels-last."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.distilled = nn.ModuleList(nn.Linear(channels, half) for _ in range(3))
        self.refined = nn.ModuleList(BlueprintConvolution(channels, channels) for _ in range(3))
        self.last = BlueprintConvolution(channels, half)
        self.joined = nn.Linear(4 * half, channels)
        self.spatial, self.contrast = SpatialAttention(channels), ContrastAttention(channels)
        self.out = ChannelsLastLinear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        parts, current = [], x
        for distil, refine in zip(self.distilled, self.refined, strict=True):
            parts.append(functional.gelu(distil(current.permute(0, 2, 3, 1))))
            current = functional.gelu(refine(current) + current)
        parts.append(functional.gelu(self.last(current)).permute(0, 2, 3, 1))
        joined = self.joined(torch.cat(parts, dim=3)).permute(0, 3, 1, 2)
        return self.out(self.contrast(self.spatial(joined))) + x


class BsrnLike(nn.Module):
    """BSRN of Li et al., "Blueprint Separable Residual Network for Efficient Image Super-Resolution", CVPRW 2022."""

    def __init__(self, channels: int = 48, blocks: int = 5, scale: int = SCALE) -> None:
        super().__init__()
        self.first = BlueprintConvolution(12, channels)
        self.blocks = nn.ModuleList(DistillationBlock(channels) for _ in range(blocks))
        self.fuse = ChannelsLastLinear(channels * blocks, channels)
        self.smooth = BlueprintConvolution(channels, channels)
        self.up = nn.Sequential(nn.Conv2d(channels, 3 * scale**2, 3, padding=1), nn.PixelShuffle(scale))

    def forward(self, x: Tensor) -> Tensor:
        first = current = self.first(torch.cat([x] * 4, dim=1))
        outputs = []
        for block in self.blocks:
            current = block(current)
            outputs.append(current)
        fused = functional.gelu(self.fuse(torch.cat(outputs, dim=1)))
        return self.up(self.smooth(fused) + first)


class FeatureModulation(nn.Module):
    """The spatially adaptive feature modulation of SAFMN: quarters of the channels at four resolutions."""

    def __init__(self, channels: int, levels: int = 4) -> None:
        super().__init__()
        self.levels, quarter = levels, channels // levels
        self.filters = nn.ModuleList(nn.Conv2d(quarter, quarter, 3, padding=1, groups=quarter) for _ in range(levels))
        self.aggregate = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        parts = x.chunk(self.levels, dim=1)
        outputs = [self.filters[0](parts[0])]
        for level in range(1, self.levels):
            pooled = functional.max_pool2d(parts[level], 2**level)  # exporters take no adaptive pooling to traced sizes
            outputs.append(functional.interpolate(self.filters[level](pooled), (height, width), mode="nearest"))
        return x * functional.gelu(self.aggregate(torch.cat(outputs, dim=1)))


class ModulationBlock(nn.Module):
    """A block of SAFMN with GroupNorm of one group, which exporters write as Reshape and InstanceNormalization."""

    def __init__(self, channels: int, expansion: int = 2) -> None:
        super().__init__()
        hidden = channels * expansion
        self.norms = nn.ModuleList(nn.GroupNorm(1, channels) for _ in range(2))
        self.modulation = FeatureModulation(channels)
        self.mixer = nn.Sequential(nn.Conv2d(channels, hidden, 3, padding=1), nn.GELU(), nn.Conv2d(hidden, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.modulation(self.norms[0](x))
        return x + self.mixer(self.norms[1](x))


class SafmnLike(nn.Module):
    """SAFMN of Sun et al., "Spatially-Adaptive Feature Modulation for Efficient Image Super-Resolution", ICCV 2023."""

    def __init__(self, channels: int = 36, blocks: int = 8, scale: int = SCALE) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, channels, 3, padding=1)
        self.blocks = nn.Sequential(*(ModulationBlock(channels) for _ in range(blocks)))
        self.up = nn.Sequential(nn.Conv2d(channels, 3 * scale**2, 3, padding=1), nn.PixelShuffle(scale))

    def forward(self, x: Tensor) -> Tensor:
        first = self.first(x)
        return self.up(self.blocks(first) + first)


class CompactFew(nn.Module):
    """The SRVGGNet of Real-ESRGAN with few channels: convolutions and PReLU on top of the enlarged input."""

    def __init__(self, channels: int = 24, convolutions: int = 8, scale: int = SCALE) -> None:
        super().__init__()
        self.scale = scale
        layers: list[nn.Module] = [nn.Conv2d(3, channels, 3, padding=1), nn.PReLU(channels)]
        for _ in range(convolutions):
            layers += [nn.Conv2d(channels, channels, 3, padding=1), nn.PReLU(channels)]
        self.body = nn.Sequential(*layers, nn.Conv2d(channels, 3 * scale**2, 3, padding=1), nn.PixelShuffle(scale))

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x) + functional.interpolate(x, scale_factor=float(self.scale), mode="nearest")


def _seeded(build: Callable[[], nn.Module]) -> nn.Module:
    """A network with seeded weights; the scales and offsets of its norms and the slopes of PReLU differ by channel.

    The weights of the last convolution are small, so that the output stays within the range of pictures.
    """
    with torch.random.fork_rng():
        torch.manual_seed(SEED)
        network = build()
        for module in network.modules():
            if isinstance(module, nn.GroupNorm):
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.uniform_(module.bias, -0.5, 0.5)
            if isinstance(module, nn.PReLU):
                nn.init.uniform_(module.weight, 0.05, 0.4)
        *_, last = (module for module in network.modules() if isinstance(module, nn.Conv2d))
        nn.init.normal_(last.weight, std=0.003)
    return network.eval()


def bsrn_like() -> nn.Module:
    """A network like BSRN, of 48 channels and 5 blocks."""
    return _seeded(BsrnLike)


def safmn_like() -> nn.Module:
    """A network like SAFMN, of 36 channels and 8 blocks."""
    return _seeded(SafmnLike)


def compact_few() -> nn.Module:
    """A Compact network of 24 channels and 8 convolutions between the first and the last."""
    return _seeded(CompactFew)


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "bsrn_like": bsrn_like,
    "safmn_like": safmn_like,
    "compact_few": compact_few,
}
"""The factories by name."""
