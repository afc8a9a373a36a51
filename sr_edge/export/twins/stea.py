"""The static twin of STEA, in which one small matrix product is all of the attention that runs at full resolution.

Every W of equation 15 is a product U D through r = C/4 channels, and every B scales the channels by factors that depend
on the global mean only. With
h = D_1 X + d_1 and g = D_v X + d_v (one convolution C -> 2r gives both) and the homogeneous vector e = (h, g, 1),

    X W_1 B_1 = Y e,   Y = B_1 ∘ (U_1, 0, u_1);      X W_1 B_1 W_2 B_2 = Y' e,   Y' = B_2 ∘ (W_2 Y)

so the sum of the terms is Z e with Z = Y + Y' + …, one matrix for each image. The bracket behind the first half of the
output projection is such a product, too:

    t = F e,   F = M Z + K            M = D_p W_3 / k;   K: the contribution of W_v and all biases

t has r channels. The second half of W_1, W_2, W_3, the scalings by B and half of the projection are applied to matrices
and not to feature maps. What remains is the layer's tail, an affine map of the feature maps t and DW(V) that combines
U_p with the 1x1 convolution of DWC. Without an output projection, t is the inner vector of W_3 and the tail takes g as
well.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from sr_edge.export.twins.affine import Affine, ConcatenatedConv, sum_of_maps
from sr_edge.models.layers.channel_attention import GlobalMean
from sr_edge.models.layers.stea import STEA


class AttentionMatrix(nn.Module):
    """Computes F of the module's docstring from the global mean: (1, C, 1, 1) -> (1, r, 2r + 1)."""

    first: Tensor
    last: Tensor
    constant: Tensor

    def __init__(self, layer: STEA, last: Affine, constant: Tensor) -> None:
        """Builds it from the layer, M with its bias (`last`) and the remainder of K (`constant`, (r, 2r + 1))."""
        super().__init__()
        dtype = layer.k.dtype
        _, up = (Affine.from_layer(conv) for conv in layer.w_1)
        channels, rank = up.weight.shape
        first = torch.cat([up.weight, torch.zeros(channels, rank), up.bias[:, None]], dim=1)
        self.register_buffer("first", first.to(dtype)[None])
        self.register_buffer("last", last.weight.to(dtype)[None])
        self.register_buffer("constant", with_bias(constant, last.bias).to(dtype)[None])
        self.b_1 = Affine.from_layer(layer.b_1).to_conv(dtype)
        self.b_2 = copy.deepcopy(layer.b_2)
        self.w_2 = nn.ModuleList(MatrixMap(Affine.from_layer(block), 2 * rank + 1, dtype) for block in layer.w_2)

    def forward(self, mean: Tensor) -> Tensor:
        term = self.first * self.b_1(mean).flatten(2)
        terms = term
        for w_2, b_2 in zip(self.w_2, self.b_2, strict=True):
            term = w_2(term) * b_2(mean).flatten(2)
            terms = terms + term
        return self.last @ terms + self.constant


class MatrixMap(nn.Module):
    """An affine map applied to x = matrix e, as a change of the matrix: the bias is added to the column of the 1."""

    weight: Tensor
    bias: Tensor

    def __init__(self, block: Affine, columns: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.register_buffer("weight", block.weight.to(dtype)[None])
        self.register_buffer("bias", with_bias(torch.zeros(len(block.bias), columns), block.bias).to(dtype)[None])

    def forward(self, x: Tensor) -> Tensor:
        return self.weight @ x + self.bias


def with_bias(matrix: Tensor, bias: Tensor) -> Tensor:
    """Adds `bias` to the last column of `matrix`, which is that of the coordinate 1."""
    return torch.cat([matrix[:, :-1].double(), matrix[:, -1:].double() + bias[:, None]], dim=1)


class STEAFeatures(nn.Module):
    """The feature maps (1, …, h, w) whose affine map `tail` is the result of STEA."""

    def __init__(self, layer: STEA) -> None:
        super().__init__()
        dtype = layer.k.dtype
        down_1, _ = (Affine.from_layer(conv) for conv in layer.w_1)
        down_v, up_v = (Affine.from_layer(conv) for conv in layer.w_v)
        self.rank = up_v.weight.shape[1]
        inner = Affine(torch.cat([down_1.weight, down_v.weight]), torch.cat([down_1.bias, down_v.bias]))
        self.inner = inner.to_conv(dtype)
        last, constant, tails = _bracket(layer, up_v)
        self.fp32_mean = GlobalMean()
        self.fp32_matrix = AttentionMatrix(layer, last, constant)
        self.gives_inner_values = len(tails) == 2
        self.values: nn.Module | None = None
        if layer.dwc is not None:
            depthwise, pointwise = layer.dwc.children()
            self.values = nn.Sequential(up_v.to_conv(dtype), copy.deepcopy(depthwise))
            tails.append(Affine.from_layer(pointwise))
        self.tail = sum_of_maps(tails)

    def forward(self, x: Tensor) -> list[Tensor]:
        matrix = self.fp32_matrix(self.fp32_mean(x))
        inner = self.inner(x)
        attended = matrix[..., :-1] @ inner.flatten(2) + matrix[..., -1:]
        planes = [attended.reshape(1, self.rank, *x.shape[2:])]
        inner_values = inner[:, self.rank :]
        if self.gives_inner_values:
            planes.append(inner_values)
        if self.values is not None:
            planes.append(self.values(inner_values))
        return planes


def _bracket(layer: STEA, up_v: Affine) -> tuple[Affine, Tensor, list[Affine]]:
    """M with its bias, the remainder of K, and the tails of t and, without an output projection, of g."""
    share = 1 / layer.k.item()
    rank = up_v.weight.shape[1]
    w_3 = Affine.from_layer(layer.w_3)
    if isinstance(layer.output_proj, nn.Identity):
        down, up = (Affine.from_layer(conv) for conv in layer.w_3.children())
        return down, torch.zeros(rank, 2 * rank + 1), [up.scaled(share), up_v.scaled(share)]
    down, up = (Affine.from_layer(conv) for conv in layer.output_proj.children())
    scaled = Affine(down.weight * share, down.bias)
    values = Affine(scaled.weight, torch.zeros(rank)).after(up_v)
    constant = torch.cat([torch.zeros(rank, rank), values.weight, values.bias[:, None]], dim=1)
    return scaled.after(w_3), constant, [up]


class StaticSTEA(ConcatenatedConv):
    """The twin of a STEA that is a layer of its own."""

    def __init__(self, layer: STEA, input_shape: torch.Size) -> None:
        planes = STEAFeatures(layer)
        super().__init__(planes, planes.tail, layer.k.dtype)


TWINS = ((STEA, StaticSTEA),)
