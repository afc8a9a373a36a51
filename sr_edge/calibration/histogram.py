"""A histogram of magnitudes that grows with its data and does not depend on the order in which the data came.

The range is always [0, limit) with `limit` a power of two. When a larger value arrives the range doubles and pairs
of bins merge; both steps are exact, so any split of the same values into arrays gives the same counts.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

BINS = 4096
_SMALLEST_LIMIT = 2.0**-100


class MagnitudeHistogram:
    """Counts of |x| in `BINS` equal bins. At least half of the bins lie below the largest value seen."""

    def __init__(self) -> None:
        self.counts: npt.NDArray[np.int64] = np.zeros(BINS, np.int64)
        self.limit = _SMALLEST_LIMIT
        self.largest = 0.0

    @property
    def bin_width(self) -> float:
        return self.limit / BINS

    @property
    def used_bins(self) -> int:
        """How many bins, from zero up, reach the largest value."""
        return min(BINS, int(self.largest / self.bin_width) + 1)

    def add(self, values: npt.NDArray[np.float32]) -> None:
        """Counts a float32 array of any shape; the values must be finite."""
        magnitudes = np.abs(values).ravel()
        largest = float(magnitudes.max(initial=0.0))
        self._grow_beyond(largest)
        self.largest = max(self.largest, largest)
        indices = (magnitudes * np.float32(1.0 / self.bin_width)).astype(np.int32)
        self.counts += np.bincount(indices, minlength=BINS)

    def _grow_beyond(self, value: float) -> None:
        if value < self.limit:
            return
        limit = 2.0 ** math.frexp(value)[1]
        merged = int(min(limit / self.limit, BINS))
        sums = self.counts.reshape(-1, merged).sum(axis=1)
        self.counts = np.zeros(BINS, np.int64)
        self.counts[: sums.size] = sums
        self.limit = limit
