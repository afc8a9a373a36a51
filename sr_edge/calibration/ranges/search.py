"""Searches, for each layer, the smoothing and the clip with the smallest output error, and corrects the bias for it.

Layers that read the same tensor are searched together, because they share its QuantizeLinear. Every candidate is
evaluated with quantized input and weight, on samples of the unfolded (im2col) input of the layer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from sr_edge.calibration.data.patch import Float32Array
from sr_edge.calibration.graph.im2col import Layer
from sr_edge.calibration.graph.int8 import INT8_MAX, INT8_MIN, UINT8_MAX, int8_weight
from sr_edge.calibration.ranges.observers import Observer
from sr_edge.calibration.ranges.smoothing import ALPHAS, smoothing_factors, weight_peaks
from sr_edge.calibration.ranges.unsigned import candidate_input_ranges
from sr_edge.calibration.result.calibration import TensorRange

SHARES = (1.0, 0.9, 0.8, 0.65, 0.5)
"""The clips that the search tries, as shares of the largest magnitude."""

SEARCH = "search"
"""The method that tries all of SHARES; every other method is the name of an observer, which determines the clip."""


@dataclass(frozen=True)
class TensorStatistics:
    """(channels,) The smallest and the largest values of a tensor over the calibration patches."""

    lowest: Float32Array
    highest: Float32Array

    @property
    def peaks(self) -> Float32Array:
        return np.maximum(np.abs(self.lowest), np.abs(self.highest))


@dataclass(frozen=True)
class RangeSearchResult:
    """The range of one tensor, and the bias corrections, by node, of the layers that read it."""

    range: TensorRange
    corrections: dict[str, tuple[float, ...]]


@dataclass(frozen=True)
class LayerSamples:
    """Samples of one layer.

    Attributes:
        layer: The layer.
        unfolded: (groups, samples, channels x taps per group) Its unfolded input at sampled output positions.
        output: (groups, samples, outputs per group) Its float output there, without bias.
    """

    layer: Layer
    unfolded: Float32Array
    output: Float32Array

    @classmethod
    def of(cls, layer: Layer, unfolded: Float32Array) -> LayerSamples:
        return cls(layer, unfolded, np.matmul(unfolded, layer.matrix(layer.weight)))

    def smoothed_input(self, smoothing: Float32Array) -> Float32Array:
        by_group = smoothing.reshape(self.layer.groups, 1, -1)
        taps = self.unfolded.shape[2] // by_group.shape[2]
        return np.divide(self.unfolded, np.repeat(by_group, taps, axis=2), dtype=np.float32)

    def int8_matrix(self, smoothing: Float32Array) -> Float32Array:
        return self.layer.matrix(
            int8_weight(self.layer.smoothed(self.layer.weight, smoothing), self.layer.op.channel_axis)
        )


@dataclass(frozen=True)
class _Candidate:
    """A range, the mean error of each reader per output channel, and the relative noise of all readers together."""

    range: TensorRange
    means: tuple[Float32Array, ...]
    noise: float


def search_range(
    statistics: TensorStatistics,
    sampled: Sequence[LayerSamples],
    observer_type: type[Observer] | None,
    *,
    may_be_unsigned: bool = False,
) -> RangeSearchResult:
    """Finds the smoothing and clip of one tensor with the smallest noise in all layers that read it.

    Args:
        statistics: The statistics of the tensor over all patches.
        sampled: Samples of every layer that reads the tensor, from the same patches.
        observer_type: Determines the clip from the samples; None tries SHARES of the largest magnitude.
        may_be_unsigned: Tries levels from 0 to 255 as well; for the input image, see the module `unsigned`.
    """
    candidates = [*_candidates(statistics, sampled, observer_type)]
    if may_be_unsigned and statistics.lowest.min() >= 0.0:
        candidates += _unsigned_candidates(statistics, sampled)
    best = min(candidates, key=lambda candidate: candidate.noise)
    corrections = {
        reader.layer.op.node: tuple(-float(value) for value in mean)
        for reader, mean in zip(sampled, best.means, strict=True)
        if reader.layer.is_correctable
    }
    return RangeSearchResult(best.range, corrections)


def _candidates(
    statistics: TensorStatistics, sampled: Sequence[LayerSamples], observer_type: type[Observer] | None
) -> Iterator[_Candidate]:
    peaks = weight_peaks([reader.layer for reader in sampled])
    active = peaks > 0.0 if peaks.any() else np.ones(peaks.shape, np.bool_)
    for alpha in ALPHAS:
        smoothing = smoothing_factors(statistics.peaks, peaks, alpha)
        unfolded = [reader.smoothed_input(smoothing) for reader in sampled]
        largest = float((statistics.peaks / smoothing)[active].max())
        clips = list(_clips(largest, unfolded, observer_type))
        factors = tuple(float(factor) for factor in smoothing) if alpha else ()
        ranges = [_range(statistics, clip, factors, alpha, observer) for observer, clip in clips]
        yield from _evaluated(ranges, sampled, unfolded, smoothing)


def _unsigned_candidates(statistics: TensorStatistics, sampled: Sequence[LayerSamples]) -> Iterator[_Candidate]:
    clips = candidate_input_ranges(float(statistics.highest.max()))
    ranges = [replace(_range(statistics, clip), observer=f"0 to {clip:g}", is_unsigned=True) for clip in clips]
    yield from _evaluated(ranges, sampled, [reader.unfolded for reader in sampled], np.ones_like(statistics.highest))


def _range(
    statistics: TensorStatistics, clip: float, smoothing: tuple[float, ...] = (), alpha: float = 0.0, observer: str = ""
) -> TensorRange:
    return TensorRange(
        float(statistics.lowest.min()), float(statistics.highest.max()), clip, smoothing, alpha, observer
    )


def _evaluated(
    ranges: Sequence[TensorRange],
    sampled: Sequence[LayerSamples],
    unfolded: Sequence[Float32Array],
    smoothing: Float32Array,
) -> Iterator[_Candidate]:
    """Evaluates ranges of one smoothing, by which the samples in `unfolded` are already divided."""
    errors = [
        _errors(reader, part, reader.int8_matrix(smoothing), ranges)
        for reader, part in zip(sampled, unfolded, strict=True)
    ]
    for index, tensor_range in enumerate(ranges):
        means = tuple(error[index].mean(axis=1, dtype=np.float64).ravel() for error in errors)
        noise = sum(_relative_noise(reader, error[index]) for reader, error in zip(sampled, errors, strict=True))
        yield _Candidate(tensor_range, means, noise)


def _errors(
    reader: LayerSamples, unfolded: Float32Array, matrix: Float32Array, ranges: Sequence[TensorRange]
) -> Float32Array:
    """(ranges, groups, samples, outputs per group) The errors of all ranges, in one product for speed."""
    groups, samples, _ = unfolded.shape
    rounded = np.concatenate([int8_values(unfolded, each) for each in ranges], axis=1)
    outputs = np.matmul(rounded, matrix).reshape(groups, len(ranges), samples, -1)
    return np.asarray(outputs.transpose(1, 0, 2, 3) - reader.output, np.float32)


def _clips(
    largest: float, unfolded: Sequence[Float32Array], observer_type: type[Observer] | None
) -> Iterator[tuple[str, float]]:
    if observer_type is None:
        yield from ((f"max x {share:g}", share * largest) for share in SHARES)
        return
    observer = observer_type()
    for part in unfolded:
        observer.observe(part)
    yield observer_type.name, min(largest, observer.clip())


def int8_values(unfolded: Float32Array, tensor_range: TensorRange) -> Float32Array:
    """Quantizes and dequantizes samples that are divided by the smoothing; all zeros where the clip is zero."""
    scale = np.float32(tensor_range.scale)
    if scale == 0.0:
        return np.zeros_like(unfolded)
    levels: Float32Array = np.multiply(unfolded, np.float32(1.0) / scale)
    np.rint(levels, out=levels)
    np.clip(levels, *((0, UINT8_MAX) if tensor_range.is_unsigned else (INT8_MIN, INT8_MAX)), out=levels)
    levels *= scale
    return levels


def _relative_noise(reader: LayerSamples, error: Float32Array) -> float:
    """Power of the error relative to the output, without the mean error where a bias correction removes it."""
    power = float(np.mean(np.square(error), dtype=np.float64))
    if reader.layer.is_correctable:
        power -= float(np.mean(np.square(error.mean(axis=1, dtype=np.float64))))
    return power / max(float(np.mean(np.square(reader.output), dtype=np.float64)), 1e-30)
