"""STEA: attention with a Taylor expansion in the place of the exponential and a learned diagonal Gram matrix.

Non-local attention is softmax(Q Kᵀ) V with Q = X W_q, K = X W_k, V = X W_v (equations 3 to 6), X the N x C tokens of
a plane. Softmax becomes exp(Q Kᵀ) / k with k learned (7), exp its expansion (8, 9); with the products evaluated from
the right (10), only XᵀX = Z B Zᵀ remains of the sums over tokens (11, 12). Its eigenvalues B are estimated from the
plane (13) and its eigenvectors are absorbed by learned matrices (14). With depthwise convolutions DWC of the values,

    out = (X W_v + X W_1 B_1 W_3 + X W_1 B_1 W_2 B_2 W_3) / k + DWC(X W_v)                              (15)

at a cost linear in N. The order of the expansion is the number of terms after X W_v; each further order multiplies the
last term by another W B. Source: arXiv 2408.00470, section II-A.

Details that the paper leaves open are implemented as follows:

- Every W is "the same block", C to C/4 to C by two 1x1 convolutions. They have biases and no activation
  between them: equation 15 needs linear maps, and the published 10.6 / 16.4 / 19.1 / 21.8 K parameters need the biases.
- Those counts (orders 1, 1, 2, 3, the first without DWC) need one more block at full resolution than equation 15
  has. It is interpreted as an output projection of the bracket, before DWC, and is enabled by `use_output_proj`.
- B_1 is the same block, B_2 (and those of higher orders) a channel-attention excitation, as their counts
  require; both take the mean of X over the plane, since both represent the eigenvalues of the same XᵀX.
- The factor 1/2 of the second order is omitted, as in equation 15, since learned matrices absorb it.
- W_3 is applied once, to the sum of the terms, so its bias is added once.
- k is initialised to 1 and is not part of the published counts: a layer has one parameter more.
- DWC is a depthwise 5x5 and a 1x1 convolution, as in Flatten Transformer, which the paper follows; the counts agree.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sr_edge.errors import UsageError
from sr_edge.models.layers.channel_attention import Excitation, GlobalMean

BOTTLENECK = 4
DWC_KERNEL = 5


class LinearBottleneck(nn.Sequential):
    """The block of every W: 1x1 convolutions C -> C/4 -> C, which are a linear map of rank C/4."""

    def __init__(self, channels: int) -> None:
        super().__init__(nn.Conv2d(channels, channels // BOTTLENECK, 1), nn.Conv2d(channels // BOTTLENECK, channels, 1))


class DepthwiseValues(nn.Sequential):
    """DWC: depthwise 5x5, then 1x1."""

    def __init__(self, channels: int) -> None:
        super().__init__(
            nn.Conv2d(channels, channels, DWC_KERNEL, padding=DWC_KERNEL // 2, groups=channels),
            nn.Conv2d(channels, channels, 1),
        )


class STEA(nn.Module):
    """Equation 15 on (batch, C, h, w).

    Args:
        channels: C, a multiple of 4.
        order: the order of the Taylor expansion: 1 (the paper's FTEA), 2 (STEA) or 3 (TTEA).
        use_output_proj: apply one more block to the bracket; False gives equation 15 as printed.
        use_dwc: add DWC(V); False is the first row of the paper's tables III and IV.
    """

    def __init__(self, channels: int, order: int = 2, use_output_proj: bool = True, use_dwc: bool = True) -> None:
        super().__init__()
        if order not in (1, 2, 3):
            raise UsageError(f"STEA has no order {order}", found=order, wanted=(1, 2, 3), remedy="use 1, 2 or 3")
        if channels % BOTTLENECK:
            raise UsageError(
                f"STEA cannot take {channels} channels",
                found=channels,
                wanted=BOTTLENECK,
                remedy=f"use a multiple of {BOTTLENECK}",
            )
        self.mean = GlobalMean()
        self.w_v = LinearBottleneck(channels)
        self.w_1 = LinearBottleneck(channels)
        self.w_2 = nn.ModuleList(LinearBottleneck(channels) for _ in range(order - 1))
        self.w_3 = LinearBottleneck(channels)
        self.b_1 = LinearBottleneck(channels)
        self.b_2 = nn.ModuleList(Excitation(channels) for _ in range(order - 1))
        self.k = nn.Parameter(torch.ones(1))
        self.output_proj = LinearBottleneck(channels) if use_output_proj else nn.Identity()
        self.dwc = DepthwiseValues(channels) if use_dwc else None

    def forward(self, x: Tensor) -> Tensor:
        mean = self.mean(x)
        values = self.w_v(x)
        term = self.w_1(x) * self.b_1(mean)
        terms = term
        for w_2, b_2 in zip(self.w_2, self.b_2, strict=True):
            term = w_2(term) * b_2(mean)
            terms = terms + term
        out = self.output_proj((values + self.w_3(terms)) / self.k)
        return out if self.dwc is None else out + self.dwc(values)


class NonLocalAttention(nn.Module):
    """Plain non-local attention, in which every token attends to every other: the baseline of STEA and LCoA.

        Q, K, V = W_q X, W_k X, W_v X;   Y = X + W_o (softmax(Q Kᵀ) V)

    with 1x1 convolutions W, on (batch, features, height, width). Its N x N matrix costs O(N²) in time and memory.
    Source: Zhao et al., arXiv 2404.04922, eqs. 1-5, after Wang et al., "Non-local Neural Networks" (2018). The width of
    the embedding, which the paper leaves open, is that of the features, so that STEA and LCoA are compared with an
    attention of their own width.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.query, self.key, self.value, self.output = (nn.Conv2d(features, features, 1) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        queries, keys, values = (conv(x).flatten(2) for conv in (self.query, self.key, self.value))
        weights = torch.softmax(queries.transpose(1, 2) @ keys, dim=-1)
        return x + self.output((values @ weights.transpose(1, 2)).reshape(x.shape))
