"""Smoothing: channels of a layer's input divided by factors that its weight takes back.

INT8 has one scale for a whole tensor, so one loud channel costs all others their precision; weights have one scale per
output channel and bear the loud channel more easily. Source of the factors: G. Xiao et al., "SmoothQuant", ICML 2023,
eq. 4, `s_c = max|x_c|^alpha / max|w_c|^(1 - alpha)`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sr_edge.calibration.columns import Layer
from sr_edge.calibration.patch import Float32Array

ALPHAS = (0.0, 0.5, 0.65, 0.8, 1.0)
"""What the search tries; 0.0 stands for no smoothing at all."""

WIDEST_RATIO = 1e4
"""Largest over smallest factor: a channel that is nearly silent must not get weights that float16 cannot hold."""


def smoothing_factors(input_peaks: Float32Array, weight_peaks: Float32Array, alpha: float) -> Float32Array:
    """(channels,) by how much to divide each input channel; the loudest channel keeps its magnitude.

    Args:
        input_peaks: (channels,) largest magnitude of each channel over the calibration patches.
        weight_peaks: (channels,) largest magnitude of the weights that read each channel.
        alpha: 0.0 gives ones; 1.0 makes all channels equally loud.
    """
    factors = np.ones_like(input_peaks)
    heard = (input_peaks > 0.0) & (weight_peaks > 0.0)
    if alpha == 0.0 or not heard.any():
        return factors
    raw = input_peaks[heard].astype(np.float64) ** alpha / weight_peaks[heard].astype(np.float64) ** (1.0 - alpha)
    raw = np.maximum(raw, raw.max() / WIDEST_RATIO)
    loudest = float((input_peaks[heard] / raw).max())
    factors[heard] = raw * (loudest / float(input_peaks[heard].max()))
    return factors


def weight_peaks(layers: Sequence[Layer]) -> Float32Array:
    """(channels,) the largest weight that any of the layers multiplies each input channel by."""
    peaks = [np.abs(layer.weight_per_input()).max(axis=1) for layer in layers]
    return np.asarray(np.max(peaks, axis=0), np.float32)
