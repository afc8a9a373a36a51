"""Values of controls: defaults, validation, and the settings at which checks run."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from sr_edge.controls import checked_pairs, control_values, extreme_settings, non_default_setting
from sr_edge.errors import UsageError
from sr_edge.spec import Control
from tests.expected_errors import raises

ALPHA, BETA = Control("alpha", 1.0, 0.0, 2.0), Control("beta", 0.0, 0.0, 4.0)


def test_what_is_not_named_takes_its_default_in_the_declared_order() -> None:
    assert control_values((ALPHA, BETA), {"beta": 3}) == {"alpha": 1.0, "beta": 3.0}
    assert list(control_values((ALPHA, BETA), {"beta": 3})) == ["alpha", "beta"]
    assert control_values(()) == {}


@pytest.mark.parametrize("wrong", [-0.01, 2.01, math.nan, math.inf, 10**400, "1", None, True])
def test_a_value_outside_the_range_or_no_number_is_refused(wrong: Any) -> None:
    with raises(UsageError, found=wrong, wanted=(0.0, 2.0)):
        control_values((ALPHA, BETA), {"alpha": wrong})


def test_numbers_of_numpy_are_numbers() -> None:
    assert control_values((ALPHA,), {"alpha": np.float32(0.5)}) == {"alpha": 0.5}
    assert control_values((ALPHA,), {"alpha": np.int64(2)}) == {"alpha": 2.0}


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    with raises(UsageError, found="gamma", wanted=["alpha", "beta"]):
        control_values((ALPHA, BETA), {"gamma": 1.0})
    with raises(UsageError, found="alpha", wanted=[]):
        control_values((), {"alpha": 1.0})


@pytest.mark.parametrize(
    ("arguments", "found"),
    [(("alpha", 3.0, 0.0, 2.0), 3.0), (("alpha", 1.0, 2.0, 0.0), 1.0), (("al pha", 1.0, 0.0, 2.0), "al pha")],
)
def test_a_control_that_contradicts_itself_cannot_be_made(arguments: Any, found: object) -> None:
    with raises(UsageError, found=found):
        Control(*arguments)


def test_extremes_are_all_corners() -> None:
    settings = {tuple(setting.values()) for setting in extreme_settings((ALPHA, BETA))}
    assert settings == {(0.0, 0.0), (0.0, 4.0), (2.0, 0.0), (2.0, 4.0)}
    assert extreme_settings(()) == []


def test_every_picture_runs_at_the_default_and_every_corner_is_seen() -> None:
    for count in (1, 3, 40):
        pairs = checked_pairs(list(range(count)), (ALPHA, BETA))
        assert pairs[:count] == [(picture, {"alpha": 1.0, "beta": 0.0}) for picture in range(count)]
        assert {tuple(setting.values()) for _, setting in pairs[count:]} == {(0, 0), (0, 4), (2, 0), (2, 4)}
        assert {picture for picture, _ in pairs[count:]} == set(range(count))
    assert checked_pairs(["a", "b"], ()) == [("a", {}), ("b", {})]
    assert checked_pairs([], (ALPHA,)) == []


def test_the_non_default_setting_moves_every_control_and_neighbours_apart() -> None:
    gamma = Control("gamma", 1.0, 0.0, 2.0)
    setting = non_default_setting((ALPHA, gamma, BETA))
    assert setting == {"alpha": 0.5, "gamma": 1.5, "beta": 2.0}
