"""TaylorShift attention as matrix multiplications of static shape, with the tokens in the last axis.

Since t(s) = 1 + s + s²/2 = ((1 + s)² + 1)/2, the Taylor weight is a quadratic form in homogeneous coordinates
u = (1, tau q̂) and w = (1, k̂):

    t = ½ (u·w)² + ½ = sum over pairs i <= j of c_ij (u_i u_j)(w_i w_j),   c_ii = ½, c_ij = 1, c_00 = ½ + ½

so attention is a list phi of F = (d+1)(d+2)/2 products for each token and two matrix multiplications,

    A = V' diag(c) phi(w)ᵀ (summed over keys),   Y = A phi(u),   out = Y[1:] / Y[0],   V' = (1, v)

The pairs are listed by cyclic distance (u times u rotated by r = 0, 1, …), which makes phi one Gather and one broadcast
product. Constant rows (the 1 of u, w and V') come from the q, k, v convolution or from an addition that is fused.

Windows: the feature map is cut into cells small enough that every attention region (shifted or not) is a union of
cells. A is summed over each cell and then over each region by one small matrix multiplication with a constant 0/1
matrix: the shift needs no roll, no mask and no slicing.

Bounds for float16, with n tokens a cell, v the largest |value|, all in units of the stored number:
    phi(w) <= 1;  phi(u) <= max(1, tau²);  V' is scaled by a power of two p near 1/sqrt(n), so |V'| <= p max(1, v);
    A of a cell <= n p max(1, v), about sqrt(n) max(1, v); divided by the region's token count in float32 it is a
    mean <= max(1, v);  Y <= t(tau) max(1, v). Nothing overflows while v < 65504 / (2 sqrt(n)): 1364 for n = 576.
The prefix fp32_ of a module's name tells the float16 pass to keep it in float32; fp16_, that the bounds allow float16.

Source: Nauen et al., arXiv 2403.02920; the homogeneous form and the cells are added here.
"""

from __future__ import annotations

import math
from enum import Enum

import torch
from torch import Tensor, nn

from sr_edge.export.twins.affine import pointwise
from sr_edge.models.layers.taylor_shift import TaylorShiftAttention

NORM_EPS = 1e-12  # the default of torch.nn.functional.normalize


class AttentionForm(str, Enum):
    """How one layer's attention is computed."""

    EFFICIENT = "efficient"
    DIRECT = "direct"


def choose_form(tokens: int, d: int) -> AttentionForm:
    """The form with fewer multiplications for regions of `tokens` tokens.

    Direct: 2 N² d; efficient with symmetric features: 2 N F (d + 1). They are equal at N = F (d + 1) / d
    (73 tokens at d = 10). docs/adr/0006 says why multiplications are counted and no times are measured.
    """
    return AttentionForm.EFFICIENT if tokens * d > feature_count(d) * (d + 1) else AttentionForm.DIRECT


def feature_count(d: int) -> int:
    """F: the number of products of pairs of the d + 1 homogeneous coordinates."""
    return (d + 1) * (d + 2) // 2


def feature_pairs(d: int) -> Tensor:
    """The coordinates of the pairs, (2, F), ordered by cyclic distance r: (i, (i + r) mod (d + 1))."""
    size = d + 1
    pairs = [(i, (i + r) % size) for r in range(size // 2 + 1) for i in range(size)]
    if size % 2 == 0:
        pairs = pairs[: -size // 2]
    return torch.tensor(pairs).T


def feature_weights(d: int) -> Tensor:
    """c of the module's docstring, (F,) in float64, in the order of `feature_pairs`."""
    first, second = feature_pairs(d)
    weights = torch.where(first == second, 0.5, 1.0).double()
    weights[(first == 0) & (second == 0)] = 1.0
    return weights


class Products(nn.Module):
    """Computes phi: (batch, heads, d + 1, tokens) -> (batch, heads, F, tokens)."""

    second: Tensor

    def __init__(self, d: int) -> None:
        super().__init__()
        self.size = d + 1
        self.register_buffer("second", feature_pairs(d)[1])

    def forward(self, x: Tensor) -> Tensor:
        batch, heads, size, tokens = x.shape
        rotated = x[:, :, self.second]
        if self.size % 2 == 1:
            rotated = rotated.reshape(batch, heads, -1, size, tokens)
            return (rotated * x[:, :, None]).reshape(batch, heads, -1, tokens)
        whole_turns = rotated[:, :, : -(size // 2)].reshape(batch, heads, -1, size, tokens) * x[:, :, None]
        half_turn = rotated[:, :, -(size // 2) :] * x[:, :, : size // 2]
        return torch.cat([whole_turns.reshape(batch, heads, -1, tokens), half_turn], dim=2)


class InverseLength(nn.Module):
    """gain / max(|x|, eps) over the coordinates of every token; computed in float32."""

    gain: Tensor

    def __init__(self, gain: Tensor) -> None:
        super().__init__()
        self.register_buffer("gain", gain.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        return self.gain / torch.sqrt((x * x).sum(2, keepdim=True)).clamp_min(NORM_EPS)


class KeySums(nn.Module):
    """V' phi(w)ᵀ summed over the tokens of a cell; the bounds in the module's docstring allow float16."""

    def forward(self, values: Tensor, features: Tensor) -> Tensor:
        return values @ features.transpose(-1, -2)


class RegionMean(nn.Module):
    """Turns the sums of cells into means over their regions, weighted by c; computed in float32."""

    same_region: Tensor
    weights: Tensor

    def __init__(self, labels: Tensor, cell_tokens: int, value_scale: float, d: int, dtype: torch.dtype) -> None:
        super().__init__()
        same = (labels[:, None] == labels[None, :]).double()
        self.register_buffer("same_region", (same / (same.sum(1, keepdim=True) * cell_tokens * value_scale)).to(dtype))
        self.register_buffer("weights", feature_weights(d).to(dtype))

    def forward(self, sums: Tensor) -> Tensor:
        means = self.same_region @ (sums * self.weights).reshape(sums.shape[0], -1)
        return means.reshape(sums.shape)


class Quotient(nn.Module):
    """Y / Y[0], computed in float32. Row 0 becomes 1 and meets zero weights, which is cheaper than a Slice."""

    def forward(self, y: Tensor) -> Tensor:
        return y / y[:, :, :1]


def homogeneous_qkv(weight: Tensor, bias: Tensor, heads: int, value_scale: float) -> tuple[Tensor, Tensor]:
    """Prepends an output row to the q, k and v of each head: zero for q and k, the constant 1 for v.

    Args:
        weight: Weight of the q, k, v map, (3 * heads * d, in).
        bias: Its bias, (3 * heads * d,).
        heads: The number of heads.
        value_scale: The factor by which V' is multiplied.
    """
    d = weight.shape[0] // (3 * heads)
    rows = weight.reshape(3, heads, d, -1)
    padded = torch.cat([torch.zeros_like(rows[:, :, :1]), rows], dim=2)
    offsets = bias.reshape(3, heads, d)
    first = torch.zeros_like(offsets[:, :, :1])
    first[2] = 1
    offsets = torch.cat([first, offsets], dim=2)
    gain = torch.tensor([1.0, 1.0, value_scale], dtype=weight.dtype)
    return (padded * gain.view(3, 1, 1, 1)).flatten(0, 2), (offsets * gain.view(3, 1, 1)).flatten()


def ignoring_denominator(weight: Tensor, heads: int) -> Tensor:
    """Prepends a zero column to the columns of each head in the weight of the output map, (out, heads * d)."""
    blocks = weight.reshape(weight.shape[0], heads, -1)
    return torch.cat([torch.zeros_like(blocks[:, :, :1]), blocks], dim=2).flatten(1)


class StaticTaylorAttention(nn.Module):
    """The twin of TaylorShiftAttention on cells, (cells, channels, cell_px, cell_px).

    Args:
        layer: The trained layer.
        labels: The index of the region of each cell, (cells,).
        cell_tokens: The number of pixels in a cell.
        qkv: Weight and bias of the q, k, v map in float64, with the layers before it folded in.
        proj: Weight and bias of the output map in float64, with the layers after it folded in.
    """

    origin: Tensor

    def __init__(
        self,
        layer: TaylorShiftAttention,
        labels: Tensor,
        cell_tokens: int,
        qkv: tuple[Tensor, Tensor],
        proj: tuple[Tensor, Tensor],
    ) -> None:
        super().__init__()
        dtype = layer.proj.weight.dtype
        self.heads, self.d = layer.heads, layer.proj.in_features // layer.heads
        self.cells, self.cell_tokens = len(labels), cell_tokens
        self.regions = [torch.where(labels == label)[0].tolist() for label in sorted(set(labels.tolist()))]
        smallest = min(map(len, self.regions)) * cell_tokens
        self.form = choose_form(smallest, self.d)
        value_scale = 2.0 ** -round(math.log2(cell_tokens) / 2)
        self.qkv = pointwise(*homogeneous_qkv(*qkv, self.heads, value_scale), dtype)
        proj_weight, proj_bias = proj
        self.proj = pointwise(ignoring_denominator(proj_weight, self.heads), proj_bias, dtype)
        self.fp32_scale_q = InverseLength(layer.temperature)
        self.fp32_scale_k = InverseLength(torch.ones(1, 1, 1, 1, dtype=dtype))
        self.products = Products(self.d)
        self.fp16_key_sums = KeySums()
        self.fp32_region_mean = RegionMean(labels, cell_tokens, value_scale, self.d, dtype)
        self.fp32_quotient = Quotient()
        origin = torch.zeros(1, 1, self.d + 1, 1, dtype=dtype)
        origin[:, :, 0] = 1
        self.register_buffer("origin", origin)

    def forward(self, x: Tensor) -> Tensor:
        qkv = self.qkv(x).reshape(self.cells, 3, self.heads, self.d + 1, self.cell_tokens)
        q, k, v = (part.squeeze(1) for part in torch.split(qkv, 1, dim=1))
        u = q * self.fp32_scale_q(q) + self.origin
        w = k * self.fp32_scale_k(k) + self.origin
        y = self.efficient(u, w, v) if self.form is AttentionForm.EFFICIENT else self.direct(u, w, v)
        return self.proj(self.fp32_quotient(y).reshape(self.cells, -1, *x.shape[2:]))

    def efficient(self, u: Tensor, w: Tensor, v: Tensor) -> Tensor:
        means = self.fp32_region_mean(self.fp16_key_sums(v, self.products(w)))
        return means @ self.products(u)

    def direct(self, u: Tensor, w: Tensor, v: Tensor) -> Tensor:
        """Computes ½ (u·w)² + ½ for each pair of tokens of a region.

        Y is a mean and not a sum over the region, a factor that the quotient cancels.
        """
        results: dict[int, Tensor] = {}
        for region in self.regions:
            ur, wr, vr = (torch.cat([x[cell] for cell in region], dim=-1) for x in (u, w, v))
            scores = wr.transpose(-1, -2) @ ur
            y = vr @ (scores * scores / 2 + 0.5) / scores.shape[-1]
            results.update(zip(region, torch.split(y, self.cell_tokens, dim=-1), strict=True))
        return torch.stack([results[cell] for cell in range(self.cells)])


class StaticTaylorTokens(nn.Module):
    """The twin of a TaylorShiftAttention outside Swin: (batch, tokens, dim), with one region for each batch entry."""

    def __init__(self, layer: TaylorShiftAttention, input_shape: torch.Size) -> None:
        super().__init__()
        batch, tokens, _ = input_shape
        qkv = layer.qkv.weight.double(), layer.qkv.bias.double()
        proj = layer.proj.weight.double(), layer.proj.bias.double()
        self.attn = StaticTaylorAttention(layer, torch.arange(batch), tokens, qkv, proj)

    def forward(self, x: Tensor) -> Tensor:
        return self.attn(x.transpose(1, 2).unsqueeze(-1)).squeeze(-1).transpose(1, 2)


TWINS = ((TaylorShiftAttention, StaticTaylorTokens),)
