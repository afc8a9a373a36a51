"""Plain non-local attention (NLA): every token attends to every other. What STEA and LCoA are measured against.

    Q, K, V = W_q X, W_k X, W_v X;   Y = X + W_o (softmax(Q Kᵀ) V)

with 1x1 convolutions W. Its N x N matrix costs O(N²) in time and memory.

Source: Zhao et al., arXiv 2404.04922, eqs. 1-5, after Wang et al., "Non-local Neural Networks" (2018). The width of the
embedding is open; it is that of the features here, so that LCoA and STEA meet an attention of their own width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class NonLocalAttention(nn.Module):
    """(batch, features, height, width) -> the same shape."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.query, self.key, self.value, self.output = (nn.Conv2d(features, features, 1) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        queries, keys, values = (conv(x).flatten(2) for conv in (self.query, self.key, self.value))
        weights = torch.softmax(queries.transpose(1, 2) @ keys, dim=-1)
        return x + self.output((values @ weights.transpose(1, 2)).reshape(x.shape))
