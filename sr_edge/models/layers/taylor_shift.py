"""TaylorShift attention: attention whose softmax uses the second-order Taylor series of the exponential.

Weights t(s) = 1 + s + s²/2 of scores s = tau q̂·k̂ are positive for every s, so t(s) / sum t(s) is a
distribution. A product of powers of s separates into features of q and of k:

    (q·k)² = (q ⊗ q)·(k ⊗ k)

so the sum over keys can be computed once for all queries: O(N d³) instead of O(N² d).

Source: Nauen et al., "TaylorShift" (arXiv 2403.02920), its section 3 and algorithm 1.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from sr_edge.models.layers.taylor_gradient import taylor_attention_with_gradient


def taylor_attention_direct(q: Tensor, k: Tensor, v: Tensor, temperature: Tensor) -> Tensor:
    """Direct TaylorShift attention, by the N x N matrix of weights.

    Args:
        q, k, v: (batch, heads, tokens, d); q and k are L2-normalised here.
        temperature: tau, (1, heads, 1, 1).

    Returns:
        (batch, heads, tokens, d): rows of v averaged with weights t(s) / sum t(s).
    """
    scores = temperature * functional.normalize(q, dim=-1) @ functional.normalize(k, dim=-1).transpose(-1, -2)
    weights = 1 + scores + scores**2 / 2
    return weights / weights.sum(-1, keepdim=True) @ v


def taylor_attention_efficient(q: Tensor, k: Tensor, v: Tensor, temperature: Tensor) -> Tensor:
    """TaylorShift attention with cost linear in the number of tokens; arguments as for the direct form.

    With u = d^¼ tau q̂ and w = d^¼ k̂, the three orders have the common factor d (which cancels):
    ½ (u·w)² = d s²/2, √d u·w = d s, and d. A column of ones beside v accumulates the denominator.
    """
    tokens, d = q.shape[-2:]
    u = functional.normalize(q, dim=-1) * (d**0.25 * temperature)
    w = functional.normalize(k, dim=-1) * d**0.25
    values = torch.cat([torch.ones_like(v[..., :1]), v], dim=-1) / tokens

    second = outer_products(u) @ (outer_products(w).transpose(-1, -2) @ values)
    first = u @ (w.transpose(-1, -2) @ values)
    y = second / 2 + d**0.5 * first + d * values.sum(-2, keepdim=True)
    return y[..., 1:] / y[..., :1]


def outer_products(x: Tensor) -> Tensor:
    """x ⊗ x of each token: (…, tokens, d) -> (…, tokens, d²)."""
    return (x.unsqueeze(-1) * x.unsqueeze(-2)).flatten(-2)


def multiplication_crossover(d: int) -> int:
    """N0 = d² + d + 1 tokens, above which the efficient form needs fewer multiplications (paper, section 4)."""
    return d**2 + d + 1


def memory_crossover(d: int) -> float:
    """N1 tokens, above which the efficient form needs less memory (paper, section 4)."""
    root: float = (d**4 + 12 * d**3 + 14 * d**2 + 4 * d + 1) ** 0.5
    return (d**2 + 2 * d + 1 + root) / 4


class TaylorShiftAttention(nn.Module):
    """Multi-head self-attention over (batch, tokens, dim), in the direct or efficient form by the number of tokens.

    Parameter names are those of the public implementation: qkv, proj, temperature. Two of its details are omitted,
    since they have no effect or are disabled in TaylorIR: the scaling of q before its normalisation, and
    `output_normalized`.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.temperature = nn.Parameter(torch.ones(1, heads, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, dim = x.shape
        d = dim // self.heads
        efficient = tokens > multiplication_crossover(d)
        if efficient and self.training and torch.is_grad_enabled():
            return self.proj(self._training_attention(self.qkv(x)))
        q, k, v = self.qkv(x).reshape(batch, tokens, 3, self.heads, d).permute(2, 0, 3, 1, 4).unbind(0)
        attention = taylor_attention_efficient if efficient else taylor_attention_direct
        out = attention(q, k, v, self.temperature)
        return self.proj(out.transpose(1, 2).reshape(batch, tokens, dim))

    def _training_attention(self, qkv: Tensor) -> Tensor:
        """The efficient form with the faster custom gradient: (batch, tokens, 3 dim) -> (batch, tokens, dim)."""
        batch, tokens, _ = qkv.shape
        q, k, v = qkv.transpose(1, 2).reshape(batch, 3, self.heads, -1, tokens).unbind(1)
        out = taylor_attention_with_gradient(q, k, v, self.temperature)
        return out.flatten(1, 2).transpose(1, 2).to(qkv.dtype)
