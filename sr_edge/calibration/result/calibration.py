"""The result of a calibration: the INT8 range of each layer's input, one decision per layer, and their provenance."""

from __future__ import annotations

import base64
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from sr_edge.calibration.data.patch import Float32Array
from sr_edge.calibration.graph.candidates import QuantizableOp
from sr_edge.calibration.graph.int8 import INT8_MAX, INT8_MIN, UINT8_MAX
from sr_edge.calibration.graph.placement import Decision, PlacementPolicy
from sr_edge.calibration.result.timings import Timings
from sr_edge.errors import UsageError


@dataclass(frozen=True)
class TensorRange:
    """How a tensor is quantized: each channel is divided by its smoothing factor, and levels saturate at `clip`.

    Attributes:
        lowest: The smallest value over the calibration patches, before smoothing.
        highest: The largest value over the calibration patches, before smoothing.
        clip: The magnitude at which INT8 saturates.
        smoothing: (channels,) The divisors of the channels; empty if there is no smoothing.
        alpha: The exponent of SmoothQuant that the divisors were computed with.
        observer: The name of the method that found `clip`.
        is_unsigned: The tensor is the input image, which is never negative; its levels are 0 to 255 instead of -128 to
            127, so that 8-bit images are represented exactly.
    """

    lowest: float
    highest: float
    clip: float
    smoothing: tuple[float, ...] = ()
    alpha: float = 0.0
    observer: str = ""
    is_unsigned: bool = False

    @property
    def scale(self) -> float:
        """The step between two levels: `clip / 127`, or `clip / 255` for an unsigned tensor."""
        return self.clip / (UINT8_MAX if self.is_unsigned else INT8_MAX)

    @property
    def smoothing_divisors(self) -> Float32Array | None:
        """(channels,) The divisors of the channels; None if there is no smoothing."""
        return np.asarray(self.smoothing, np.float32) if self.smoothing else None

    @property
    def centre(self) -> float:
        """The value that is subtracted from an unsigned tensor so that its levels fit signed INT8; 0.0 for others."""
        return -INT8_MIN * self.scale if self.is_unsigned else 0.0


@dataclass(frozen=True)
class Provenance:
    """The model file, patches and method that the ranges were measured with, and are valid for.

    Attributes:
        model_sha256: Digest of the float32 file.
        patches_sha256: Digest of each patch.
        method: Name of the calibration method.
    """

    model_sha256: str
    patches_sha256: tuple[str, ...]
    method: str


@dataclass(frozen=True)
class Sensitivity:
    """The noise power that each layer in INT8 alone adds to the output, by node, relative to the input range squared.

    `held_out_sha256` identifies the held-out patches and the conditions of the measurement.
    """

    held_out_sha256: str
    noise_power: Mapping[str, float]


@dataclass(frozen=True)
class TunedTensor:
    """The result of fine-tuning for one tensor and the layers that read it.

    Attributes:
        noise_before: The relative error of those layers on validation samples, before tuning.
        noise_after: The same after tuning.
        range: The tuned range; None if tuning did not lower the error.
        corrections: The tuned bias corrections, as in Calibration.
        weights: The tuned INT8 weights by node: base64 of their bytes, in the order of the float weight.
    """

    noise_before: float
    noise_after: float
    range: TensorRange | None = None
    corrections: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    weights: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Finetuning:
    """The tensors that were tuned, by name, including those on which tuning did not help."""

    steps: int
    tensors: Mapping[str, TunedTensor] = field(default_factory=dict)

    @property
    def kept(self) -> int:
        """The number of tensors on which tuning lowered the error."""
        return sum(tuned.range is not None for tuned in self.tensors.values())


@dataclass(frozen=True)
class Calibration:
    """All that is needed to write the INT8 graph without the pictures.

    Read `range_of`, `correction_of` and `tuned_weight`, in which the results of fine-tuning take precedence.

    Attributes:
        provenance: What the ranges were measured with.
        policy: The placement policy that the decisions follow.
        ranges: The ranges of the inputs of all quantizable layers, also of those kept float, so that the decisions can
            change without measuring again.
        decisions: One decision per layer.
        corrections: For each quantizable layer with a bias, (output channels,) what is added to the bias while the
            layer is INT8.
        sensitivity: The noise of each layer, where layers were selected within a budget.
        timings: The time that INT8 saves in each layer, likewise.
        finetuning: The results of fine-tuning, if there was any.
    """

    provenance: Provenance
    policy: PlacementPolicy
    ranges: Mapping[str, TensorRange]
    decisions: tuple[Decision, ...]
    corrections: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    sensitivity: Sensitivity | None = None
    timings: Timings | None = None
    finetuning: Finetuning | None = None

    def __repr__(self) -> str:
        int8 = sum(decision.int8 for decision in self.decisions)
        layers = f"{int8} of {len(self.decisions)} layers in INT8"
        return f"<Calibration by {self.provenance.method} on {len(self.provenance.patches_sha256)} patches, {layers}>"

    def range_of(self, tensor: str) -> TensorRange:
        """The range of a tensor that a quantizable layer reads."""
        tuned = self._tuned(tensor)
        return self.ranges[tensor] if tuned is None or tuned.range is None else tuned.range

    def correction_of(self, op: QuantizableOp) -> tuple[float, ...] | None:
        """What is added to the bias of the layer while it is INT8; None if the bias cannot be corrected."""
        tuned = self._tuned(op.activation)
        return (self.corrections if tuned is None or tuned.range is None else tuned.corrections).get(op.node)

    def tuned_weight(self, op: QuantizableOp, shape: tuple[int, ...]) -> npt.NDArray[np.int8] | None:
        """The fine-tuned INT8 weight in that shape; None if the nearest levels are used."""
        tuned = self._tuned(op.activation)
        text = tuned.weights.get(op.node) if tuned is not None else None
        return None if text is None else np.frombuffer(base64.b64decode(text), np.int8).reshape(shape)

    def _tuned(self, tensor: str) -> TunedTensor | None:
        return self.finetuning.tensors.get(tensor) if self.finetuning is not None else None

    @property
    def int8_nodes(self) -> tuple[str, ...]:
        """The names of the INT8 layers."""
        return tuple(decision.node for decision in self.decisions if decision.int8)

    def keep_float(self, nodes: Collection[str], reason: str) -> Calibration:
        """The same calibration with these INT8 layers kept float; raises UsageError for any other name."""
        unknown = tuple(sorted(set(nodes) - set(self.int8_nodes)))
        if unknown:
            raise UsageError(
                f"cannot keep layers float: no INT8 layer is named {' or '.join(unknown)}",
                found=unknown,
                wanted=self.int8_nodes,
                remedy="choose from the calibration's int8_nodes",
            )
        decisions = tuple(replace(d, int8=False, reason=reason) if d.node in nodes else d for d in self.decisions)
        return replace(self, decisions=decisions)
