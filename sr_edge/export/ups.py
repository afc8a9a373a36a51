"""The static twin of UPS: a plane of 1x1 convolutions, windows by one gather, two matmuls and a ReLU a window.

P enters only through the cosines of X P, hence only through P Pᵀ, a dim x dim matrix whatever the size of the
projection space. Any R with R Rᵀ = P Pᵀ gives the same similarities; with Pᵀ = Q T (QR) it is R = Tᵀ, which has
dim columns: 60 for 128 in the projection and in the score matmul of the paper's size.

With w_j = ReLU(cos(x_i R, x_j R)) and r = sum_j w_j, a row of the training form is

    out = s_i W (gamma * mean_i + beta) + b,   mean_i = sum_j w_j x̂_j / r,   s_i = r / (r + 1e-6)

for normalised features x̂. In the reflected basis (mean_free.py) coordinate 0 of x̂ is empty; a constant 1 there
carries beta through R and W exactly, s_i included, so that neither map has to add it.

Windows are those of windows.py; only shifted ones are cut by the mask, a constant of 0 and 1.

Bounds for float16, with C channels and N = window² tokens: x̂ <= sqrt(C); directions, similarities <= 1; 1 <= r <= N
(S has ones on its diagonal; r = 0 only for a token of zero length); S x̂ <= N sqrt(C), 496 for C = 60 and N = 64.
Lengths and the quotient are islands of float32; the rest cannot overflow.

Source: sr_edge/models/ups_attention.py; the reduced projection and the constant coordinate are ours.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from sr_edge.export.mean_free import MeanFreeNorm, fold_norm, pointwise
from sr_edge.export.swin import StaticSkeleton, reflected_map, static_groups
from sr_edge.export.taylor import InverseLength
from sr_edge.export.windows import Windows
from sr_edge.models.swin import TransformerBlock
from sr_edge.models.swinir import shift_mask
from sr_edge.models.ups import UPS, UPSBlock
from sr_edge.models.ups_attention import ROW_EPS, UnifiedProjectionAttention
from sr_edge.spec import TileSpec


def reduced_projection(matrix: Tensor) -> Tensor:
    """R of the module's docstring in float64, (dim, min(dim, projection_dim)), for P (dim, projection_dim)."""
    dim, projection_dim = matrix.shape
    if projection_dim <= dim:
        return matrix.detach().double()
    return torch.linalg.qr(matrix.detach().double().T, mode="r").R.T


def carry_constant(weight: Tensor, constant: Tensor) -> Tensor:
    """Puts `constant` (out,) where `fold_norm` left a column of zeros: it meets the 1 in coordinate 0."""
    carried = weight.clone()
    carried[:, 0] = constant
    return carried


class InverseRowSum(nn.Module):
    """1 / (S 1 + eps); kept in float32."""

    def forward(self, weights: Tensor) -> Tensor:
        return 1 / (weights.sum(-1, keepdim=True) + ROW_EPS)


class StaticUPSAttention(nn.Module):
    """A block's first LayerNorm and attention: (1, dim, height, width) in the reflected basis -> the same."""

    origin: Tensor
    projection: Tensor
    same_region: Tensor | None

    def __init__(self, block: UPSBlock, height: int, width: int) -> None:
        super().__init__()
        layer, norm = block.attn, block.norm1
        dim, dtype = norm.weight.numel(), norm.weight.dtype
        shift = block.shift_for(height, width)
        self.norm = MeanFreeNorm(norm)
        self.windows = Windows(height, width, block.window, shift)
        origin = torch.zeros(1, dim, 1, 1, dtype=dtype)
        origin[:, 0] = 1
        self.register_buffer("origin", origin)
        root = reduced_projection(layer.projection.matrix)
        projection = carry_constant(*fold_norm(norm, root.T, torch.zeros(root.shape[1], dtype=torch.float64)))
        self.register_buffer("projection", projection.T.detach().to(dtype))
        self.fp32_scale = InverseLength(torch.ones(1, 1, 1, dtype=dtype))
        self.fp32_inverse_sum = InverseRowSum()
        mask = (shift_mask(height, width, block.window, shift) == 0).to(dtype) if shift else None
        self.register_buffer("same_region", mask)
        weight, constant, bias = output_map(layer)
        folded = carry_constant(*fold_norm(norm, weight, constant))
        self.proj = pointwise(folded, bias, dtype)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.windows.cut(self.norm(x) + self.origin)
        projected = tokens @ self.projection
        direction = projected * self.fp32_scale(projected)
        weights = (direction @ direction.transpose(-1, -2)).relu()
        if self.same_region is not None:
            weights = weights * self.same_region
        averaged = (weights @ tokens) * self.fp32_inverse_sum(weights)
        return self.proj(self.windows.join(averaged))


def output_map(layer: UnifiedProjectionAttention) -> tuple[Tensor, Tensor, Tensor]:
    """What follows the averaging: weight (dim, dim), its constant inside the average, and the bias behind it.

    A V projection joins the output map, since W (S (X W_V + b_V)) = S X W_V W + (S 1) b_V W. All reflected, float64.
    """
    weight, bias = reflected_map(layer.proj)
    if isinstance(layer.value, nn.Linear):
        return weight @ layer.value.weight.double(), weight @ layer.value.bias.double(), bias
    return weight, torch.zeros_like(bias), bias


class StaticUPS(StaticSkeleton):
    """UPS for one input shape, (1, 3, height, width)."""

    def __init__(self, network: UPS, input_shape: torch.Size) -> None:
        _, _, height, width = input_shape
        TileSpec(height, width).require_multiple_of(network.window)

        def attention(block: TransformerBlock) -> nn.Module:
            return StaticUPSAttention(cast("UPSBlock", block), height, width)

        super().__init__(network, static_groups(network, attention))


TWINS = ((UPS, StaticUPS),)
