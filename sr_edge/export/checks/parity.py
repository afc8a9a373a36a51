"""Compares an ONNX graph in ONNX Runtime with the PyTorch module that it was exported from, patch by patch.

All differences are relative to the output range, whose maximum is 1.0.

Two correct implementations of one network differ by rounding, and some networks amplify rounding: on binary noise their
activations reach 1e3, and PyTorch's float32 output differs from its float64 output by more than any bound for images.
Therefore a worst-case patch on which the graph differs by more than PARITY_BOUND is excused if the network itself is
numerically unstable there, that is, if float32 and float64 in PyTorch differ by more than NOISE_THRESHOLD; the graph
may then differ by NOISE_FACTOR times that. Photographs and flat images are never excused, nor is a network that needs
more than MAX_EXCUSED_SHARE of its worst cases excused.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import nn

from sr_edge.controls import checked_pairs
from sr_edge.errors import ExportError, NotDeployable
from sr_edge.export.checks.decisions import DataDependentBranches
from sr_edge.export.checks.float64 import run_float64
from sr_edge.export.checks.tie_order import TIES_REMARK, StableOrder
from sr_edge.export.graph.onnxruntime_run import Tensor, feed_of, open_onnxruntime, run_session
from sr_edge.export.graph.patches import CheckPatch, PatchKind
from sr_edge.models.controlled import control_tensors, controls_of

PARITY_BOUND = 1e-4
"""Largest difference allowed. Float32 through a hundred layers, summed in another order, stays below a tenth of it."""

NOISE_THRESHOLD = 1e-5
"""From this difference on, the float32 rounding of a network in PyTorch may excuse a worst case."""

NOISE_FACTOR = 10.0
"""How many times that rounding the graph may differ: enough for another order of summation and no more."""

MAX_EXCUSED_SHARE = 0.5
"""The share of worst cases that may be excused."""


@dataclass(frozen=True)
class Difference:
    """The difference between two outputs for one patch, with a peak of 1.0; infinite where one is not finite."""

    max_abs_error: float
    psnr_db: float


@dataclass(frozen=True)
class PatchParity:
    """The comparison of the graph with PyTorch on one patch.

    Attributes:
        float32_noise: the largest difference between float32 and float64 in PyTorch; measured only where a worst case
            exceeds PARITY_BOUND, otherwise None.
        noise_failure: why the noise could not be measured.
    """

    patch: str
    kind: PatchKind
    difference: Difference
    float32_noise: float | None = None
    noise_failure: str = ""

    @property
    def excused(self) -> bool:
        """Whether the rounding of the network in PyTorch explains a difference above PARITY_BOUND."""
        return self.float32_noise is not None and self.float32_noise > NOISE_THRESHOLD

    @property
    def bound(self) -> float:
        """The largest difference allowed."""
        return NOISE_FACTOR * self.float32_noise if self.float32_noise is not None and self.excused else PARITY_BOUND

    @property
    def passed(self) -> bool:
        return self.difference.max_abs_error <= self.bound

    def __str__(self) -> str:
        noise = (
            ""
            if self.float32_noise is None
            else (f", where PyTorch's float32 output differs from its float64 output by {self.float32_noise:.2g}")
        )
        unknown = f", whose numerical noise could not be measured ({self.noise_failure})" if self.noise_failure else ""
        return f"{self.difference.max_abs_error:.3g} (peak 1.0) on {self.patch}{noise}{unknown}"


@dataclass(frozen=True)
class Parity:
    """The comparison of the graph with PyTorch on all patches.

    Attributes:
        patches: the comparison for each patch.
        caveats: differences that comparing patches cannot exclude.
    """

    patches: tuple[PatchParity, ...]
    caveats: tuple[str, ...] = ()

    @property
    def max_abs_error(self) -> float:
        """The largest difference on the patches that were not excused."""
        return max((result.difference.max_abs_error for result in self._counted), default=0.0)

    @property
    def psnr_db(self) -> float:
        """The PSNR of the worst patch that was not excused."""
        return min((result.difference.psnr_db for result in self._counted), default=math.inf)

    @property
    def excused(self) -> tuple[PatchParity, ...]:
        return tuple(result for result in self.patches if result.excused)

    @property
    def passed(self) -> bool:
        return not self.refusal

    @property
    def remarks(self) -> tuple[str, ...]:
        """The difference and the noise on each excused patch, and the caveats."""
        excused = (f"the graph differs by {result}: excused as the network's own rounding" for result in self.excused)
        return (*excused, *self.caveats)

    def require_within(self, advice: str) -> None:
        """Raises ExportError with `advice` as its remedy unless every patch is within its bound.

        Its `found` and `wanted` are the largest difference on the patch that failed and the bound of that patch, or
        the number of worst cases that needed an excuse and the number that may be excused.
        """
        if not self.refusal:
            return
        failed = self._failed
        measured = failed.difference.max_abs_error if failed else len(self.excused)
        allowed = failed.bound if failed else int(MAX_EXCUSED_SHARE * len(self._worst_cases))
        raise ExportError(self.refusal, found=measured, wanted=allowed, remedy=advice)

    @property
    def _counted(self) -> list[PatchParity]:
        return [result for result in self.patches if not result.excused]

    @property
    def _worst_cases(self) -> list[PatchParity]:
        return [result for result in self.patches if result.kind is PatchKind.WORST_CASE]

    @property
    def _failed(self) -> PatchParity | None:
        """The first patch that is not within its bound."""
        return next((result for result in self.patches if not result.passed), None)

    @property
    def refusal(self) -> str:
        """Why the graph does not count as equal to the network, or ""."""
        failed = self._failed
        if failed is not None:
            return (
                f"the ONNX graph differs from the PyTorch module by {failed} (allowed {failed.bound:.3g}, "
                f"PSNR {failed.difference.psnr_db:.1f} dB)"
            )
        if len(self.excused) > MAX_EXCUSED_SHARE * len(self._worst_cases):
            return (
                f"the network is numerically unstable on {len(self.excused)} of {len(self._worst_cases)} worst cases, "
                f"which exceed the bound of {PARITY_BOUND:g} and of which at most half may be excused; for example the "
                f"graph differs by {self.excused[0]}"
            )
        return ""


def compare_with_torch(model: Path | onnx.ModelProto, module: nn.Module, patches: Sequence[CheckPatch]) -> Parity:
    """Runs every patch through ONNX Runtime and through `module`, and compares the outputs.

    A network with controls runs at their default values and at their extremes (`checked_pairs`).

    Raises:
        NotDeployable: the graph has no input, or the network has data-dependent control flow
            (`sr_edge.export.checks.decisions`).
        ExportError: there are no patches, the outputs have different shapes, or ONNX Runtime cannot run the graph.
    """
    if not patches:
        raise ExportError(
            "the graph cannot be compared with the PyTorch module without a patch",
            found=0,
            wanted="at least one patch",
            remedy="pass at least one patch",
        )
    session = open_onnxruntime(model)
    if not session.get_inputs():
        raise NotDeployable(
            "the exported graph has no input, so its output does not depend on the image: the network takes the "
            "image out of torch, for example through NumPy or .data",
            found=0,
            wanted="one input for the image",
            remedy="compute with torch tensors from the input to the output",
        )
    input_name, output_name = session.get_inputs()[0].name, session.get_outputs()[0].name
    controls, branches, order = controls_of(module), DataDependentBranches(), StableOrder()
    compared = []
    for patch, setting in checked_pairs(patches, controls):
        x, scalars = torch.from_numpy(patch.batch), control_tensors(controls, setting)
        with torch.inference_mode(), order, branches.recording(x, *scalars):
            expected = module(x, *scalars)
        actual = run_session(session, feed_of(input_name, patch.batch, setting))[output_name]
        compared.append(_compared(module, patch, setting, actual, expected.numpy()))
    branches.try_others(module, patches[0].batch, control_tensors(controls))
    branches.require_none()
    return Parity(tuple(compared), (*branches.remarks, *([TIES_REMARK] if order.has_ties else [])))


def difference(actual: Tensor, expected: Tensor) -> Difference:
    """Compares two outputs for one patch; raises ExportError when their shapes differ."""
    if actual.shape != expected.shape:
        raise ExportError(
            f"the graph gives an output of shape {actual.shape} where the PyTorch module gives {expected.shape}, so "
            "that the export is wrong",
            found=actual.shape,
            wanted=expected.shape,
        )
    if not (np.isfinite(actual).all() and np.isfinite(expected).all()):
        return Difference(math.inf, -math.inf)
    errors = actual.astype(np.float64) - expected.astype(np.float64)
    square = float(np.mean(np.square(errors)))
    return Difference(float(np.abs(errors).max()), math.inf if square == 0.0 else -10.0 * math.log10(square))


def _compared(
    module: nn.Module, patch: CheckPatch, setting: Mapping[str, float], actual: Tensor, expected: Tensor
) -> PatchParity:
    measured = difference(actual, expected)
    name = (
        f"{patch.name} at {', '.join(f'{key}={value:g}' for key, value in setting.items())}" if setting else patch.name
    )
    if patch.kind is not PatchKind.WORST_CASE or measured.max_abs_error <= PARITY_BOUND:
        return PatchParity(name, patch.kind, measured)
    try:
        with StableOrder():
            exact = run_float64(module, patch.batch, setting)
    except Exception as error:  # whatever the network's own code raises in an arithmetic it was not written for
        return PatchParity(name, patch.kind, measured, noise_failure=f"{type(error).__name__} in float64")
    return PatchParity(name, patch.kind, measured, float32_noise=_finite_noise(expected, exact))


def _finite_noise(expected: Tensor, exact: Tensor) -> float | None:
    """The noise; None if the network gives NaN or infinity, which is no rounding and excuses nothing."""
    noise = difference(expected, exact).max_abs_error
    return noise if math.isfinite(noise) else None
