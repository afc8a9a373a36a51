"""TaylorShift: both forms are one function, and it is the one of the paper."""

from __future__ import annotations

import math

import pytest
import torch

from sr_edge.models.layers.taylor_shift import (
    TaylorShiftAttention,
    memory_crossover,
    multiplication_crossover,
    taylor_attention_direct,
    taylor_attention_efficient,
)


def random_qkv(tokens: int, d: int) -> tuple[torch.Tensor, ...]:
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 2, 3, tokens, d, dtype=torch.float64)
    temperature = torch.rand(1, 3, 1, 1, dtype=torch.float64) * 3
    return q, k, v, temperature


@pytest.mark.parametrize(("tokens", "d"), [(5, 4), (64, 10), (576, 8), (300, 30)])
def test_direct_and_efficient_forms_agree_in_float64(tokens: int, d: int) -> None:
    arguments = random_qkv(tokens, d)
    difference = taylor_attention_direct(*arguments) - taylor_attention_efficient(*arguments)
    assert difference.abs().max() <= 1e-12


def test_one_pair_of_tokens_by_hand() -> None:
    """q·k̂ = ±tau, so the weights are 1 + tau + tau²/2 and 1 - tau + tau²/2."""
    tau = 0.7
    q = torch.tensor([[[[2.0, 0.0]]]], dtype=torch.float64)
    k = torch.tensor([[[[5.0, 0.0], [-3.0, 0.0]]]], dtype=torch.float64)
    v = torch.tensor([[[[1.0, 10.0], [3.0, 20.0]]]], dtype=torch.float64)
    towards, away = 1 + tau + tau**2 / 2, 1 - tau + tau**2 / 2
    wanted = (towards * v[0, 0, 0] + away * v[0, 0, 1]) / (towards + away)
    actual = taylor_attention_direct(q, k, v, torch.full((1, 1, 1, 1), tau, dtype=torch.float64))
    torch.testing.assert_close(actual[0, 0, 0], wanted, rtol=0, atol=1e-14)


def test_weights_stay_positive_for_strongly_opposed_tokens() -> None:
    q, k, v, _ = random_qkv(50, 6)
    for temperature in (-20.0, 1.0, 20.0):
        tau = torch.full((1, 3, 1, 1), temperature, dtype=torch.float64)
        out = taylor_attention_direct(q, k, v, tau)
        assert (out.amax(-2) <= v.amax(-2)).all() and (out.amin(-2) >= v.amin(-2)).all()


def test_crossovers_are_those_of_the_paper() -> None:
    assert [multiplication_crossover(d) for d in (10, 30)] == [111, 931]
    assert [math.ceil(memory_crossover(d)) for d in (10, 30)] == [69, 508]


def test_layer_has_the_public_key_layout() -> None:
    shapes = {key: tuple(value.shape) for key, value in TaylorShiftAttention(12, 3).state_dict().items()}
    assert shapes == {
        "temperature": (1, 3, 1, 1),
        "qkv.weight": (36, 12),
        "qkv.bias": (36,),
        "proj.weight": (12, 12),
        "proj.bias": (12,),
    }


def test_zero_queries_average_all_values() -> None:
    q, k, v, tau = random_qkv(40, 4)
    for attention in (taylor_attention_direct, taylor_attention_efficient):
        out = attention(torch.zeros_like(q), k, v, tau)
        torch.testing.assert_close(out, v.mean(-2, keepdim=True).expand_as(out))
