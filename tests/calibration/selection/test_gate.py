"""The gate keeps as many INT8 layers as the budget allows, by loss per time saved and the measured joint loss."""

from __future__ import annotations

from collections.abc import Callable, Collection

import pytest

from sr_edge.calibration.result.timings import Timings
from sr_edge.calibration.selection.gate import Budget, choose_layers
from sr_edge.errors import NothingToQuantize, UsageError
from tests.expected_errors import raises

LAYERS = tuple("abcdefgh")
ALIKE = Timings(dict.fromkeys(LAYERS, 1.0), "openvino", float_ms=20.0, int8_ms=12.0)
SINGLE_DB = {name: 1e-5 * 2.0**index for index, name in enumerate(LAYERS)}


def one_db_a_layer(int8: Collection[str]) -> float:
    return float(len(int8))


def own_costs(costs: dict[str, float]) -> Callable[[Collection[str]], float]:
    return lambda int8: sum(costs[name] for name in int8)


@pytest.mark.parametrize("budget_db", range(1, len(LAYERS) + 1))
def test_as_much_int8_as_the_budget_allows(budget_db: int) -> None:
    selection = choose_layers(SINGLE_DB, ALIKE, one_db_a_layer, Budget(float(budget_db)))
    assert selection.int8 == LAYERS[:budget_db]
    assert selection.drop_db == budget_db


def test_the_joint_check_decides_and_not_the_sum_of_single_noises() -> None:
    selection = choose_layers(SINGLE_DB, ALIKE, lambda int8: 0.01, Budget(0.05))
    assert selection.int8 == LAYERS


def test_noise_is_weighed_against_the_time_that_a_layer_saves() -> None:
    """b is noisier than a but saves much more time, and the budget allows only one of them."""
    single_db, saved = {"a": 0.1, "b": 0.2}, {"a": 1.0, "b": 5.0}
    timings = Timings(saved, "openvino", float_ms=20.0, int8_ms=14.0)
    selection = choose_layers(single_db, timings, one_db_a_layer, Budget(1.0))
    assert selection.int8 == ("b",)
    assert selection.too_noisy == ()


def test_a_layer_that_saves_little_for_its_noise_stays_float_even_within_the_budget() -> None:
    """a takes 40 % of the budget for 2 % of the time saved."""
    single_db, saved = {"a": 0.02, "b": 0.001, "c": 0.001}, {"a": 0.1, "b": 2.5, "c": 2.4}
    timings = Timings(saved, "openvino", float_ms=20.0, int8_ms=15.0)
    costs = own_costs(single_db)
    selection = choose_layers(single_db, timings, costs, Budget(0.05))
    assert selection.too_noisy == ("a",)
    assert selection.int8 == ("b", "c")
    assert choose_layers(single_db, timings, costs, Budget(float("inf"))).int8 == ("a", "b", "c")


def test_a_layer_that_int8_makes_slower_stays_float_whatever_the_budget() -> None:
    timings = Timings({**ALIKE.saved, "c": -0.2}, "openvino", float_ms=20.0, int8_ms=13.0)
    selection = choose_layers(SINGLE_DB, timings, one_db_a_layer, Budget(100.0))
    assert selection.without_gain == ("c",)
    assert selection.int8 == tuple(name for name in LAYERS if name != "c")


def test_where_no_layer_saves_time_quality_alone_decides() -> None:
    timings = Timings(dict.fromkeys(LAYERS, -1.0), "openvino", float_ms=20.0, int8_ms=28.0)
    selection = choose_layers(SINGLE_DB, timings, one_db_a_layer, Budget(3.0))
    assert selection.without_gain == ()
    assert selection.int8 == ("a", "b", "c")


def test_a_large_layer_returns_where_the_budget_has_room() -> None:
    """h is dropped on the way to dropping g, which alone breaks the budget."""
    costs = dict.fromkeys(LAYERS, 0.01) | {"g": 1.0}
    selection = choose_layers(SINGLE_DB, ALIKE, own_costs(costs), Budget(0.1))
    assert selection.int8 == tuple(name for name in LAYERS if name != "g")
    assert selection.drop_db == pytest.approx(0.07)


def test_the_curve_goes_from_all_layers_to_none_and_holds_what_was_measured() -> None:
    selection = choose_layers(SINGLE_DB, ALIKE, one_db_a_layer, Budget(4.0))
    counts = [point.int8_layers for point in selection.curve]
    assert counts[0] == len(LAYERS)
    assert counts[-2] < len(LAYERS) / 2
    assert counts[-1] == 0
    assert all(point.drop_db == point.int8_layers for point in selection.curve)
    assert [point.cost for point in selection.curve] == sorted(point.cost for point in selection.curve)


def test_a_budget_that_nothing_meets_is_an_error_with_the_number() -> None:
    with raises(NothingToQuantize, found=1.0, wanted=0.5):
        choose_layers(SINGLE_DB, ALIKE, one_db_a_layer, Budget(0.5))


def test_a_budget_of_zero_admits_only_what_costs_nothing() -> None:
    with raises(NothingToQuantize, found=1e-4, wanted=0.0):
        choose_layers(SINGLE_DB, ALIKE, lambda int8: 1e-4 * len(int8), Budget(0.0))
    assert choose_layers(SINGLE_DB, ALIKE, lambda int8: -0.01, Budget(0.0)).int8 == LAYERS


@pytest.mark.parametrize("budget", [-1.0, float("nan")])
def test_a_budget_below_zero_is_refused(budget: float) -> None:
    with raises(UsageError, found=budget, wanted="0 dB or more"):
        Budget(budget)


@pytest.mark.parametrize("latency_ms", [0.0, -3.0, float("nan")])
def test_a_latency_that_nothing_can_have_is_refused(latency_ms: float) -> None:
    with raises(UsageError, found=latency_ms, wanted="more than 0 ms"):
        Budget(0.05, latency_ms)
