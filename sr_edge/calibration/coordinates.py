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

from sr_edge.calibration.observers import INT8_LEVELS

DAMPING = 0.01
"""Share of the mean input power that ties every weight to its float value: few samples must not decide alone."""

Values = npt.NDArray[np.float32]
Sums = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Quadratic:
    """The error of one group of a layer: `gram` (inputs, inputs) and `cross` (inputs, outputs), both damped."""

    gram: Sums
    cross: Sums

    @classmethod
    def of(cls, inputs: Values, wanted: Values, weight: Values) -> Quadratic:
        """From samples of the INT8 input (samples, inputs), the wanted output (samples, outputs), the float weight."""
        gram = (inputs.T @ inputs).astype(np.float64)
        cross = (inputs.T @ wanted).astype(np.float64)
        ridge = DAMPING * max(float(np.trace(gram)) / len(gram), 1e-30)
        return cls(gram + ridge * np.eye(len(gram)), cross + ridge * weight)


def descend(error: Quadratic, nearest: Values, scales: Values, steps: int) -> Values:
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


def _sweep(gram: Sums, slope: Sums, levels: Sums, scales: Values) -> bool:
    """Moves every input's weights to their best values, in place; says whether any moved."""
    moved = False
    for index, row in enumerate(levels):
        best = np.clip(np.rint(row + slope[index] / (gram[index, index] * scales)), -INT8_LEVELS, INT8_LEVELS)
        change = best - row
        if change.any():
            slope -= np.outer(gram[:, index], change * scales)
            levels[index] = best
            moved = True
    return moved
