"""UPS: the skeleton of SwinIR-light with attention in one projection space that all layers share.

Source: "UPS: Unified Projection Sharing for Lightweight Single-Image Super-resolution and Beyond" (NeurIPS 2024).
No code was published. The paper gives: a SwinIR-light-like network; one learnable projection matrix for the
similarities of all attention layers, features and values layer by layer; similarity = ReLU of the cosine; a
projection space of 128 dimensions, the best of 8, 32, 64, 128 and 256 (34.00 dB and 0.9220 on Urban100 x2); a V
projection makes no visible difference. The following details, which it leaves open, are our choices:

- Depth, width, window and upsampler: SwinIR-light's (60 channels, four groups of six blocks, windows of 8x8, one
  convolution before the pixel shuffle), since the paper compares with that baseline layer by layer (its layers 12
  and 23 imply 24 blocks).
- One similarity map for each layer and no heads: the published formula has one, and heads in a shared space would need
  a rule for dividing it.
- P has no bias: the paper calls it a matrix, and an offset would make the origin of the space depend on the layer.
- P is applied to the normalised features (after the block's first LayerNorm), as q and k do in SwinIR.
- Rows of S are divided by their sum + 1e-6: without softmax, the scale of the output would otherwise depend
  on the number of similar tokens in a window.
- No relative position bias: a cosine in [-1, 1] under a ReLU has no logit to which it could be added,
  and a table for each layer would be the largest layer-specific part of a similarity that is meant to be shared.
- No V projection: with one map S per layer, S (X W_V) W = S X (W_V W), so W_V and the output map are one
  linear map, which explains why the paper sees no effect. `ValueSource.PROJECTED` enables it.
- Shifted blocks are equivalent to Swin's mask: weights between regions that only the cyclic shift has placed in one
  window are zero. No shift where one window covers the smaller of height and width.

UPS is the size "m". UPS-S, whose size the paper does not state, is "light": 48 channels, four groups of
four blocks, about half of UPS. "tiny" is our own: 32 channels, four groups of two, and a space of 32 dimensions, where
128 would cost more than everything else in a block. UPS-GAN is the same network trained with another loss, so it
has no entry of its own.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

import torch
from torch import Tensor

from sr_edge.errors import UsageError
from sr_edge.models.architectures.swinir import partition, shift_mask, unpartition
from sr_edge.models.layers.swin import SwinConfig, SwinSkeleton, TransformerBlock, Upsampler
from sr_edge.models.layers.ups_attention import Projection, UnifiedProjectionAttention, ValueSource


class Sharing(str, Enum):
    """Whether all layers share one projection (the paper's proposal) or each has its own (its ablation)."""

    UNIFIED = "unified"
    PER_LAYER = "per layer"


@dataclass(frozen=True)
class UPSConfig(SwinConfig):
    """Sizes of one network; `heads` is 1."""

    projection_dim: int = 128
    sharing: Sharing = Sharing.UNIFIED
    values: ValueSource = ValueSource.FEATURES

    def __post_init__(self) -> None:
        if self.heads != 1:
            raise UsageError(
                f"UPS has one similarity map in each layer, not {self.heads}",
                found=self.heads,
                wanted=1,
                remedy="set heads to 1",
            )

    def at_scale(self, scale: int) -> UPSConfig:
        return replace(self, scale=scale)


UPS_SIZES = {
    "m": UPSConfig(60, (6,) * 4, 1, 8, 2, Upsampler.PIXELSHUFFLE_DIRECT),
    "light": UPSConfig(48, (4,) * 4, 1, 8, 2, Upsampler.PIXELSHUFFLE_DIRECT),
    "tiny": UPSConfig(32, (2,) * 4, 1, 8, 2, Upsampler.PIXELSHUFFLE_DIRECT, projection_dim=32),
}


class UPSBlock(TransformerBlock):
    """A transformer block with attention in the projection space in (shifted) windows."""

    attn: UnifiedProjectionAttention

    def __init__(self, config: UPSConfig, shifted: bool, projection: Projection) -> None:
        attention = UnifiedProjectionAttention(config.dim, projection, config.values)
        super().__init__(config.dim, config.window, shifted, config.mlp_ratio, attention)
        if config.sharing is Sharing.PER_LAYER:
            self.projection = projection

    def attend(self, x: Tensor) -> Tensor:
        """Rolls by the shift, applies attention in windows, and rolls back; x is (batch, h, w, dim)."""
        height, width = x.shape[1:3]
        shift = self.shift_for(height, width)
        same_region = (shift_mask(height, width, self.window, shift) == 0).to(x) if shift else None
        rolled = torch.roll(x, (-shift, -shift), (1, 2)) if shift else x
        windows = self.attn(partition(rolled, self.window), same_region)
        out = unpartition(windows, self.window, height, width)
        return torch.roll(out, (shift, shift), (1, 2)) if shift else out


class UPS(SwinSkeleton):
    """The network; `projection` is the shared P, absent under `Sharing.PER_LAYER`."""

    config: UPSConfig

    def __init__(self, config: UPSConfig) -> None:
        shared = Projection(config.dim, config.projection_dim)
        unified = config.sharing is Sharing.UNIFIED

        def make_block(_: SwinConfig, shifted: bool) -> UPSBlock:
            own = shared if unified else Projection(config.dim, config.projection_dim)
            return UPSBlock(config, shifted, own)

        super().__init__(config, make_block)
        if unified:
            self.projection = shared
