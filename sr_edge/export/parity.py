"""Is the ONNX graph the same function as the PyTorch module? Answered by ONNX Runtime on pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import torch
from torch import nn

from sr_edge.controls import checked_pairs
from sr_edge.errors import ExportError
from sr_edge.export.onnx_run import Tensor, feed_of, open_onnxruntime, run_session
from sr_edge.models.controlled import control_tensors, controls_of

Patch = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Parity:
    """How far two renderings of the same patches are apart; PSNR is over all patches, for a peak of 1.0."""

    max_abs_error: float
    psnr_db: float
    max_abs_output: float

    def require_within(self, relative_bound: float) -> None:
        """Raises ExportError when the largest error exceeds `relative_bound` of the largest output (at least 1.0)."""
        bound = relative_bound * max(1.0, self.max_abs_output)
        if not self.max_abs_error <= bound:
            raise ExportError(
                f"the ONNX graph differs from the PyTorch module by {self.max_abs_error:.3g} (allowed {bound:.3g}, "
                f"PSNR {self.psnr_db:.1f} dB); export with --form traced to see whether a rewrite causes it"
            )


def compare_with_torch(model: Path | onnx.ModelProto, module: nn.Module, patches: Sequence[Patch]) -> Parity:
    """Runs every patch, float32 (1, 3, height, width), through ONNX Runtime and through `module`.

    A network with controls runs at their defaults and at their extremes (`checked_pairs`).

    Raises:
        ExportError: there are no patches, or the two give different shapes.
    """
    session = open_onnxruntime(model)
    source, result = session.get_inputs()[0].name, session.get_outputs()[0].name
    controls = controls_of(module)
    pairs = checked_pairs(patches, controls)
    found = [run_session(session, feed_of(source, patch, setting))[result] for patch, setting in pairs]
    with torch.inference_mode():
        expected = [
            module(torch.from_numpy(patch), *control_tensors(controls, setting)).numpy() for patch, setting in pairs
        ]
    return compare_outputs(found, expected)


def compare_outputs(found: Sequence[Tensor], expected: Sequence[Tensor]) -> Parity:
    """Compares renderings of the same patches; a non-finite value anywhere counts as an infinite error.

    Raises:
        ExportError: there are no patches, or the shapes differ.
    """
    if not found or len(found) != len(expected):
        raise ExportError(f"{len(found)} patches cannot be compared with {len(expected)}; pass at least one patch")
    worst, squares, count, peak = 0.0, 0.0, 0, 0.0
    for ours, theirs in zip(found, expected, strict=True):
        if ours.shape != theirs.shape:
            raise ExportError(f"the graph gives {ours.shape}, the PyTorch module {theirs.shape}; the export is wrong")
        if not (np.isfinite(ours).all() and np.isfinite(theirs).all()):
            return Parity(math.inf, -math.inf, peak)
        difference = ours.astype(np.float64) - theirs.astype(np.float64)
        worst = max(worst, float(np.abs(difference).max()))
        peak = max(peak, float(np.abs(theirs).max()))
        squares += float(np.square(difference).sum())
        count += difference.size
    psnr_db = math.inf if squares == 0.0 else -10.0 * math.log10(squares / count)
    return Parity(worst, psnr_db, peak)
