"""Attention in a unified projection space: cosine similarity after one shared matrix, with ReLU instead of softmax.

For the tokens X (N x dim) of one window and one matrix P (dim x projection_dim) that all layers share,

    S = ReLU(cos(X P, X P)),   Y = S V / (S 1 + eps),   out = Y W

with V = X, or X W_V where the layer projects its values, and W the layer's own output map. S is symmetric with
ones on its diagonal, so every row sums to at least 1 and the division is well conditioned.

Source: "UPS: Unified Projection Sharing for Lightweight Single-Image Super-resolution and Beyond" (NeurIPS 2024),
its similarity "cosine + ReLU" and its ablation of the V projection.
"""

from __future__ import annotations

from enum import Enum

import torch
from torch import Tensor, nn
from torch.nn import functional

ROW_EPS = 1e-6


class Projection(nn.Module):
    """P: (…, dim) -> (…, projection_dim), a matrix without bias."""

    def __init__(self, dim: int, projection_dim: int) -> None:
        super().__init__()
        self.matrix = nn.Parameter(torch.empty(dim, projection_dim))
        nn.init.trunc_normal_(self.matrix, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.matrix


class ValueSource(str, Enum):
    """The values that attention averages: the features, or a linear map of them of the layer's own."""

    FEATURES = "features"
    PROJECTED = "projected"


def similarity(projected: Tensor) -> Tensor:
    """S of (…, tokens, projection_dim): (…, tokens, tokens) in [0, 1], symmetric."""
    direction = functional.normalize(projected, dim=-1)
    return (direction @ direction.transpose(-1, -2)).relu()


class UnifiedProjectionAttention(nn.Module):
    """Attention over (batch * windows, tokens, dim) with similarities in the space of `projection`.

    Args:
        dim: channels.
        projection: P. It is not part of the layer's parameters or state, so that a shared matrix is stored once, by
            the network.
        values: whether values are projected.
    """

    def __init__(self, dim: int, projection: Projection, values: ValueSource) -> None:
        super().__init__()
        self._shared_projection = (projection,)  # in a tuple, since an attribute would be registered as a submodule
        self.value = nn.Linear(dim, dim) if values is ValueSource.PROJECTED else nn.Identity()
        self.proj = nn.Linear(dim, dim)

    @property
    def projection(self) -> Projection:
        """P, which may be shared with other layers."""
        return self._shared_projection[0]

    def forward(self, x: Tensor, same_region: Tensor | None) -> Tensor:
        """Applies attention; `same_region` (windows, tokens, tokens) is 1 for pairs of one region, else 0."""
        weights = similarity(self.projection(x))
        if same_region is not None:
            windows, tokens = same_region.shape[:2]
            weights = (weights.reshape(-1, windows, tokens, tokens) * same_region).reshape(weights.shape)
        weights = weights / (weights.sum(-1, keepdim=True) + ROW_EPS)
        return self.proj(weights @ self.value(x))
