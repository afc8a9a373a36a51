"""The static twin of SwinIR: a plane of 1x1 convolutions, windows by one gather, softmax attention in them.

Compilers fuse what stands between a window's two matmuls where scores have four dimensions and are not reshaped on the
way. In the training form the mask of shifted windows is added to five.

Swin adds -100 to the scores of pairs from different regions, which leaves them no weight unless they exceed the
largest score within a region by about as much. Here a minimum holds them at -60,000: no weight whatever the scores. Two
constants that are added, the position bias (heads, N, N) and the mask (windows, 1, N, N), would be made one of
(windows, heads, N, N) by OpenVINO: at 256x256 pixels 100 MB a block.

Source: sr_edge/models/swinir.py.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from sr_edge.export.mean_free import MeanFreeNorm, fold_norm, pointwise
from sr_edge.export.swin import StaticSkeleton, reflected_map, static_groups
from sr_edge.export.windows import Windows
from sr_edge.models.swin import TransformerBlock
from sr_edge.models.swinir import SoftmaxBlock, SwinIR, shift_mask
from sr_edge.spec import TileSpec

LARGEST_SCORE = 60_000.0  # a float16 number


def score_limits(height: int, width: int, window: int, shift: int) -> Tensor:
    """(windows, 1, window², window²): the largest score of a pair of tokens; the lowest for those of two regions."""
    mask = shift_mask(height, width, window, shift)[:, None]
    return torch.where(mask == 0, LARGEST_SCORE, -LARGEST_SCORE)


class StaticWindowAttention(nn.Module):
    """A block's first LayerNorm and attention: (1, dim, height, width) in the reflected basis -> the same."""

    position_bias: Tensor
    limits: Tensor | None

    def __init__(self, block: SoftmaxBlock, height: int, width: int, limits: Tensor) -> None:
        super().__init__()
        layer, dtype = block.attn, block.norm1.weight.dtype
        shift = block.shift_for(height, width)
        self.heads = layer.heads
        self.norm = MeanFreeNorm(block.norm1)
        self.qkv = pointwise(*scaled_qkv(block), dtype)
        self.windows = Windows(height, width, block.window, shift)
        self.register_buffer("position_bias", layer.position_bias()[None].detach().clone())
        self.register_buffer("limits", limits.to(dtype) if shift else None)
        self.proj = pointwise(*reflected_map(layer.proj), dtype)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.windows.cut(self.qkv(self.norm(x)))
        q, k, v = (self.split_heads(part) for part in tokens.chunk(3, dim=-1))
        scores = q @ k.transpose(-1, -2) + self.position_bias
        if self.limits is not None:
            scores = torch.minimum(scores, self.limits)
        out = (scores.softmax(-1) @ v).transpose(1, 2)
        return self.proj(self.windows.join(out.flatten(2)))

    def split_heads(self, tokens: Tensor) -> Tensor:
        """(windows, N, dim) -> (windows, heads, N, dim / heads)."""
        windows, count, dim = tokens.shape
        return tokens.reshape(windows, count, self.heads, dim // self.heads).transpose(1, 2)


def scaled_qkv(block: SoftmaxBlock) -> tuple[Tensor, Tensor]:
    """Weight (3 dim, dim) and bias, in float64, with the LayerNorm before it and the scale of the scores in q."""
    layer = block.attn
    weight, bias = fold_norm(block.norm1, layer.qkv.weight, layer.qkv.bias)
    dim = weight.shape[1]
    scale = torch.ones(3 * dim, dtype=torch.float64)
    scale[:dim] = (dim // layer.heads) ** -0.5
    return weight * scale[:, None], bias * scale


class StaticSwinIR(StaticSkeleton):
    """SwinIR for one input shape, (1, 3, height, width)."""

    def __init__(self, network: SwinIR, input_shape: torch.Size) -> None:
        _, _, height, width = input_shape
        TileSpec(height, width).require_multiple_of(network.window)
        limits = score_limits(height, width, network.window, network.window // 2)

        def attention(block: TransformerBlock) -> nn.Module:
            return StaticWindowAttention(cast("SoftmaxBlock", block), height, width, limits)

        super().__init__(network, static_groups(network, attention))


TWINS = ((SwinIR, StaticSwinIR),)
