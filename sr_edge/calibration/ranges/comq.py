"""COMQ: coordinate descent over INT8 weights, which rounds weights so that the output error is small for given inputs.

The squared output error of a layer is a quadratic form of its weights. With all weights but one fixed, the best INT8
value of that weight has a closed form. Sweeps over all weights, for all output channels at once, lower the error step
by step without a learning rate. Source: A. Zhang et al., "COMQ: A Backpropagation-Free Algorithm for Post-Training
Quantization", 2024 (arXiv 2403.07134), here with the scales held fixed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sr_edge.calibration.data.patch import Float32Array
from sr_edge.calibration.graph.int8 import INT8_MAX

DAMPING = 0.01
"""Ridge, as a share of the mean input power, towards the float weights: prevents overfitting to few samples."""

Float64Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class QuadraticError:
    """The quadratic form of one group: `gram` (inputs, inputs) and `cross` (inputs, outputs), both damped."""

    gram: Float64Array
    cross: Float64Array

    @classmethod
    def of(cls, inputs: Float32Array, target: Float32Array, weight: Float32Array) -> QuadraticError:
        """Builds the quadratic form.

        Args:
            inputs: (samples, inputs) The dequantized input.
            target: (samples, outputs) The output of the float layer.
            weight: (inputs, outputs) The float weight.
        """
        gram = (inputs.T @ inputs).astype(np.float64)
        cross = (inputs.T @ target).astype(np.float64)
        ridge = DAMPING * max(float(np.trace(gram)) / len(gram), 1e-30)
        return cls(gram + ridge * np.eye(len(gram)), cross + ridge * weight)


def coordinate_descent(error: QuadraticError, nearest: Float32Array, scales: Float32Array, steps: int) -> Float32Array:
    """Lowers the error of INT8 weights in at most `steps` sweeps.

    Args:
        error: The quadratic form to minimise.
        nearest: (inputs, outputs) The nearest levels, integers in [-127, 127], to start from.
        scales: (outputs,) The scales of the weights.
        steps: The largest number of sweeps over all weights; the descent ends earlier when no weight changes.

    Returns:
        (inputs, outputs) The levels.
    """
    levels = nearest.astype(np.float64)
    slope = error.cross - error.gram @ (levels * scales)
    for _ in range(steps):
        if not _sweep(error.gram, slope, levels, scales):
            break
    return levels.astype(np.float32)


def _sweep(gram: Float64Array, slope: Float64Array, levels: Float64Array, scales: Float32Array) -> bool:
    """Sets the weights of one input after another to their best levels, in place; returns whether any changed."""
    changed = False
    for index, row in enumerate(levels):
        best = np.clip(np.rint(row + slope[index] / (gram[index, index] * scales)), -INT8_MAX, INT8_MAX)
        change = best - row
        if change.any():
            slope -= np.outer(gram[:, index], change * scales)
            levels[index] = best
            changed = True
    return changed
