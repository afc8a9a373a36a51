"""Compares an ONNX graph in ONNX Runtime with the network that it was made from, patch by patch.

The network is a PyTorch module or the ONNX file of a user (`sr_edge.export.checks.references`).

All differences are relative to the output range, whose maximum is 1.0.

Two correct implementations of one network differ by rounding, and some networks amplify rounding: on binary noise their
activations reach 1e3, and PyTorch's float32 output differs from its float64 output by more than any bound for images.
Therefore a worst-case patch on which the graph differs by more than PARITY_BOUND is excused if the network itself is
numerically unstable there, that is, if float32 and float64 in PyTorch (for a file: two evaluations in float32) differ
by more than NOISE_THRESHOLD; the graph may then differ by NOISE_FACTOR times that. Photographs and flat images are
never excused, nor is a network that needs more than MAX_EXCUSED_SHARE of its worst cases excused.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
from torch import nn

from sr_edge.controls import checked_pairs
from sr_edge.errors import ExportError, NotDeployable
from sr_edge.export.checks.references.file_reference import FileReference
from sr_edge.export.checks.references.reference import Reference
from sr_edge.export.checks.references.torch_reference import TorchReference
from sr_edge.export.graph.file_network import FileNetwork
from sr_edge.export.graph.inputs import Tensor, feed_of
from sr_edge.export.graph.onnxruntime_run import open_onnxruntime, run_session
from sr_edge.export.graph.patches import CheckPatch, PatchKind

PARITY_BOUND = 1e-4
"""Largest difference allowed. Float32 through a hundred layers, summed in another order, stays below a tenth of it."""

NOISE_THRESHOLD = 1e-5
"""From this difference on, the float32 rounding of a network may excuse a worst case."""

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
    """The comparison of the graph with the network on one patch.

    Attributes:
        float32_noise: the largest change of the network's own output by rounding; measured only where a worst case
            exceeds PARITY_BOUND, otherwise None.
        noise_failure: why the noise could not be measured.
        rounding: how the noise was measured, as in `Reference`.
    """

    patch: str
    kind: PatchKind
    difference: Difference
    float32_noise: float | None = None
    noise_failure: str = ""
    rounding: str = TorchReference.rounding

    @property
    def excused(self) -> bool:
        """Whether the rounding of the network itself explains a difference above PARITY_BOUND."""
        return self.float32_noise is not None and self.float32_noise > NOISE_THRESHOLD

    @property
    def bound(self) -> float:
        """The largest difference allowed."""
        return NOISE_FACTOR * self.float32_noise if self.float32_noise is not None and self.excused else PARITY_BOUND

    @property
    def passed(self) -> bool:
        return self.difference.max_abs_error <= self.bound

    def __str__(self) -> str:
        noise = "" if self.float32_noise is None else f", where {self.rounding} {self.float32_noise:.2g}"
        unknown = f", whose numerical noise could not be measured ({self.noise_failure})" if self.noise_failure else ""
        return f"{self.difference.max_abs_error:.3g} (peak 1.0) on {self.patch}{noise}{unknown}"


@dataclass(frozen=True)
class Parity:
    """The comparison of the graph with the network on all patches.

    Attributes:
        patches: the comparison for each patch.
        caveats: differences that comparing patches cannot exclude.
        reference: what the graph was compared with, "the PyTorch module" or the name of a file.
    """

    patches: tuple[PatchParity, ...]
    caveats: tuple[str, ...] = ()
    reference: str = TorchReference.name

    @property
    def max_abs_error(self) -> float:
        """The largest difference on the patches that were not excused."""
        return max((result.difference.max_abs_error for result in self._counted), default=0.0)

    @property
    def psnr_db(self) -> float:
        """The PSNR of the worst patch that was not excused."""
        return min((result.difference.psnr_db for result in self._counted), default=math.inf)

    @property
    def sentence(self) -> str:
        """What was compared, and the largest difference, for a person."""
        level = f"{self.psnr_db:.1f} dB" if math.isfinite(self.psnr_db) else "equal"
        return f"fp32 graph against {self.reference}: largest error {self.max_abs_error:.2g}, {level}"

    @property
    def excused(self) -> tuple[PatchParity, ...]:
        """The patches with a difference that the rounding of the network itself explains."""
        return tuple(result for result in self.patches if result.excused)

    @property
    def passed(self) -> bool:
        """Whether the graph computes what the network computes."""
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
                f"the ONNX graph differs from {self.reference} by {failed} (allowed {failed.bound:.3g}, "
                f"PSNR {failed.difference.psnr_db:.1f} dB)"
            )
        if len(self.excused) > MAX_EXCUSED_SHARE * len(self._worst_cases):
            return (
                f"the network is numerically unstable on {len(self.excused)} of {len(self._worst_cases)} worst cases, "
                f"which exceed the bound of {PARITY_BOUND:g} and of which at most half may be excused; for example the "
                f"graph differs by {self.excused[0]}"
            )
        return ""


def compare_with_network(model: Path | onnx.ModelProto, network: nn.Module, patches: Sequence[CheckPatch]) -> Parity:
    """Runs every patch through a graph in ONNX Runtime and through `network`, and compares the outputs.

    A network with controls runs at their default values and at their extremes (`checked_pairs`).

    Args:
        model: the graph.
        network: a PyTorch network, or the `FileNetwork` of an ONNX file.
        patches: the images.

    Raises:
        NotDeployable: the graph has no input, or the network has data-dependent control flow
            (`sr_edge.export.checks.references.decisions`).
        ExportError: there are no patches, the outputs have different shapes, or ONNX Runtime cannot run the graph.
    """
    reference = _reference(network)
    if not patches:
        raise ExportError(
            f"the graph cannot be compared with {reference.name} without a patch",
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
    compared = []
    rounded = [_rounded(patch, reference.input_step) for patch in patches]
    for patch, setting in checked_pairs(rounded, reference.controls):
        expected = reference.run(patch.batch, setting)
        actual = run_session(session, feed_of(input_name, patch.batch, setting))[output_name]
        compared.append(_compared(reference, patch, setting, actual, expected))
    return Parity(tuple(compared), reference.caveats(patches[0].batch), reference.name)


def _rounded(patch: CheckPatch, step: float) -> CheckPatch:
    """The patch with its values rounded to multiples of `step`, for a network that takes no others; 0 leaves them."""
    batch = np.asarray(np.rint(patch.batch / step) * step, np.float32) if step else patch.batch
    return replace(patch, batch=batch)


def _reference(network: nn.Module) -> Reference:
    if isinstance(network, FileNetwork):
        return FileReference(network.file, network.controls)
    return TorchReference(network)


def difference(actual: Tensor, expected: Tensor, step: float = 0.0) -> Difference:
    """Compares two outputs for one patch.

    Args:
        actual: the output of the graph.
        expected: the output of the network.
        step: the distance of neighbouring values of rounded outputs, or 0. Equal networks then differ by a whole step
            wherever rounding errors move a value over a boundary. The mean difference is what the outputs differed by
            before they were rounded, so it takes the place of the largest one, unless that is more than one step.

    Raises:
        ExportError: their shapes differ.
    """
    if actual.shape != expected.shape:
        raise ExportError(
            f"the graph gives an output of shape {actual.shape} where the network gives {expected.shape}, so that the "
            "export is wrong",
            found=actual.shape,
            wanted=expected.shape,
        )
    if not (np.isfinite(actual).all() and np.isfinite(expected).all()):
        return Difference(math.inf, -math.inf)
    errors = actual.astype(np.float64) - expected.astype(np.float64)
    square = float(np.mean(np.square(errors)))
    largest = float(np.abs(errors).max())
    if 0.0 < largest < 1.5 * step:
        largest = float(np.abs(errors).mean())
    return Difference(largest, math.inf if square == 0.0 else -10.0 * math.log10(square))


def _compared(
    reference: Reference, patch: CheckPatch, setting: Mapping[str, float], actual: Tensor, expected: Tensor
) -> PatchParity:
    measured = difference(actual, expected, reference.output_step)
    name = (
        f"{patch.name} at {', '.join(f'{key}={value:g}' for key, value in setting.items())}" if setting else patch.name
    )
    if patch.kind is not PatchKind.WORST_CASE or measured.max_abs_error <= PARITY_BOUND:
        return PatchParity(name, patch.kind, measured)
    try:
        again = reference.run_again(patch.batch, setting)
    except Exception as error:  # whatever the network's own code raises in an arithmetic it was not written for
        return PatchParity(name, patch.kind, measured, noise_failure=type(error).__name__)
    return PatchParity(
        name, patch.kind, measured, float32_noise=_noise(reference, expected, again), rounding=reference.rounding
    )


def _noise(reference: Reference, expected: Tensor, again: Tensor) -> float | None:
    """The noise; None if the network gives NaN or infinity, which is no rounding and excuses nothing."""
    noise = difference(expected, again, reference.output_step).max_abs_error
    return noise if math.isfinite(noise) else None
