"""Observers: each takes the values of a tensor array by array and determines the magnitude at which INT8 saturates.

Quantization is symmetric: the scale is `clip / 127`, the zero point 0. Memory is bounded by a running maximum or one
histogram per tensor.
"""

from __future__ import annotations

from typing import ClassVar, Protocol

import numpy as np
import numpy.typing as npt

from sr_edge.calibration.data.patch import Float32Array
from sr_edge.calibration.graph.int8 import INT8_MAX
from sr_edge.calibration.ranges.histogram import MagnitudeHistogram
from sr_edge.errors import UnknownNameError


class Observer(Protocol):
    """Determines the clip, which is the magnitude of level 127, from values that arrive array by array."""

    name: ClassVar[str]

    def observe(self, values: Float32Array) -> None:
        """Adds finite values of any shape to the statistics; keeps no reference to them."""
        ...

    def clip(self) -> float:
        """The magnitude at which INT8 saturates; 0.0 if all values were zero."""
        ...


class MinMaxObserver:
    """The largest magnitude, so nothing is clipped."""

    name: ClassVar[str] = "min-max"

    def __init__(self) -> None:
        self._largest = 0.0

    def observe(self, values: Float32Array) -> None:
        self._largest = max(self._largest, float(np.abs(values).max(initial=0.0)))

    def clip(self) -> float:
        return self._largest


class PercentileObserver:
    """Clips the largest 0.01 % of the magnitudes, with interpolation within a bin of the histogram."""

    name: ClassVar[str] = "percentile"
    share: ClassVar[float] = 0.9999

    def __init__(self) -> None:
        self._histogram = MagnitudeHistogram()

    def observe(self, values: Float32Array) -> None:
        self._histogram.add(values)

    def clip(self) -> float:
        counts, width = self._histogram.counts, self._histogram.bin_width
        cumulative = np.cumsum(counts)
        rank = self.share * cumulative[-1]
        index = int(np.searchsorted(cumulative, rank))
        inside = 1.0 - (cumulative[index] - rank) / max(1, int(counts[index]))
        return min(self._histogram.largest, float((index + inside) * width))


class EntropyObserver:
    """Clips where a distribution of 128 levels loses the least information about the original one.

    Minimises the Kullback-Leibler divergence between the clipped histogram, with its tail added to the last bin, and
    the same histogram merged into 128 levels and spread over the bins that were not empty. Exact zeros, which INT8
    represents exactly, are left out: behind a ReLU their peak would look like lost information at every clip but the
    smallest. Source: S. Migacz, "8-bit inference with TensorRT", GTC 2017.
    """

    name: ClassVar[str] = "entropy"
    step_bins: ClassVar[int] = 16

    def __init__(self) -> None:
        self._histogram = MagnitudeHistogram()

    def observe(self, values: Float32Array) -> None:
        self._histogram.add(values[values != 0.0])

    def clip(self) -> float:
        used = self._histogram.used_bins
        candidates = [*range(INT8_MAX + 1, used, self.step_bins), used]
        counts = self._histogram.counts.astype(np.float64)
        best = min(candidates, key=lambda bins: _divergence(counts[:bins], counts[bins:].sum()))
        return min(self._histogram.largest, float(best * self._histogram.bin_width))


class MseObserver:
    """Clips where the mean squared error of rounding and saturation together is smallest."""

    name: ClassVar[str] = "mse"
    fractions: ClassVar[npt.NDArray[np.float64]] = 2.0 ** (-np.arange(81) / 16)

    def __init__(self) -> None:
        self._histogram = MagnitudeHistogram()

    def observe(self, values: Float32Array) -> None:
        self._histogram.add(values)

    def clip(self) -> float:
        used, largest = self._histogram.used_bins, self._histogram.largest
        counts = self._histogram.counts[:used]
        centres = (np.arange(used) + 0.5) * np.float64(self._histogram.bin_width)
        clips = [float(fraction) * largest for fraction in self.fractions]
        return min(clips, key=lambda clip: _squared_error(centres, counts, clip))


def _divergence(kept: npt.NDArray[np.float64], tail: float) -> float:
    reference = kept.copy()
    reference[-1] += tail
    occupied = kept > 0
    level = np.arange(kept.size) * (INT8_MAX + 1) // kept.size
    sums = np.bincount(level, weights=kept)
    shares = np.maximum(np.bincount(level, weights=occupied), 1)
    spread = np.where(occupied, (sums / shares)[level], 0.0)
    counted = reference > 0
    p = reference[counted] / max(reference.sum(), 1.0)
    q = np.maximum(spread[counted] / max(spread.sum(), 1.0), 1e-12)
    return float(np.sum(p * np.log(p / q)))


def _squared_error(centres: npt.NDArray[np.float64], counts: npt.NDArray[np.int64], clip: float) -> float:
    if clip == 0.0:
        return 0.0
    scale = clip / INT8_MAX
    rounded = np.minimum(np.rint(centres / scale), INT8_MAX) * scale
    return float(np.sum(counts * (centres - rounded) ** 2))


OBSERVERS: tuple[type[Observer], ...] = (MinMaxObserver, PercentileObserver, EntropyObserver, MseObserver)


def observer_named(name: str) -> type[Observer]:
    """The observer type with that name; raises UnknownNameError for a name that is not in OBSERVERS."""
    for observer in OBSERVERS:
        if observer.name == name:
            return observer
    raise UnknownNameError("calibration method", name, [observer.name for observer in OBSERVERS])
