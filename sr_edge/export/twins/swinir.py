"""The static twin of SwinIR: 1x1 convolutions on the feature map, windows by one Gather, and softmax attention in them.

Compilers fuse the operators between the two matrix multiplications of attention where the scores have four dimensions
and are not reshaped in between. The training form adds the mask of shifted windows to five dimensions.

Swin adds -100 to the scores of pairs from different regions, whose weight is then zero unless such a score exceeds the
largest score within the region by about 100. Here a Min limits these scores to -60,000, which makes the weight zero
whatever the scores are. It also avoids a second Add: OpenVINO would fold the position bias (heads, N, N) and an added
mask (windows, 1, N, N) into one constant (windows, heads, N, N), which is 100 MB for each block at 256x256 pixels.

Source: sr_edge/models/architectures/swinir.py.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from sr_edge.export.twins.affine import pointwise
from sr_edge.export.twins.mean_free import MeanFreeNorm, fold_norm, reflected_map
from sr_edge.export.twins.swin import StaticSkeleton, static_groups
from sr_edge.export.twins.windows import Windows
from sr_edge.models.architectures.swinir import SoftmaxBlock, SwinIR, shift_mask
from sr_edge.models.layers.swin import TransformerBlock
from sr_edge.spec import TileSpec

LARGEST_SCORE = 60_000.0  # finite in float16


def score_limits(height: int, width: int, window: int, shift: int) -> Tensor:
    """Upper limits of the scores (windows, 1, window², window²): LARGEST_SCORE within a region, else -LARGEST_SCORE."""
    mask = shift_mask(height, width, window, shift)[:, None]
    return torch.where(mask == 0, LARGEST_SCORE, -LARGEST_SCORE)


class StaticWindowAttention(nn.Module):
    """The first LayerNorm and the attention of a block, on (1, dim, height, width) in the reflected basis."""

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
    """Weight (3 dim, dim) and bias of the q, k, v map in float64, with LayerNorm and the scale folded in."""
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
