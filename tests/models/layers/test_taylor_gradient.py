"""The form for learning gives the direct form's values and gradients, and keeps little for them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sr_edge.models.layers.taylor_gradient import taylor_attention_with_gradient
from sr_edge.models.layers.taylor_shift import TaylorShiftAttention, taylor_attention_direct, taylor_attention_efficient

BATCH, HEADS, TOKENS, D = 2, 3, 40, 5


def _arguments(dtype: torch.dtype = torch.float64) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = [(BATCH, HEADS, TOKENS, D)] * 3 + [(1, HEADS, 1, 1)]
    return [torch.randn(*shape, generator=generator, dtype=dtype).requires_grad_() for shape in shapes]


def _tokens_last(q: Tensor, k: Tensor, v: Tensor, temperature: Tensor) -> Tensor:
    q, k, v = (x.transpose(-1, -2) for x in (q, k, v))
    return taylor_attention_with_gradient(q, k, v, temperature).transpose(-1, -2)


def test_values_and_gradients_are_those_of_the_direct_form() -> None:
    arguments = _arguments()
    actual, wanted = _tokens_last(*arguments), taylor_attention_direct(*arguments)
    assert (actual - wanted).abs().max() < 1e-10
    weights = torch.randn(actual.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    pairs = zip(
        torch.autograd.grad((actual * weights).sum(), arguments),
        torch.autograd.grad((wanted * weights).sum(), arguments),
        strict=True,
    )
    for by_found, by_wanted in pairs:
        assert by_wanted.abs().max() > 1e-3
        assert (by_found - by_wanted).abs().max() < 1e-10


def test_autocast_does_not_round_its_sums() -> None:
    arguments = _arguments(torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        actual = _tokens_last(*arguments)
    assert actual.dtype is torch.float32
    assert (actual - taylor_attention_direct(*arguments)).abs().max() < 1e-5


@pytest.mark.parametrize("is_zero", ["q", "k"])
def test_a_token_of_zeros_gives_no_nan(is_zero: str) -> None:
    q, k, v, temperature = _arguments()
    with torch.no_grad():
        (q if is_zero == "q" else k)[..., 0, :] = 0.0
    out = _tokens_last(q, k, v, temperature)
    out.sum().backward()  # type: ignore[no-untyped-call]
    assert all(x.grad is not None and x.grad.isfinite().all() for x in (q, k, v, temperature))


def test_a_layer_learns_from_the_function_that_it_computes() -> None:
    torch.manual_seed(0)
    layer = TaylorShiftAttention(dim=HEADS * D, heads=HEADS).double()
    x = torch.randn(BATCH, TOKENS, HEADS * D, dtype=torch.float64)
    learning = layer.train()(x)
    assert learning.requires_grad
    assert (learning - layer.eval()(x)).abs().max() < 1e-10


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_layer_of_half_precision_learns_too(dtype: torch.dtype) -> None:
    layer = TaylorShiftAttention(dim=HEADS * D, heads=HEADS).to(dtype).train()
    out = layer(torch.randn(BATCH, TOKENS, HEADS * D, dtype=dtype))
    assert out.dtype is dtype
    out.float().sum().backward()
    assert layer.temperature.grad is not None


def test_a_second_derivative_is_refused_not_wrong() -> None:
    arguments = _arguments()
    (by_q,) = torch.autograd.grad(_tokens_last(*arguments).square().sum(), arguments[:1], create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        by_q.square().sum().backward()  # type: ignore[no-untyped-call]


def test_nothing_as_large_as_tokens_times_d_squared_is_kept() -> None:
    def largest_kept(attention: object) -> int:
        sizes: list[int] = []

        def note(tensor: Tensor) -> Tensor:
            sizes.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            assert callable(attention)
            attention(*_arguments())
        return max(sizes)

    limit = BATCH * HEADS * TOKENS * D**2
    assert largest_kept(_tokens_last) < limit / 2
    assert largest_kept(taylor_attention_efficient) >= limit
