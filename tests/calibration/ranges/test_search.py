"""The search finds the smoothing, clip and bias with the smallest error of the layer's output."""

from __future__ import annotations

import numpy as np
import pytest

from sr_edge.calibration.data.patch import Float32Array
from sr_edge.calibration.graph.candidates import QuantizableOp
from sr_edge.calibration.graph.im2col import Layer
from sr_edge.calibration.graph.int8 import int8_weight
from sr_edge.calibration.ranges.observers import MinMaxObserver
from sr_edge.calibration.ranges.search import LayerSamples, TensorStatistics, search_range
from sr_edge.calibration.ranges.smoothing import ALPHAS, WIDEST_RATIO, smoothing_factors, weight_peaks


def layer(weight: Float32Array, name: str = "conv", correctable: bool = True) -> Layer:
    return Layer(QuantizableOp(name, "Conv", "x", f"{name}.weight", 0), weight, is_correctable=correctable)


def pointwise(outputs: int, inputs: int, seed: int = 0) -> Float32Array:
    return np.random.default_rng(seed).standard_normal((outputs, inputs, 1, 1)).astype(np.float32)


def sampled_of(values: Float32Array, *layers: Layer) -> tuple[TensorStatistics, list[LayerSamples]]:
    """Rows of channels, as a pointwise layer sees them."""
    statistics = TensorStatistics(values.min(axis=0), values.max(axis=0))
    return statistics, [LayerSamples.of(one, values[np.newaxis]) for one in layers]


def loud_and_quiet() -> Float32Array:
    """Eight channels, one of them with a hundred times the magnitude."""
    values = np.random.default_rng(1).standard_normal((2000, 8)).astype(np.float32)
    values[:, 3] *= 100.0
    return values


def rounding_error(
    values: Float32Array, one: Layer, statistics: TensorStatistics, sampled: list[LayerSamples]
) -> float:
    result = search_range(statistics, sampled, None)
    smoothing = np.asarray(result.range.smoothing or np.ones(values.shape[1]), np.float32)
    levels = np.clip(np.rint(values / smoothing / result.range.scale), -128, 127) * result.range.scale
    weight = one.matrix(int8_weight(one.smoothed(one.weight, smoothing), 0))[0]
    correction = np.asarray(result.corrections.get("conv", 0.0))
    reference = values @ one.matrix(one.weight)[0]
    return float(np.mean(np.square(levels @ weight + correction - reference)) / np.mean(np.square(reference)))


def test_a_loud_channel_is_smoothed_into_the_weights() -> None:
    values, one = loud_and_quiet(), layer(pointwise(16, 8))
    one.weight[:, 3] /= 50.0
    statistics, sampled = sampled_of(values, one)
    result = search_range(statistics, sampled, None)
    assert result.range.alpha > 0.0
    assert result.range.smoothing[3] == max(result.range.smoothing)
    assert rounding_error(values, one, statistics, sampled) < 3e-4


def test_even_channels_need_no_smoothing_and_no_clip() -> None:
    values = np.random.default_rng(0).choice([-1.0, 1.0], (2000, 8)).astype(np.float32)
    statistics, sampled = sampled_of(values, layer(np.sign(pointwise(4, 8))))
    tensor_range = search_range(statistics, sampled, None).range
    assert (tensor_range.alpha, tensor_range.smoothing, tensor_range.observer, tensor_range.clip) == (
        0.0,
        (),
        "max x 1",
        1.0,
    )


def test_a_rare_outlier_is_clipped() -> None:
    values = np.random.default_rng(0).uniform(-1.0, 1.0, (20000, 8)).astype(np.float32)
    values[np.arange(8), np.arange(8)] = 1.6  # each channel once: smoothing cannot help
    statistics, sampled = sampled_of(values, layer(pointwise(4, 8)))
    tensor_range = search_range(statistics, sampled, None).range
    assert tensor_range.clip < 1.5


def test_an_observer_instead_of_the_search_finds_the_clip_alone() -> None:
    values = loud_and_quiet()
    statistics, sampled = sampled_of(values, layer(pointwise(4, 8)))
    tensor_range = search_range(statistics, sampled, MinMaxObserver).range
    assert tensor_range.observer == "min-max"
    smoothed = values / np.asarray(tensor_range.smoothing or 1.0, np.float32)
    assert tensor_range.clip == pytest.approx(float(np.abs(smoothed).max()), rel=1e-6)


def test_the_correction_takes_the_mean_error_away() -> None:
    """With a constant input all rounding errors add up to a constant, which a bias corrects exactly."""
    values = np.ones((500, 8), np.float32)
    values[:, 0] = np.linspace(0.0, 1.0, 500)
    one = layer(pointwise(16, 8))
    statistics, sampled = sampled_of(values, one)
    with_correction = rounding_error(values, one, statistics, sampled)
    without = rounding_error(
        values, layer(one.weight, correctable=False), *sampled_of(values, layer(one.weight, "c", False))
    )
    assert with_correction < without / 5


def test_layers_that_cannot_be_corrected_get_no_correction() -> None:
    statistics, sampled = sampled_of(
        loud_and_quiet(), layer(pointwise(4, 8), "a"), layer(pointwise(4, 8, 1), "b", False)
    )
    assert set(search_range(statistics, sampled, None).corrections) == {"a"}


def test_a_tensor_that_was_always_zero_has_no_clip() -> None:
    statistics, sampled = sampled_of(np.zeros((100, 8), np.float32), layer(pointwise(4, 8)))
    assert search_range(statistics, sampled, None).range.clip == 0.0


class TestSmoothingFactors:
    peaks = np.array([0.5, 8.0, 0.0, 2.0], np.float32)
    weights = np.array([1.0, 0.1, 1.0, 0.0], np.float32)

    @pytest.mark.parametrize("alpha", ALPHAS)
    def test_the_loudest_channel_keeps_its_magnitude(self, alpha: float) -> None:
        factors = smoothing_factors(self.peaks, self.weights, alpha)
        active = self.weights > 0.0
        assert (self.peaks / factors)[active].max() == pytest.approx(8.0)
        assert factors.min() > 0.0

    def test_alpha_one_makes_all_heard_channels_equally_loud(self) -> None:
        factors = smoothing_factors(self.peaks, self.weights, 1.0)
        assert (self.peaks / factors)[0] == pytest.approx((self.peaks / factors)[1])

    def test_silent_and_unread_channels_are_left_alone(self) -> None:
        factors = smoothing_factors(self.peaks, self.weights, 0.8)
        assert factors[2] == factors[3] == 1.0

    def test_factors_stay_within_what_half_precision_holds(self) -> None:
        peaks = np.array([1e-12, 1.0], np.float32)
        factors = smoothing_factors(peaks, np.ones(2, np.float32), 1.0)
        assert factors.max() / factors.min() <= WIDEST_RATIO * 1.001

    def test_the_weights_of_all_readers_count(self) -> None:
        first, second = pointwise(4, 3), 10.0 * pointwise(6, 3, 1)
        peaks = weight_peaks([layer(first), layer(second)])
        np.testing.assert_allclose(peaks, np.abs(second).max(axis=(0, 2, 3)))
