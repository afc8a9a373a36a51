"""Coordinate descent over INT8 weights: the rounding that suits the inputs, not the nearest one.

A layer's squared output error is a quadratic form of its weights. With all weights but one fixed, the best INT8 value
of that one is known in closed form; sweeps over all of them, every output channel at once, lower the error step by
step and need no learning rate. Source: A. Zhang et al., "COMQ: A Backpropagation-Free Algorithm for Post-Training
Quantization", 2024 (arXiv 2403.07134), here with the scales held fixed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sr_edge.calibration.int8 import INT8_MAX
from sr_edge.calibration.patch import Float32Array

DAMPING = 0.01
"""Share of the mean input power that ties every weight to its float value: few samples must not decide alone."""

Float64Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class QuadraticError:
    """The error of one group of a layer: `gram` (inputs, inputs) and `cross` (inputs, outputs), both damped."""

    gram: Float64Array
    cross: Float64Array

    @classmethod
    def of(cls, inputs: Float32Array, wanted: Float32Array, weight: Float32Array) -> QuadraticError:
        """From samples of the INT8 input (samples, inputs), the wanted output (samples, outputs), the float weight."""
        gram = (inputs.T @ inputs).astype(np.float64)
        cross = (inputs.T @ wanted).astype(np.float64)
        ridge = DAMPING * max(float(np.trace(gram)) / len(gram), 1e-30)
        return cls(gram + ridge * np.eye(len(gram)), cross + ridge * weight)


def coordinate_descent(error: QuadraticError, nearest: Float32Array, scales: Float32Array, steps: int) -> Float32Array:
    """INT8 weights (inputs, outputs) of less error than `nearest`, in at most `steps` sweeps.

    Args:
        error: what to lower.
        nearest: whole numbers in [-127, 127] to start from.
        scales: (outputs,) of the weights.
        steps: sweeps over all weights; it ends sooner where nothing moves any more.
    """
    levels = nearest.astype(np.float64)
    slope = error.cross - error.gram @ (levels * scales)
    for _ in range(steps):
        if not _sweep(error.gram, slope, levels, scales):
            break
    return levels.astype(np.float32)


def _sweep(gram: Float64Array, slope: Float64Array, levels: Float64Array, scales: Float32Array) -> bool:
    """Moves every input's weights to their best values, in place; says whether any moved."""
    moved = False
    for index, row in enumerate(levels):
        best = np.clip(np.rint(row + slope[index] / (gram[index, index] * scales)), -INT8_MAX, INT8_MAX)
        change = best - row
        if change.any():
            slope -= np.outer(gram[:, index], change * scales)
            levels[index] = best
            moved = True
    return moved
