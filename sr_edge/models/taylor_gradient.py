"""TaylorShift attention for learning: tokens last, and a gradient of its own that keeps nothing of size d² N.

With U = (1, u) and W = (1, w), t(s) = 1 + s + s²/2 = ((U·W)² + 1)/2, so that with A = sum_m v_m (W_m ⊗ W_m)

    Y_n = ½ (U_nᵀ A U_n + sum_m v_m)

Its derivatives need A, a matrix of its own kind for U, and the arguments. Products over all tokens are made again; on a
CPU for so few heads at a time that its cache holds them. PyTorch's own gradient of the form in `taylor_shift` keeps
them all, in memory that a CPU takes twice as long to write and read.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

CACHED_TOKENS = 48 * 48
"""Of all heads that a CPU takes at a time: one head of TaylorSwinIR's window."""

SMALLEST_NORM = 1e-12  # as in functional.normalize


def taylor_attention_with_gradient(q: Tensor, k: Tensor, v: Tensor, temperature: Tensor) -> Tensor:
    """What `taylor_attention_efficient` gives, in float32 or wider also under autocast.

    Args:
        q, k, v: (batch, heads, d, tokens), tokens last; q and k are L2-normalised here.
        temperature: tau, (1, heads, 1, 1).

    Returns:
        (batch, heads, d, tokens).
    """
    batch, heads, _, tokens = q.shape
    with torch.autocast(q.device.type, enabled=False):
        u = _beside_ones(_unit(_at_least_float32(q)) * temperature)
        w = _beside_ones(_unit(_at_least_float32(k)))
        values = _beside_ones(_at_least_float32(v)) / tokens
        y = quadratic_sums(u, w, values) + values.sum(-1, keepdim=True)
        y = y.reshape(batch, heads, -1, tokens)
        return y[:, :, 1:] / y[:, :, :1]


def _at_least_float32(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32)).contiguous()


def _unit(x: Tensor) -> Tensor:
    """`functional.normalize(x, dim=-2)`, whose own norm takes an eighth of the whole step over this axis."""
    return x * x.square().sum(-2, keepdim=True).clamp_min(SMALLEST_NORM**2).rsqrt()


def _beside_ones(x: Tensor) -> Tensor:
    """(batch, heads, d, tokens) -> (batch · heads, 1 + d, tokens), a row of ones first."""
    return functional.pad(x.flatten(0, 1), (0, 0, 1, 0), value=1.0)


@torch.compiler.disable  # type: ignore[untyped-decorator] # it would compile every head of every layer apart, for minutes
def quadratic_sums(u: Tensor, w: Tensor, v: Tensor) -> Tensor:
    """sum_m v_m (u_n · w_m)² for every n; (maps, d, tokens) twice and (maps, e, tokens) -> (maps, e, tokens)."""
    found: Tensor = _QuadraticSums.apply(u, w, v)  # type: ignore[no-untyped-call]
    return found


class _QuadraticSums(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, u: Tensor, w: Tensor, v: Tensor) -> Tensor:  # Any: torch gives the context no type
        moments = torch.cat([_moments(*part) for part in _parts(w, v)])
        context.save_for_backward(u, w, v, moments)
        return torch.cat([_contracted(_applied(m, part), part) for part, m in _parts(u, moments)])

    @staticmethod
    @once_differentiable
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        found = [_gradients(*part) for part in _parts(*context.saved_tensors, gradient)]
        by_u, by_w, by_v = (torch.cat(parts) for parts in zip(*found, strict=True))
        return by_u, by_w, by_v


def _parts(*arguments: Tensor) -> list[tuple[Tensor, ...]]:
    """On a CPU a few heads at a time, which its cache holds; all at once elsewhere."""
    maps, _, tokens = arguments[0].shape
    step = max(1, CACHED_TOKENS // tokens) if arguments[0].device.type == "cpu" else maps
    return list(zip(*(torch.split(argument, step) for argument in arguments), strict=True))


def _moments(w: Tensor, v: Tensor) -> Tensor:
    """sum_m v_m (w_m ⊗ w_m): (maps, e · d, d)."""
    return (v.unsqueeze(2) * w.unsqueeze(1)).flatten(1, 2) @ w.transpose(-1, -2)


def _applied(moments: Tensor, u: Tensor) -> Tensor:
    """The moments' products with every u_n: (maps, e · d, d) and (maps, d, tokens) -> (maps, e, d, tokens)."""
    maps, d, tokens = u.shape
    return (moments @ u).reshape(maps, -1, d, tokens)


def _contracted(applied: Tensor, u: Tensor) -> Tensor:
    """(maps, e, d, tokens), which is used up, and (maps, d, tokens) -> (maps, e, tokens)."""
    return applied.mul_(u.unsqueeze(1)).sum(2)


def _weighed(applied: Tensor, v: Tensor) -> Tensor:
    """(maps, e, d, tokens), which is used up, and (maps, e, tokens) -> (maps, d, tokens)."""
    return applied.mul_(v.unsqueeze(2)).sum(1)


def _gradients(u: Tensor, w: Tensor, v: Tensor, moments: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """By u, w and v. Moments are symmetric in w's two places, which is where the factors 2 come from."""
    by_u = _weighed(_applied(moments, u), gradient)
    by_keys = _applied(_moments(u, gradient), w)
    by_v = (by_keys * w.unsqueeze(1)).sum(2)
    by_w = _weighed(by_keys, v)
    return 2 * by_u, 2 * by_w, by_v
