"""The static twin of TaylorSwinIR, and what the twins of SwinIR-like networks share: NCHW and 1x1 convolutions.

Between the 3x3 convolutions of a TaylorSwinIR group every layer works pixel by pixel or on whole regions, so the
order of the pixels does not matter there: the feature map is cut into cells at the start of a group and reassembled at
its end.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from sr_edge.export.twins.affine import pointwise
from sr_edge.export.twins.feed_forward import StaticMlp
from sr_edge.export.twins.mean_free import MeanFreeNorm, fold_norm, reflect_input, reflect_output, reflected_map
from sr_edge.export.twins.taylor import StaticTaylorAttention
from sr_edge.models.architectures.taylor_swinir import TaylorBlock, TaylorSwinIR
from sr_edge.models.layers.swin import ResidualGroup, SwinSkeleton, TransformerBlock, Upsampler
from sr_edge.spec import TileSpec


@dataclass(frozen=True)
class CellGrid:
    """A feature map cut into equal square cells, row by row; sizes are in pixels, `rows` and `columns` in cells."""

    height: int
    width: int
    window: int

    @property
    def shift(self) -> int:
        """The shift of Swin: half a window, and none where one window spans the shorter edge of the image."""
        return self.window // 2 if min(self.height, self.width) > self.window else 0

    @property
    def cell_px(self) -> int:
        """Width and height of a cell."""
        return self.shift or self.window

    @property
    def rows(self) -> int:
        return self.height // self.cell_px

    @property
    def columns(self) -> int:
        return self.width // self.cell_px

    def labels(self, shifted: bool) -> Tensor:
        """The index of the attention region of each cell, (rows * columns,)."""
        offset = self.shift if shifted else 0
        row, column = (
            (torch.arange(count) * self.cell_px + (self.window - offset) % self.window) // self.window
            for count in (self.rows, self.columns)
        )
        return (row[:, None] * (self.columns + 1) + column[None, :]).flatten()

    def cut(self, plane: Tensor) -> Tensor:
        """(1, channels, height, width) -> (cells, channels, cell_px, cell_px)."""
        channels = plane.shape[1]
        x = plane.reshape(channels, self.rows, self.cell_px, self.columns, self.cell_px)
        return x.permute(1, 3, 0, 2, 4).reshape(-1, channels, self.cell_px, self.cell_px)

    def join(self, cells: Tensor) -> Tensor:
        """The inverse of `cut`."""
        channels = cells.shape[1]
        x = cells.reshape(self.rows, self.columns, channels, self.cell_px, self.cell_px)
        return x.permute(2, 0, 3, 1, 4).reshape(1, channels, self.height, self.width)


class StaticTaylorBlock(nn.Module):
    """A transformer block of TaylorSwinIR on cells, in the reflected basis."""

    def __init__(self, block: TaylorBlock, grid: CellGrid) -> None:
        super().__init__()
        layer = block.attn
        self.norm1 = MeanFreeNorm(block.norm1)
        self.attn = StaticTaylorAttention(
            layer,
            grid.labels(block.shifted),
            grid.cell_px**2,
            fold_norm(block.norm1, layer.qkv.weight, layer.qkv.bias),
            reflected_map(layer.proj),
        )
        self.norm2 = MeanFreeNorm(block.norm2)
        self.mlp = StaticMlp(block.mlp, block.norm2)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class StaticTaylorGroup(nn.Module):
    """A residual group of TaylorSwinIR on (1, dim, height, width), in the reflected basis."""

    def __init__(self, group: ResidualGroup, grid: CellGrid) -> None:
        super().__init__()
        self.grid = grid
        blocks = cast("Iterable[TaylorBlock]", group.residual_group.blocks)
        self.blocks = nn.Sequential(*(StaticTaylorBlock(block, grid) for block in blocks))
        self.conv = reflect_output(reflect_input(group.conv))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(self.grid.join(self.blocks(self.grid.cut(x))))


class AffineNorm(nn.Module):
    """LayerNorm over channels with gamma and beta, in the reflected basis, in front of a 3x3 convolution.

    Such a convolution pads with zeros, so beta cannot be folded into its bias.
    """

    def __init__(self, norm: nn.LayerNorm) -> None:
        super().__init__()
        channels, dtype = norm.weight.numel(), norm.weight.dtype
        weight, bias = fold_norm(norm, torch.eye(channels), torch.zeros(channels))
        self.norm = MeanFreeNorm(norm)
        self.affine = pointwise(weight, bias, dtype)

    def forward(self, x: Tensor) -> Tensor:
        return self.affine(self.norm(x))


class StaticSkeleton(nn.Module):
    """The layers before and after the groups, which the twins of SwinIR-like networks share, in the reflected basis.

    Args:
        network: The trained network.
        groups: The twins of its groups, which map (1, dim, height, width) to the same shape.
    """

    mean: Tensor

    def __init__(self, network: SwinSkeleton, groups: Iterable[nn.Module]) -> None:
        super().__init__()
        self.register_buffer("mean", network.mean.clone())
        self.conv_first = reflect_output(network.conv_first)
        self.embed_norm = AffineNorm(network.patch_embed.norm)
        self.embed_norm.affine = reflect_output(self.embed_norm.affine)
        self.groups = nn.Sequential(*groups)
        self.norm = AffineNorm(network.norm)
        self.conv_after_body = reflect_output(network.conv_after_body)
        self.reconstruct = static_upsampler(network)

    def forward(self, x: Tensor) -> Tensor:
        features = self.conv_first(x - self.mean)
        deep = self.conv_after_body(self.norm(self.groups(self.embed_norm(features))))
        return self.reconstruct(deep + features) + self.mean


class StaticTaylorSwinIR(StaticSkeleton):
    """TaylorSwinIR for one input shape, (1, 3, height, width)."""

    def __init__(self, network: TaylorSwinIR, input_shape: torch.Size) -> None:
        _, _, height, width = input_shape
        TileSpec(height, width).require_multiple_of(network.window)
        grid = CellGrid(height, width, network.window)
        groups = cast("Iterable[ResidualGroup]", network.layers)
        super().__init__(network, (StaticTaylorGroup(group, grid) for group in groups))


class StaticBlock(nn.Module):
    """x + attention(x), then x + mlp(norm2(x)), on a feature map; `attention` includes the block's first LayerNorm."""

    def __init__(self, block: TransformerBlock, attention: nn.Module) -> None:
        super().__init__()
        self.attn = attention
        self.norm2 = MeanFreeNorm(block.norm2)
        self.mlp = StaticMlp(block.mlp, block.norm2)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(x)
        return x + self.mlp(self.norm2(x))


class StaticSwinGroup(nn.Module):
    """A residual group on (1, dim, height, width), in the reflected basis."""

    def __init__(self, group: ResidualGroup, blocks: Iterable[nn.Module]) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*blocks)
        self.conv = reflect_output(reflect_input(group.conv))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(self.blocks(x))


def static_groups(network: SwinSkeleton, attention: Callable[[TransformerBlock], nn.Module]) -> Iterator[nn.Module]:
    """Builds the twins of the network's groups, on (1, dim, height, width) in the reflected basis.

    Args:
        network: The trained network.
        attention: Builds the twin of the first LayerNorm and the attention of a block.
    """
    for group in cast("Iterable[ResidualGroup]", network.layers):
        blocks = cast("Iterable[TransformerBlock]", group.residual_group.blocks)
        yield StaticSwinGroup(group, (StaticBlock(block, attention(block)) for block in blocks))


def static_upsampler(network: SwinSkeleton) -> nn.Sequential:
    """A copy of the upsampler whose first convolution takes features in the reflected basis."""
    stages: list[nn.Module] = []
    if network.config.upsampler is Upsampler.PIXELSHUFFLE:
        stages = [*network.conv_before_upsample, *network.upsample, network.conv_last]
    else:
        stages = [*network.upsample]
    first = cast("nn.Conv2d", stages[0])
    return nn.Sequential(reflect_input(first), *copy.deepcopy(stages[1:]))


TWINS = ((TaylorSwinIR, StaticTaylorSwinIR),)
