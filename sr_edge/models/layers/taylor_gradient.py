"""TaylorShift attention for training: tokens last, with a custom gradient that stores nothing of size d² N.

With U = (1, u) and W = (1, w), t(s) = 1 + s + s²/2 = ((U·W)² + 1)/2, so with A = sum_m v_m (W_m ⊗ W_m)

    Y_n = ½ (U_nᵀ A U_n + sum_m v_m)

Its derivatives need A, the corresponding matrix for U, and the arguments. Products over all tokens are recomputed, on a
CPU for as few heads at a time as fit into its cache. Autograd of the form in `taylor_shift` would store all of them,
and writing and reading that memory takes a CPU twice as long.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

CACHED_TOKENS = 48 * 48
"""Tokens of all heads that a CPU processes at a time: one head of TaylorSwinIR's window."""

SMALLEST_NORM = 1e-12  # as in functional.normalize


def taylor_attention_with_gradient(q: Tensor, k: Tensor, v: Tensor, temperature: Tensor) -> Tensor:
    """The result of `taylor_attention_efficient`, computed in at least float32 even under autocast.

    Args:
        q, k, v: (batch, heads, d, tokens), tokens last; q and k are L2-normalised here.
        temperature: tau, (1, heads, 1, 1).

    Returns:
        (batch, heads, d, tokens).
    """
    batch, heads, _, tokens = q.shape
    with torch.autocast(q.device.type, enabled=False):
        u = _with_ones(_unit(_at_least_float32(q)) * temperature)
        w = _with_ones(_unit(_at_least_float32(k)))
        values = _with_ones(_at_least_float32(v)) / tokens
        y = quadratic_sums(u, w, values) + values.sum(-1, keepdim=True)
        y = y.reshape(batch, heads, -1, tokens)
        return y[:, :, 1:] / y[:, :, :1]


def _at_least_float32(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32)).contiguous()


def _unit(x: Tensor) -> Tensor:
    """`functional.normalize(x, dim=-2)`, whose norm over this axis would take an eighth of the training step."""
    return x * x.square().sum(-2, keepdim=True).clamp_min(SMALLEST_NORM**2).rsqrt()


def _with_ones(x: Tensor) -> Tensor:
    """Prepends a row of ones: (batch, heads, d, tokens) -> (batch · heads, 1 + d, tokens)."""
    return functional.pad(x.flatten(0, 1), (0, 0, 1, 0), value=1.0)


@torch.compiler.disable  # type: ignore[untyped-decorator] # it would compile each head of each layer separately, for minutes
def quadratic_sums(u: Tensor, w: Tensor, v: Tensor) -> Tensor:
    """sum_m v_m (u_n · w_m)² for every n; (maps, d, tokens) twice and (maps, e, tokens) -> (maps, e, tokens)."""
    sums: Tensor = _QuadraticSums.apply(u, w, v)  # type: ignore[no-untyped-call]
    return sums


class _QuadraticSums(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, u: Tensor, w: Tensor, v: Tensor) -> Tensor:  # Any: torch does not type the context
        moments = torch.cat([_moments(*part) for part in _parts(w, v)])
        context.save_for_backward(u, w, v, moments)
        return torch.cat([_contracted(_applied(m, part), part) for part, m in _parts(u, moments)])

    @staticmethod
    @once_differentiable
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        gradients = [_gradients(*part) for part in _parts(*context.saved_tensors, gradient)]
        by_u, by_w, by_v = (torch.cat(parts) for parts in zip(*gradients, strict=True))
        return by_u, by_w, by_v


def _parts(*arguments: Tensor) -> list[tuple[Tensor, ...]]:
    """Splits the arguments by heads: on a CPU into as few at a time as fit into its cache, elsewhere all at once."""
    maps, _, tokens = arguments[0].shape
    step = max(1, CACHED_TOKENS // tokens) if arguments[0].device.type == "cpu" else maps
    return list(zip(*(torch.split(argument, step) for argument in arguments), strict=True))


def _moments(w: Tensor, v: Tensor) -> Tensor:
    """sum_m v_m (w_m ⊗ w_m): (maps, e · d, d)."""
    return (v.unsqueeze(2) * w.unsqueeze(1)).flatten(1, 2) @ w.transpose(-1, -2)


def _applied(moments: Tensor, u: Tensor) -> Tensor:
    """Products of the moments with every u_n: (maps, e · d, d) and (maps, d, tokens) -> (maps, e, d, tokens)."""
    maps, d, tokens = u.shape
    return (moments @ u).reshape(maps, -1, d, tokens)


def _contracted(applied: Tensor, u: Tensor) -> Tensor:
    """Sum over d of `applied`, which is overwritten, times u: (maps, e, d, tokens) -> (maps, e, tokens)."""
    return applied.mul_(u.unsqueeze(1)).sum(2)


def _weighted(applied: Tensor, v: Tensor) -> Tensor:
    """Sum over e of `applied`, which is overwritten, times v: (maps, e, d, tokens) -> (maps, d, tokens)."""
    return applied.mul_(v.unsqueeze(2)).sum(1)


def _gradients(u: Tensor, w: Tensor, v: Tensor, moments: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients by u, w and v. The factors 2 arise since the moments are symmetric in the two occurrences of w."""
    by_u = _weighted(_applied(moments, u), gradient)
    by_keys = _applied(_moments(u, gradient), w)
    by_v = (by_keys * w.unsqueeze(1)).sum(2)
    by_w = _weighted(by_keys, v)
    return 2 * by_u, 2 * by_w, by_v
