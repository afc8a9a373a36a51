"""LSP and CoA, the two halves of Learnable Collaborative Attention (LCoA).

The Learnable Sparse Pattern (LSP) computes from shallow features which tokens attend to each other, and with which
weights; Collaborative Attention (CoA) applies that pattern to the values of every deeper group. For tokens (pixels) x_i
of a feature map:

    e = conv3x3(x)                       Q and K are one embedding, so eqs. 8-10 hold for both at once
    cluster(i) = argmax_c cos(e_i, u_c)  nearest centroid on the unit sphere (eqs. 7-9); ties go to the lowest c
    order = tokens by (cluster, position), cut into windows of w tokens
    A_s = softmax(Q K̂ᵀ) of every window over itself, its predecessor and its successor (eqs. 2, 3, 7 and 11)
    O_m = X_m + beta A_s W_m(X_m)        every group m with its own 1x1 map W_m (eq. 12), beta = 0.1

Source: Zhao et al., "Efficient Learnable Collaborative Attention for Single Image Super-Resolution"
(arXiv 2404.04922), section III-B. Details that the paper leaves open follow the authors' published weights and code:

- One convolution embeds both queries and keys. Keys are L2-normalised; queries are not, so the length of a query
  acts as its temperature.
- The windows form a ring: the first follows the last. With one or two windows a neighbour occurs twice, or is the
  window itself; the softmax then includes it more than once.
- The last window is padded with the tokens at the end of the order. Published code fails when there are too few of
  them (under 14x14); here they repeat cyclically.

Our own choices:

- Tokens of one cluster keep their order in the image. Published code uses an unstable sort, so the contents of
  windows depend on the sorting library.
- Eq. 10 sums the tokens of a cluster, so its step would grow with the batch. Here the direction of that sum is
  weighted by 1 - lambda, and the result is normalised to unit length, so lambda = 0.999 is the effective decay. A
  centroid without tokens does not move.
- Centroids start from ten rounds of spherical k-means on the first training batch. They are updated in
  training mode only; in eval mode they never change, not even in an untrained network.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

CENTROID_DECAY = 0.999  # lambda of eq. 10
KEY_EPS = 5e-5  # shortest key that is normalised to length 1
ATTENTION_SCALE = 0.1  # beta of eq. 12
STARTING_ROUNDS = 10


class Centroids(nn.Module):
    """u of eqs. 7-10: one unit vector for each cluster, learned by a moving average instead of by gradients.

    Buffers have the names and shapes of published weights: `means` (1, clusters, features), `initted` ().
    """

    means: Tensor
    initted: Tensor

    def __init__(self, clusters: int, features: int) -> None:
        super().__init__()
        self.register_buffer("means", torch.randn(1, clusters, features))
        self.register_buffer("initted", torch.tensor(False))

    def forward(self, embedded: Tensor) -> Tensor:
        """Cluster of every token: (batch, tokens, features) -> (batch, tokens) int64.

        In training mode the centroids are updated.
        """
        with torch.no_grad(), torch.autocast(embedded.device.type, enabled=False):
            unit = functional.normalize(embedded.to(self.means.dtype), dim=-1)
            if self.training and not self.initted:
                self.means[0] = spherical_kmeans(unit.flatten(0, 1), self.means.shape[1])
                self.initted.fill_(True)
            clusters = nearest(unit, self.means[0])
            if self.training:
                self.means[0] = updated_centroids(self.means[0], unit.flatten(0, 1), clusters.flatten())
        return clusters


def nearest(unit: Tensor, centroids: Tensor) -> Tensor:
    """Index of the centroid with the largest cosine, the lowest one in a tie: (…, features) -> (…) int64."""
    return (unit @ functional.normalize(centroids, dim=-1).T).argmax(-1)


def updated_centroids(centroids: Tensor, unit: Tensor, clusters: Tensor, decay: float = CENTROID_DECAY) -> Tensor:
    """Eq. 10 on the unit sphere, for `unit` tokens (n, features) of `clusters` (n,)."""
    sums = torch.zeros_like(centroids).index_add_(0, clusters, unit)
    used = torch.bincount(clusters, minlength=len(centroids)) > 0
    new, old = functional.normalize(sums, dim=-1), functional.normalize(centroids, dim=-1)
    updated = functional.normalize(decay * old + (1 - decay) * new, dim=-1)
    return torch.where(used[:, None], updated, centroids)


def spherical_kmeans(unit: Tensor, clusters: int, rounds: int = STARTING_ROUNDS) -> Tensor:
    """Spherical k-means from evenly spaced tokens: (n, features) -> centroids (clusters, features)."""
    centroids = unit[torch.linspace(0, len(unit) - 1, clusters, device=unit.device).long()]
    for _ in range(rounds):
        centroids = updated_centroids(centroids, unit, nearest(unit, centroids), decay=0.0)
    return centroids


@dataclass(frozen=True)
class SparsePattern:
    """A_s of eqs. 11 and 12, with the order of the tokens in its rows and columns.

    Args:
        order: (batch, tokens), the index of the token at every position of the sorted list.
        weights: (batch, windows, w, 3 w); rows sum to one, and the columns are the positions of the window itself, of
            its predecessor and of its successor.
    """

    order: Tensor
    weights: Tensor


def sparse_pattern(embedded: Tensor, clusters: Tensor, window: int) -> SparsePattern:
    """Attention of `embedded` tokens (batch, tokens, features) with given `clusters` (batch, tokens): eqs. 7 and 11."""
    tokens = embedded.shape[1]
    # No two sort keys are equal, so every sorting algorithm gives the same order.
    order = (clusters * tokens + torch.arange(tokens, device=clusters.device)).argsort(dim=-1)
    queries = gather_windows(embedded, order, window)
    keys = functional.normalize(queries, dim=-1, eps=KEY_EPS)
    return SparsePattern(order, torch.softmax(queries @ with_neighbours(keys).transpose(-1, -2), dim=-1))


def window_places(tokens: int, window: int) -> Tensor:
    """Positions of the sorted list that fill the windows: (n,) int64, n a multiple of `window`.

    The last positions repeat the end of the list, cyclically where it is too short: 5 tokens in windows of 4 give
    0 1 2 3 | 4 2 3 4, and 3 tokens in one of 8 give 0 1 2 1 2 0 1 2.
    """
    padding = -tokens % window
    positions = torch.arange(tokens + padding)
    return torch.where(positions < tokens, positions, (positions - padding) % tokens)


def gather_windows(values: Tensor, order: Tensor, window: int) -> Tensor:
    """Sorts tokens and divides them into windows: (batch, tokens, features) -> (batch, windows, window, features)."""
    batch, tokens, features = values.shape
    indices = order[:, window_places(tokens, window).to(order.device)]
    sorted_values = values.gather(1, indices[:, :, None].expand(-1, -1, features))
    return sorted_values.reshape(batch, -1, window, features)


def with_neighbours(windows: Tensor) -> Tensor:
    """Appends to every window its predecessor and successor: (batch, windows, w, features) -> (…, 3 w, features)."""
    return torch.cat([windows, windows.roll(1, dims=1), windows.roll(-1, dims=1)], dim=2)


def as_tokens(plane: Tensor) -> Tensor:
    """(batch, features, height, width) -> (batch, height * width, features)."""
    return plane.flatten(2).transpose(1, 2)


class CollaborativeAttention(nn.Module):
    """One LCoA layer on (batch, features, height, width); module names are those of published weights.

    The layer of the first group computes the pattern (LSP); those of all groups apply it (CoA). `kmeans` and
    `conv_match` of the other groups are unused, but published weights contain them and the paper counts them.
    """

    def __init__(self, features: int, clusters: int, window: int) -> None:
        super().__init__()
        self.window = window
        self.kmeans = Centroids(clusters, features)
        self.conv_match = nn.Sequential(nn.Conv2d(features, features, 3, padding=1))
        self.conv_assembly = nn.Sequential(nn.Conv2d(features, features, 1))

    def compute_pattern(self, x: Tensor) -> SparsePattern:
        """A_s = LSP(X_1), eq. 11."""
        embedded = as_tokens(self.conv_match(x))
        return sparse_pattern(embedded, self.kmeans(embedded), self.window)

    def forward(self, x: Tensor, pattern: SparsePattern) -> Tensor:
        """O_m = X_m + beta A_s W_m(X_m), eq. 12."""
        values = as_tokens(self.conv_assembly(x))
        windows = pattern.weights @ with_neighbours(gather_windows(values, pattern.order, self.window))
        attended = windows.flatten(1, 2)
        positions = pattern.order.argsort(dim=-1)
        unsorted = attended.gather(1, positions[:, :, None].expand_as(values))
        return x + ATTENTION_SCALE * unsorted.transpose(1, 2).reshape(x.shape)
