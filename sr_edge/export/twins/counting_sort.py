"""A stable counting sort with static shapes, exact in every runtime and with every precision hint.

The rank of token n in the order by (cluster, position) is the number of tokens that come before it:

    rank(n) = sum over clusters below c_n of their sizes
            + number of tokens of cluster c_n in the blocks before n's
            + number of tokens of cluster c_n before n in n's block

Each term is a sum of integers with a constant triangular mask. Integers are not rounded, and a precision hint that
lowers floats (bf16 represents all integers only up to 256, fp16 up to 2,048) does not change them. The graph has no
TopK (of which TensorRT takes at most 3,840), no CumSum and no data-dependent shape. The cost is N b + clusters (N/b)²
integer operations for blocks of b tokens, least at b³ = 2 clusters N.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def block_length(tokens: int, clusters: int) -> int:
    """The number of tokens in a block for which the sort needs the fewest operations."""
    return max(1, min(tokens, round((2 * clusters * tokens) ** (1 / 3))))


def before(count: int) -> Tensor:
    """A bool matrix (count, count): whether j < i at (i, j)."""
    return torch.ones(count, count, dtype=torch.bool).tril(-1)


class CountingSort(nn.Module):
    """Sorts tokens by cluster: (tokens,) int64 below `clusters` -> (ranks, order), both (tokens,) int64.

    `ranks[n]` is the position of token n in the sorted list; `order`, its inverse, is the token at each position.
    """

    earlier_token: Tensor
    earlier_block: Tensor
    lower_cluster: Tensor
    every_cluster: Tensor
    filling: Tensor
    block: Tensor
    positions: Tensor

    def __init__(self, tokens: int, clusters: int) -> None:
        super().__init__()
        self.tokens = tokens
        self.length = block_length(tokens, clusters)
        self.blocks = -(-tokens // self.length)
        self.register_buffer("earlier_token", before(self.length))
        self.register_buffer("earlier_block", before(self.blocks).long())
        self.register_buffer("lower_cluster", before(clusters).long())
        self.register_buffer("every_cluster", torch.arange(clusters)[:, None])
        # The padding of the last block comes after all tokens and belongs to no cluster.
        self.register_buffer("filling", torch.full((self.blocks * self.length - tokens,), clusters))
        self.register_buffer("block", torch.arange(tokens) // self.length)
        self.register_buffer("positions", torch.arange(tokens))

    def forward(self, clusters: Tensor) -> tuple[Tensor, Tensor]:
        blocks = torch.cat([clusters, self.filling]).reshape(self.blocks, self.length)
        in_block = ((blocks[:, :, None] == blocks[:, None, :]) & self.earlier_token).sum(-1)
        sizes = (blocks[:, None, :] == self.every_cluster).sum(-1).T  # (clusters, blocks)
        in_earlier_blocks = (sizes[:, None, :] * self.earlier_block).sum(-1)
        in_lower_clusters = (sizes.sum(-1) * self.lower_cluster).sum(-1)
        starts = (in_lower_clusters[:, None] + in_earlier_blocks).flatten()
        ranks = in_block.flatten()[: self.tokens] + starts[clusters * self.blocks + self.block]
        return ranks, torch.zeros_like(self.positions).scatter(0, ranks, self.positions)
