"""A latency target selects the best quality that meets it, by the times of whole graphs."""

from __future__ import annotations

from collections.abc import Collection

import pytest

from sr_edge.calibration.result.timings import Timings
from sr_edge.calibration.selection.gate import Budget, LayerSelection
from sr_edge.calibration.selection.latency_target import TimeMs, choose_for_target, require_float_misses
from sr_edge.errors import NothingToQuantize
from tests.expected_errors import raises

LAYERS = tuple("abcdefgh")
SINGLE_DB = {name: 1e-5 * 2.0**index for index, name in enumerate(LAYERS)}
ALIKE = Timings(dict.fromkeys(LAYERS, 1.0), "openvino", float_ms=20.0, int8_ms=12.0)


def one_db_a_layer(int8: Collection[str]) -> float:
    return float(len(int8))


def one_ms_a_layer(int8: Collection[str]) -> float:
    return 20.0 - len(int8)


def conversions(int8: Collection[str]) -> float:
    """Slower than float until nearly all layers are INT8, whatever the single savings say."""
    return 21.0 if len(int8) < 7 else 12.0 - len(int8) / 8


def choose(
    latency_ms: float, max_drop_db: float = 100.0, time_ms: TimeMs = one_ms_a_layer, timings: Timings = ALIKE
) -> LayerSelection:
    return choose_for_target(SINGLE_DB, timings, one_db_a_layer, time_ms, max_drop_db, latency_ms)


@pytest.mark.parametrize("count", range(1, len(LAYERS) + 1))
def test_no_more_layers_become_int8_than_the_target_needs(count: int) -> None:
    selection = choose(20.0 - count)
    assert selection.int8 == LAYERS[:count]
    assert set(selection.not_needed) == set(LAYERS[count:])
    assert selection.drop_db == count


def test_whole_graphs_decide_and_not_the_sum_of_savings() -> None:
    """If savings added up, three layers would suffice."""
    assert choose(17.0, time_ms=conversions).int8 == LAYERS[:7]
    assert choose(11.0, time_ms=conversions).int8 == LAYERS


def test_a_target_out_of_reach_leaves_the_fastest_within_the_budget() -> None:
    selection = choose(13.0, max_drop_db=2.0)
    assert selection.int8 == ("a", "b")
    assert selection.not_needed == ()


def test_layers_that_save_nothing_alone_come_in_where_the_whole_meets_the_target_with_them() -> None:
    """Each layer saves its neighbours a conversion."""
    without_gain = Timings({**ALIKE.saved, "c": -0.2, "g": 0.0}, "openvino", float_ms=20.0, int8_ms=12.0)
    selection = choose(11.0, time_ms=conversions, timings=without_gain)
    assert selection.int8 == LAYERS
    assert selection.without_gain == ()
    assert choose(11.5, time_ms=one_ms_a_layer, timings=without_gain).int8 == LAYERS
    enough = choose(14.0, timings=without_gain)
    assert enough.without_gain == ("c", "g")
    assert len(enough.int8) == 6
    over = choose(11.0, max_drop_db=7.0, time_ms=conversions, timings=without_gain)
    assert len(over.int8) == 7
    assert len(over.without_gain) == 1


def test_a_layer_left_float_comes_back_while_the_target_is_missed_and_the_budget_has_room() -> None:
    """g alone breaks the budget; of those dropped on the way to it only four are tried again without a target."""
    single_db = {**SINGLE_DB, **{name: 1.0 + index for index, name in enumerate("bcdefgh")}}
    costs = dict.fromkeys(LAYERS, 0.01) | {"a": 0.01, "b": 1.0}
    selection = choose_for_target(
        single_db, ALIKE, lambda int8: sum(costs[name] for name in int8), one_ms_a_layer, 0.1, latency_ms=13.0
    )
    assert selection.int8 == tuple(name for name in LAYERS if name != "b")


def test_a_layer_that_makes_the_whole_slower_does_not_come_back() -> None:
    slowing = Timings({**ALIKE.saved, "h": -1.0}, "openvino", float_ms=20.0, int8_ms=14.0)
    selection = choose(12.0, time_ms=lambda int8: one_ms_a_layer(int8) + (2.0 if "h" in int8 else 0.0), timings=slowing)
    assert selection.int8 == LAYERS[:7]
    assert selection.without_gain == ("h",)


def test_a_budget_that_nothing_meets_is_an_error_whatever_the_target() -> None:
    with raises(NothingToQuantize, found=1.0, wanted=0.5):
        choose(13.0, max_drop_db=0.5)


def test_where_float_meets_the_target_nothing_is_worth_int8() -> None:
    with raises(NothingToQuantize, found=3.54, wanted=4.5):
        require_float_misses(3.54, Budget(0.05, 4.5), "in here")
    require_float_misses(4.51, Budget(0.05, 4.5), "in here")
    require_float_misses(3.54, Budget(0.05), "in here")
