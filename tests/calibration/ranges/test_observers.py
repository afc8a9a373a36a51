"""Observers give known clips on known distributions, independently of how the values are split."""

from __future__ import annotations

import numpy as np
import pytest

from sr_edge.calibration.data.patch import Float32Array
from sr_edge.calibration.ranges.histogram import BINS, MagnitudeHistogram
from sr_edge.calibration.ranges.observers import OBSERVERS, Observer, observer_named
from sr_edge.errors import UnknownNameError
from tests.expected_errors import raises


def normal_values(count: int = 200_000) -> Float32Array:
    return np.random.default_rng(0).standard_normal(count).astype(np.float32)


def clip_of(observer_type: type[Observer], *arrays: Float32Array) -> float:
    observer = observer_type()
    for values in arrays:
        observer.observe(values)
    return observer.clip()


def rounding_error(values: Float32Array, clip: float) -> float:
    scale = clip / 127
    return float(np.mean((np.clip(np.rint(values / scale), -127, 127) * scale - values) ** 2))


NAMES = [observer.name for observer in OBSERVERS]


def test_the_names_of_observers_are_unique() -> None:
    assert len(set(NAMES)) == len(NAMES) >= 4


def test_an_unknown_method_is_refused_with_the_known_ones() -> None:
    with raises(UnknownNameError, found="median", wanted=NAMES):
        observer_named("median")


@pytest.mark.parametrize("observer_type", OBSERVERS, ids=lambda observer: observer.name)
class TestEveryObserver:
    def test_the_clip_lies_within_what_was_seen(self, observer_type: type[Observer]) -> None:
        values = normal_values()
        assert 1.0 < clip_of(observer_type, values) <= np.abs(values).max()

    def test_any_split_and_order_gives_the_same_clip(self, observer_type: type[Observer]) -> None:
        values = normal_values()
        values[::1000] *= 37.0
        parts = np.split(np.sort(values), 8)
        assert clip_of(observer_type, values) == clip_of(observer_type, *parts) == clip_of(observer_type, *parts[::-1])

    def test_the_sign_does_not_matter(self, observer_type: type[Observer]) -> None:
        values = np.abs(normal_values())
        assert clip_of(observer_type, values) == clip_of(observer_type, -values)

    @pytest.mark.parametrize("factor", [2.0**-30, 2.0**20])
    def test_the_clip_scales_with_the_values(self, observer_type: type[Observer], factor: float) -> None:
        values = normal_values(20_000)
        scaled = clip_of(observer_type, values * np.float32(factor))
        assert scaled == pytest.approx(factor * clip_of(observer_type, values), rel=1e-6)

    def test_zeros_alone_give_zero(self, observer_type: type[Observer]) -> None:
        assert clip_of(observer_type, np.zeros((2, 3), np.float32)) == 0.0

    def test_zeros_before_the_first_value_are_no_obstacle(self, observer_type: type[Observer]) -> None:
        ones = np.ones(1000, np.float32)
        assert clip_of(observer_type, np.zeros(10, np.float32), ones) == pytest.approx(1.0, rel=2 / 127)

    def test_the_observed_array_is_left_alone(self, observer_type: type[Observer]) -> None:
        values = normal_values(1000)
        before = values.copy()
        clip_of(observer_type, values)
        np.testing.assert_array_equal(values, before)


def test_min_max_is_the_largest_magnitude() -> None:
    values = np.array([0.5, -3.0, 2.0], np.float32)
    assert clip_of(observer_named("min-max"), values) == 3.0


def test_percentile_agrees_with_numpy() -> None:
    values = normal_values()
    quantile = float(np.quantile(np.abs(values), 0.9999))
    assert clip_of(observer_named("percentile"), values) == pytest.approx(quantile, rel=0.01)


def test_percentile_drops_a_lone_outlier() -> None:
    values = np.append(normal_values(), np.float32(1000.0))
    assert clip_of(observer_named("percentile"), values) < 6.0


def test_mse_is_as_good_as_the_best_of_a_fine_search() -> None:
    values = normal_values()
    values[::5000] *= 20.0
    best = min(rounding_error(values, clip) for clip in np.linspace(0.5, np.abs(values).max(), 400))
    error = rounding_error(values, clip_of(observer_named("mse"), values))
    assert error <= 1.02 * best
    assert error < 0.9 * rounding_error(values, float(np.abs(values).max()))


def test_entropy_clips_the_tail_of_a_normal_distribution_and_keeps_its_body() -> None:
    values = np.append(normal_values(), np.float32(40.0))
    assert 2.5 < clip_of(observer_named("entropy"), values) < 8.0


def test_entropy_is_not_misled_by_the_zeros_of_a_relu() -> None:
    values = normal_values()
    rectified = np.maximum(values, 0.0)
    positive = values[values > 0.0]
    assert clip_of(observer_named("entropy"), rectified) == clip_of(observer_named("entropy"), positive)


def test_a_histogram_that_grew_holds_what_one_that_did_not_grow_holds() -> None:
    values = normal_values(10_000)
    grown, at_once = MagnitudeHistogram(), MagnitudeHistogram()
    for part in (values[:5000] * 1e-6, values[5000:]):
        grown.add(part)
    at_once.add(np.concatenate([values[5000:], values[:5000] * 1e-6]))
    np.testing.assert_array_equal(grown.counts, at_once.counts)
    assert grown.limit == at_once.limit
    assert grown.counts.sum() == values.size


def test_a_histogram_uses_at_least_half_of_its_bins() -> None:
    histogram = MagnitudeHistogram()
    for largest in (1e-5, 0.99, 1.0, 7.3):
        histogram.add(np.array([largest], np.float32))
        assert BINS / 2 <= histogram.used_bins <= BINS
