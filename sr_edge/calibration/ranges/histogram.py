"""A histogram of magnitudes whose range grows with the data, independently of the order of the data.

The range is [0, limit), where `limit` is a power of two. When a larger value arrives, the range doubles and pairs of
bins are merged. Both steps are exact, so any split of the same values into arrays gives the same counts.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

BINS = 4096
_SMALLEST_LIMIT = 2.0**-100


class MagnitudeHistogram:
    """Counts of |x| in `BINS` equal bins, at least half of which are below the largest value."""

    def __init__(self) -> None:
        self.counts: npt.NDArray[np.int64] = np.zeros(BINS, np.int64)
        self.limit = _SMALLEST_LIMIT
        self.largest = 0.0

    @property
    def bin_width(self) -> float:
        return self.limit / BINS

    @property
    def used_bins(self) -> int:
        """The number of bins from zero to the largest value."""
        return min(BINS, int(self.largest / self.bin_width) + 1)

    def add(self, values: npt.NDArray[np.float32]) -> None:
        """Counts the values of a float32 array of any shape; they must be finite."""
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
