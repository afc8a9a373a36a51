"""TaylorSwinIR: SwinIR with every pixel a token, windows of 48x48 pixels and TaylorShift for softmax.

Source: "A Low-Resolution Image is Worth 1x1 Words" (TaylorIR, arXiv 2411.10231). No code was published. The
following details, which the paper leaves open, are our choices:

- No relative position bias, since the efficient form cannot include a bias for each pair of tokens.
- A shifted block is equivalent to Swin's mask, without attention across the wrap-around. Swin rolls the image and
  masks; with linear attention the image is not rolled, but divided into the regions that the mask separates
  (height 96, window 48, shift 24: rows 24 | 48 | 24), and attention is computed in each of them.
- No shift where one window covers the smaller of height and width, as in Swin. This depends on the input, so
  training patches of one window and larger images follow the same rule.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from sr_edge.models.layers.swin import SwinConfig, SwinSkeleton, TransformerBlock, Upsampler
from sr_edge.models.layers.taylor_shift import TaylorShiftAttention

TAYLOR_SWINIR_SIZES = {
    "m": SwinConfig(180, (6,) * 6, 6, 48, 2, Upsampler.PIXELSHUFFLE),
    "light": SwinConfig(60, (6,) * 4, 6, 48, 2, Upsampler.PIXELSHUFFLE_DIRECT),
    "tiny": SwinConfig(32, (2,) * 4, 4, 48, 2, Upsampler.PIXELSHUFFLE_DIRECT),
}


def window_bands(length: int, window: int, shift: int) -> list[slice]:
    """Divides one axis where shifted windows end: length 96, window 48, shift 24 gives 0:24, 24:72, 72:96."""
    boundaries = [0, *range(shift or window, length, window), length]
    return [slice(start, stop) for start, stop in itertools.pairwise(boundaries)]


class TaylorBlock(TransformerBlock):
    """A transformer block with TaylorShift attention in the regions of (shifted) windows."""

    attn: TaylorShiftAttention

    def __init__(self, config: SwinConfig, shifted: bool) -> None:
        attention = TaylorShiftAttention(config.dim, config.heads)
        super().__init__(config.dim, config.window, shifted, config.mlp_ratio, attention)

    def attend(self, x: Tensor) -> Tensor:
        """TaylorShift within every region of the (shifted) window grid; x is (batch, height, width, dim)."""
        height, width = x.shape[1:3]
        shift = self.shift_for(height, width)
        columns = window_bands(width, self.window, shift)
        rows = [
            torch.cat([self._attend_region(x[:, row, column]) for column in columns], dim=2)
            for row in window_bands(height, self.window, shift)
        ]
        return torch.cat(rows, dim=1)

    def _attend_region(self, region: Tensor) -> Tensor:
        return self.attn(region.flatten(1, 2)).reshape(region.shape)


class TaylorSwinIR(SwinSkeleton):
    """The network of one configuration."""

    def __init__(self, config: SwinConfig) -> None:
        super().__init__(config, TaylorBlock)
