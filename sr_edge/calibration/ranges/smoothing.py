"""Smoothing: the channels of a layer's input are divided by factors that its weight is multiplied by.

INT8 activations have one scale per tensor, so one channel of large magnitude reduces the precision of all others.
Weights have one scale per output channel and represent such a channel more precisely. Source of the factors: G. Xiao et
al., "SmoothQuant", ICML 2023, eq. 4, `s_c = max|x_c|^alpha / max|w_c|^(1 - alpha)`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sr_edge.calibration.data.patch import Float32Array
from sr_edge.calibration.graph.im2col import Layer

ALPHAS = (0.0, 0.5, 0.65, 0.8, 1.0)
"""The exponents that the search tries; 0.0 means no smoothing."""

WIDEST_RATIO = 1e4
"""The largest ratio of two factors: a channel of nearly zero must not get weights that float16 cannot represent."""


def smoothing_factors(input_peaks: Float32Array, weight_peaks: Float32Array, alpha: float) -> Float32Array:
    """(channels,) The divisors of the input channels; the channel of largest magnitude keeps its magnitude.

    Args:
        input_peaks: (channels,) The largest magnitude of each channel over the calibration patches.
        weight_peaks: (channels,) The largest magnitude of the weights that multiply each channel.
        alpha: The exponent of SmoothQuant; 0.0 gives ones, 1.0 gives all channels the same magnitude.
    """
    factors = np.ones_like(input_peaks)
    active = (input_peaks > 0.0) & (weight_peaks > 0.0)
    if alpha == 0.0 or not active.any():
        return factors
    raw = input_peaks[active].astype(np.float64) ** alpha / weight_peaks[active].astype(np.float64) ** (1.0 - alpha)
    raw = np.maximum(raw, raw.max() / WIDEST_RATIO)
    largest = float((input_peaks[active] / raw).max())
    factors[active] = raw * (largest / float(input_peaks[active].max()))
    return factors


def weight_peaks(layers: Sequence[Layer]) -> Float32Array:
    """(channels,) The largest magnitude of the weights by which any of the layers multiplies each input channel."""
    peaks = [np.abs(layer.weight_per_input()).max(axis=1) for layer in layers]
    return np.asarray(np.max(peaks, axis=0), np.float32)
