"""Networks with controls: what they must declare, and controls that became constants."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sr_edge.errors import UsageError
from sr_edge.models import LoadedModel
from sr_edge.models.controlled import control_tensors, controls_of
from sr_edge.models.loading.load import ScaledRange, bake, innermost
from sr_edge.spec import Control, ModelCard
from tests.expected_errors import raises

ALPHA, BETA = Control("alpha", 1.0, 0.0, 2.0), Control("beta", 1.0, 0.0, 2.0)


class Affine(nn.Module):
    """alpha * x + beta, doubled in size."""

    controls = (ALPHA, BETA)

    def forward(self, x: Tensor, alpha: Tensor | None = None, beta: Tensor | None = None) -> Tensor:
        alpha, beta = (given if given is not None else torch.ones(1) for given in (alpha, beta))
        return (alpha * x + beta).repeat_interleave(2, 2).repeat_interleave(2, 3)


def loaded() -> LoadedModel:
    return LoadedModel(Affine().eval(), ModelCard("affine", 2, 0, controls=Affine.controls))


def at(module: nn.Module, *values: float) -> float:
    return float(module(torch.full((1, 3, 2, 2), 3.0), *(torch.tensor([value]) for value in values))[0, 0, 0, 0])


def test_a_baked_control_is_gone_and_recorded() -> None:
    baked = bake(loaded(), {"alpha": 0.5})
    assert (baked.card.controls, baked.card.baked) == ((BETA,), {"alpha": 0.5})
    assert controls_of(baked.module) == (BETA,)
    assert at(baked.module, 2.0) == 0.5 * 3 + 2
    assert at(baked.module) == 0.5 * 3 + 1


def test_controls_are_baked_one_after_the_other() -> None:
    both = bake(bake(loaded(), {"beta": 0.0}), {"alpha": 2.0})
    assert (both.card.controls, both.card.baked) == ((), {"beta": 0.0, "alpha": 2.0})
    assert at(both.module) == 6.0
    assert type(innermost(both.module)) is Affine


def test_baking_nothing_changes_nothing() -> None:
    model = loaded()
    assert bake(model, {}) is model


@pytest.mark.parametrize("wrong", [{"gamma": 1.0}, {"alpha": 2.5}])
def test_what_cannot_be_set_cannot_be_baked(wrong: dict[str, float]) -> None:
    with raises(UsageError) as caught:
        bake(loaded(), wrong)
    assert str(next(iter(wrong))) in caught.value.problem


def test_a_network_of_another_range_passes_controls_on() -> None:
    scaled = ScaledRange(Affine(), 255.0)
    assert controls_of(scaled) == Affine.controls
    assert at(scaled, 0.5, 2.0) == pytest.approx(0.5 * 3 + 2 / 255)


def test_tensors_are_float32_of_one_element() -> None:
    found = control_tensors(Affine.controls, {"beta": 0.25})
    assert [(tensor.dtype, tuple(tensor.shape), tensor.item()) for tensor in found] == [
        (torch.float32, (1,), 1.0),
        (torch.float32, (1,), 0.25),
    ]


class OtherOrder(Affine):
    controls = (BETA, ALPHA)


class NotTaken(nn.Module):
    controls = (ALPHA,)

    def forward(self, x: Tensor) -> Tensor:
        return x


class NoTuple(Affine):
    controls: Any = "alpha"


class TwiceNamed(Affine):
    controls: Any = (ALPHA, ALPHA)


@pytest.mark.parametrize(
    ("network", "found", "wanted"),
    [
        (OtherOrder, ["alpha", "beta"], ["beta", "alpha"]),
        (NotTaken, [], ["alpha"]),
        (NoTuple, "alpha", "tuple[sr_edge.spec.Control, ...]"),
        (TwiceNamed, ["alpha", "alpha"], "unique names other than input and output"),
    ],
)
def test_a_declaration_that_does_not_fit_the_network_is_refused(
    network: type[nn.Module], found: object, wanted: object
) -> None:
    with raises(UsageError, found=found, wanted=wanted):
        controls_of(network())


def test_a_network_without_controls_has_none() -> None:
    assert controls_of(nn.Conv2d(3, 3, 1)) == ()
