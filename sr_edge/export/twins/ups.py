"""The static twin of UPS: 1x1 convolutions on the feature map, windows by one Gather, and ReLU attention in them.

The result depends on P only through the cosines of X P, hence through P Pᵀ, a dim x dim matrix whatever the size of the
projection space. Any R with R Rᵀ = P Pᵀ gives the same similarities; with Pᵀ = Q T (QR) one is R = Tᵀ, which has dim
columns: at the size of the paper, 60 in place of 128 in the projection and in the matrix multiplication of the scores.

With w_j = ReLU(cos(x_i R, x_j R)) and r = sum_j w_j, a row of the training form is

    out = s_i W (gamma * mean_i + beta) + b,   mean_i = sum_j w_j x̂_j / r,   s_i = r / (r + 1e-6)

for normalised features x̂. In the reflected basis (mean_free.py) coordinate 0 of x̂ is zero. A constant 1 in its place
multiplies a column of R and of W that contains beta's share, s_i included, so neither map needs a bias for it.

Windows are those of windows.py; the shifted ones are masked by a constant of 0 and 1.

Bounds for float16, with C channels and N = window² tokens: x̂ <= sqrt(C); directions, similarities <= 1; 1 <= r <= N
(S has ones on its diagonal; r = 0 only for a token of zero length); S x̂ <= N sqrt(C), 496 for C = 60 and N = 64.
Lengths and the quotient are computed in float32; nothing else can overflow.

Source: sr_edge/models/layers/ups_attention.py; the reduced projection and the constant coordinate are added here.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from sr_edge.export.twins.affine import pointwise
from sr_edge.export.twins.mean_free import MeanFreeNorm, fold_norm, reflected_map
from sr_edge.export.twins.swin import StaticSkeleton, static_groups
from sr_edge.export.twins.taylor import InverseLength
from sr_edge.export.twins.windows import Windows
from sr_edge.models.architectures.swinir import shift_mask
from sr_edge.models.architectures.ups import UPS, UPSBlock
from sr_edge.models.layers.swin import TransformerBlock
from sr_edge.models.layers.ups_attention import ROW_EPS, UnifiedProjectionAttention
from sr_edge.spec import TileSpec


def reduced_projection(matrix: Tensor) -> Tensor:
    """R of the module's docstring in float64, (dim, min(dim, projection_dim)), for P (dim, projection_dim)."""
    dim, projection_dim = matrix.shape
    if projection_dim <= dim:
        return matrix.detach().double()
    return torch.linalg.qr(matrix.detach().double().T, mode="r").R.T


def with_constant_column(weight: Tensor, constant: Tensor) -> Tensor:
    """Writes `constant` (out,) into the column of zeros that `fold_norm` left, the factor of the 1 in coordinate 0."""
    filled = weight.clone()
    filled[:, 0] = constant
    return filled


class InverseRowSum(nn.Module):
    """1 / (S 1 + eps), computed in float32."""

    def forward(self, weights: Tensor) -> Tensor:
        return 1 / (weights.sum(-1, keepdim=True) + ROW_EPS)


class StaticUPSAttention(nn.Module):
    """The first LayerNorm and the attention of a block, on (1, dim, height, width) in the reflected basis."""

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
        projection = with_constant_column(*fold_norm(norm, root.T, torch.zeros(root.shape[1], dtype=torch.float64)))
        self.register_buffer("projection", projection.T.detach().to(dtype))
        self.fp32_scale = InverseLength(torch.ones(1, 1, 1, dtype=dtype))
        self.fp32_inverse_sum = InverseRowSum()
        mask = (shift_mask(height, width, block.window, shift) == 0).to(dtype) if shift else None
        self.register_buffer("same_region", mask)
        weight, constant, bias = output_map(layer)
        folded = with_constant_column(*fold_norm(norm, weight, constant))
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
    """The map after the averaging: weight (dim, dim), the constant averaged with it, and the bias added at the end.

    A V projection is folded into the output map, since W (S (X W_V + b_V)) = S X W_V W + (S 1) b_V W. All three are in
    the reflected basis and in float64.
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
