"""SwinIR with softmax attention in 8x8 windows, which loads public checkpoints.

Source: Liang et al., "SwinIR: Image Restoration Using Swin Transformer" (2021); windows, shift and relative
position bias from Liu et al., "Swin Transformer" (2021). Public checkpoints also contain two tables
that are derived from the sizes: `relative_position_index` is a buffer here, too, while `attn_mask` is ignored, since
the mask is computed for each input.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sr_edge.models.layers.swin import SwinConfig, SwinSkeleton, TransformerBlock, Upsampler

SWINIR_SIZES = {
    "m": SwinConfig(180, (6,) * 6, 6, 8, 2, Upsampler.PIXELSHUFFLE),
    "light": SwinConfig(60, (6,) * 4, 6, 8, 2, Upsampler.PIXELSHUFFLE_DIRECT),
}

MASKED = -100.0  # Swin's logit for pairs of tokens that only the cyclic shift has placed in one window


def relative_position_index(window: int) -> Tensor:
    """Index into the bias table for every pair of tokens of a window: (window², window²)."""
    axis = torch.arange(window)
    position = torch.stack(torch.meshgrid(axis, axis, indexing="ij")).flatten(1)
    offset = position[:, :, None] - position[:, None, :] + window - 1
    return offset[0] * (2 * window - 1) + offset[1]


def partition(x: Tensor, window: int) -> Tensor:
    """(batch, height, width, dim) -> (batch * windows, window², dim)."""
    batch, height, width, dim = x.shape
    x = x.reshape(batch, height // window, window, width // window, window, dim)
    return x.transpose(2, 3).reshape(-1, window**2, dim)


def unpartition(windows: Tensor, window: int, height: int, width: int) -> Tensor:
    """Inverse of `partition`."""
    dim = windows.shape[-1]
    x = windows.reshape(-1, height // window, width // window, window, window, dim)
    return x.transpose(2, 3).reshape(-1, height, width, dim)


def shift_mask(height: int, width: int, window: int, shift: int) -> Tensor:
    """Mask of shifted windows (windows, window², window²): 0 for pairs of one region of the image, else MASKED."""
    row, column = (
        (torch.arange(length) >= length - window).int() + (torch.arange(length) >= length - shift).int()
        for length in (height, width)
    )
    region = 3 * row[:, None] + column[None, :]
    label = partition(region[None, :, :, None], window).squeeze(-1)
    return (label[:, :, None] != label[:, None, :]).float() * MASKED


class WindowAttention(nn.Module):
    """Softmax attention with relative position bias over (batch * windows, window², dim)."""

    relative_position_index: Tensor

    def __init__(self, dim: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * window - 1) ** 2, heads))
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)
        self.register_buffer("relative_position_index", relative_position_index(window))

    def position_bias(self) -> Tensor:
        """The relative position bias of every pair of tokens: (heads, window², window²)."""
        tokens = self.relative_position_index.shape[0]
        bias = self.relative_position_bias_table[self.relative_position_index.flatten()]
        return bias.reshape(tokens, tokens, self.heads).permute(2, 0, 1)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        batch, tokens, dim = x.shape
        d = dim // self.heads
        q, k, v = self.qkv(x).reshape(batch, tokens, 3, self.heads, d).permute(2, 0, 3, 1, 4).unbind(0)
        scores = (q * d**-0.5) @ k.transpose(-1, -2) + self.position_bias()
        if mask is not None:
            windows = mask.shape[0]
            scores = scores.reshape(-1, windows, self.heads, tokens, tokens) + mask[:, None]
            scores = scores.reshape(batch, self.heads, tokens, tokens)
        out = scores.softmax(-1) @ v
        return self.proj(out.transpose(1, 2).reshape(batch, tokens, dim))


class SoftmaxBlock(TransformerBlock):
    """A transformer block with softmax attention in (shifted) windows."""

    attn: WindowAttention

    def __init__(self, config: SwinConfig, shifted: bool) -> None:
        attention = WindowAttention(config.dim, config.heads, config.window)
        super().__init__(config.dim, config.window, shifted, config.mlp_ratio, attention)

    def attend(self, x: Tensor) -> Tensor:
        """Rolls by the shift, applies attention in windows with Swin's mask, and rolls back."""
        height, width = x.shape[1:3]
        shift = self.shift_for(height, width)
        mask = shift_mask(height, width, self.window, shift).to(x) if shift else None
        rolled = torch.roll(x, (-shift, -shift), (1, 2)) if shift else x
        windows = self.attn(partition(rolled, self.window), mask)
        out = unpartition(windows, self.window, height, width)
        return torch.roll(out, (shift, shift), (1, 2)) if shift else out


class SwinIR(SwinSkeleton):
    """The network of one configuration."""

    def __init__(self, config: SwinConfig) -> None:
        super().__init__(config, SoftmaxBlock)
