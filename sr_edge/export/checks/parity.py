"""Is the ONNX graph the same function as the PyTorch module? ONNX Runtime answers, patch by patch.

Two sound implementations of one network differ by rounding, and some networks amplify rounding: on binary noise their
activations reach 1e3 and PyTorch's own float32 output is further from its float64 output than any bound for pictures.
So a worst-case patch on which the graph differs by more than PARITY_BOUND is excused if the network itself is unstable
there, that is, if float32 and float64 in PyTorch differ by more than NOISE_SHARE of white; the graph must then stay
within NOISE_MULTIPLE of that difference. Photographs and flat pictures are never excused, nor is a network that needs
more than MOST_EXCUSED of its worst cases excused.
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
from sr_edge.export.checks.decisions import PictureDecisions
from sr_edge.export.checks.float64 import run_float64
from sr_edge.export.onnx_run import Tensor, feed_of, open_onnxruntime, run_session
from sr_edge.export.patches import CheckPatch, PatchKind
from sr_edge.models.controlled import control_tensors, controls_of

PARITY_BOUND = 1e-4
"""Of white. Float32 through some hundred layers, summed in another order, stays under a tenth of this on pictures."""

NOISE_SHARE = 1e-5
"""Of white: from here on a network's own float32 rounding counts as noise that may excuse a worst case."""

NOISE_MULTIPLE = 10.0
"""The graph may differ by so many times that noise: another order of summation, not another function."""

MOST_EXCUSED = 0.5
"""The share of the worst cases that may be excused."""


@dataclass(frozen=True)
class Difference:
    """How far two renderings of one patch are measured, for a peak of 1.0; infinite where one of them is not finite."""

    max_abs_error: float
    psnr_db: float


@dataclass(frozen=True)
class PatchParity:
    """The graph against PyTorch on one patch.

    `own_noise` is the largest difference between float32 and float64 in PyTorch. It is measured only where a worst case
    exceeds PARITY_BOUND, and None elsewhere; `noise_failure` says why it could not be measured.
    """

    patch: str
    kind: PatchKind
    difference: Difference
    own_noise: float | None = None
    noise_failure: str = ""

    @property
    def excused(self) -> bool:
        """Whether the network's own noise, and not the graph, explains a difference above PARITY_BOUND."""
        return self.own_noise is not None and self.own_noise > NOISE_SHARE

    @property
    def bound(self) -> float:
        """The largest difference allowed, as a share of white."""
        return NOISE_MULTIPLE * self.own_noise if self.own_noise is not None and self.excused else PARITY_BOUND

    @property
    def passed(self) -> bool:
        return self.difference.max_abs_error <= self.bound

    def __str__(self) -> str:
        noise = (
            ""
            if self.own_noise is None
            else (f", where PyTorch's float32 output differs from its float64 output by {self.own_noise:.2g}")
        )
        unknown = f", whose numerical noise could not be measured ({self.noise_failure})" if self.noise_failure else ""
        return f"{self.difference.max_abs_error:.3g} of white on {self.patch}{noise}{unknown}"


@dataclass(frozen=True)
class Parity:
    """The graph against PyTorch on all patches; `doubts` are what comparing patches cannot rule out."""

    patches: tuple[PatchParity, ...]
    doubts: tuple[str, ...] = ()

    @property
    def max_abs_error(self) -> float:
        """The largest difference on the patches that were not excused, as a share of white."""
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
        """The graph's difference and the network's own noise on patches that were excused, and the doubts."""
        excused = (f"the graph differs by {result}: excused as the network's own rounding" for result in self.excused)
        return (*excused, *self.doubts)

    def require_within(self, advice: str) -> None:
        """Raises ExportError, whose remedy is `advice`, unless every patch that counts is within its bound.

        The error's `found` is the largest difference on the patch that failed and `wanted` its bound, as shares of
        white, or the number of worst cases that would have to be excused and how many may be.
        """
        if not self.refusal:
            return
        failed = self._failed
        found = failed.difference.max_abs_error if failed else len(self.excused)
        wanted = failed.bound if failed else int(MOST_EXCUSED * len(self._worst_cases))
        raise ExportError(self.refusal, found=found, wanted=wanted, remedy=advice)

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
        """Why the graph is not taken for the network, or ""."""
        failed = self._failed
        if failed is not None:
            return (
                f"the ONNX graph differs from the PyTorch module by {failed} (allowed {failed.bound:.3g}, "
                f"PSNR {failed.difference.psnr_db:.1f} dB)"
            )
        if len(self.excused) > MOST_EXCUSED * len(self._worst_cases):
            return (
                f"the network is numerically unstable on {len(self.excused)} of {len(self._worst_cases)} worst cases, "
                f"which exceed the bound of {PARITY_BOUND:g} and of which at most half may be excused; for example the "
                f"graph differs by {self.excused[0]}"
            )
        return ""


def compare_with_torch(model: Path | onnx.ModelProto, module: nn.Module, patches: Sequence[CheckPatch]) -> Parity:
    """Runs every patch through ONNX Runtime and through `module`.

    A network with controls runs at their defaults and at their extremes (`checked_pairs`).

    Raises:
        ExportError: there are no patches, the two give different shapes, ONNX Runtime cannot run the graph, or the
            network takes decisions that no trace can carry (`sr_edge.export.checks.decisions`).
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
            "the exported graph has no input, so that its output does not depend on the picture: the network takes the "
            "picture out of torch, for example through NumPy or .data",
            found=0,
            wanted="one input for the picture",
            remedy="compute with torch tensors from the input to the output",
        )
    input_name, output_name = session.get_inputs()[0].name, session.get_outputs()[0].name
    controls, decisions = controls_of(module), PictureDecisions()
    compared = []
    for patch, setting in checked_pairs(patches, controls):
        x, scalars = torch.from_numpy(patch.batch), control_tensors(controls, setting)
        with torch.inference_mode(), decisions.recording(x, *scalars):
            expected = module(x, *scalars)
        actual = run_session(session, feed_of(input_name, patch.batch, setting))[output_name]
        compared.append(_compared(module, patch, setting, actual, expected.numpy()))
    decisions.try_others(module, patches[0].batch, control_tensors(controls))
    decisions.require_none()
    return Parity(tuple(compared), decisions.remarks)


def difference(actual: Tensor, expected: Tensor) -> Difference:
    """Compares two renderings of one patch; raises ExportError when their shapes differ."""
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
        exact = run_float64(module, patch.batch, setting)
    except Exception as error:  # whatever the network's own code raises in an arithmetic it was not written for
        return PatchParity(name, patch.kind, measured, noise_failure=f"{type(error).__name__} in float64")
    return PatchParity(name, patch.kind, measured, own_noise=_finite_noise(expected, exact))


def _finite_noise(expected: Tensor, exact: Tensor) -> float | None:
    """None where the network gives no finite numbers there: a NaN is no noise, and excuses nothing."""
    noise = difference(expected, exact).max_abs_error
    return noise if math.isfinite(noise) else None
