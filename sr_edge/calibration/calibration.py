"""What calibration found: how each layer's input becomes INT8, one decision per layer, and what they were made from."""

from __future__ import annotations

import base64
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from sr_edge.calibration.int8 import INT8_MAX, INT8_MIN, UINT8_MAX
from sr_edge.calibration.patch import Float32Array
from sr_edge.calibration.placement import Decision, PlacementPolicy
from sr_edge.calibration.sites import QuantizableOp
from sr_edge.calibration.timings import Timings
from sr_edge.errors import UsageError


@dataclass(frozen=True)
class TensorRange:
    """How a tensor becomes INT8: each channel is divided by its `smoothing`, then INT8 saturates at `clip`.

    `lowest` and `highest` are the values seen over the calibration patches, before smoothing. `smoothing` is empty
    where all channels are taken as they are; `alpha` is the share of the outliers that it moves into the weights.
    `observer` says how the clip was found. `is_unsigned`: the tensor is a picture, never negative, and its INT8 levels
    run from 0 to 255 instead of -128 to 127, so that pictures of 8 bits are taken as they are.
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
        """What one INT8 level stands for: `clip / 127`, of an unsigned tensor `clip / 255`."""
        return self.clip / (UINT8_MAX if self.is_unsigned else INT8_MAX)

    @property
    def smoothing_divisors(self) -> Float32Array | None:
        """(channels,) What the channels of the tensor are divided by before INT8; None where there is no smoothing."""
        return np.asarray(self.smoothing, np.float32) if self.smoothing else None

    @property
    def centre(self) -> float:
        """What is subtracted from the tensor so that its levels are signed ones."""
        return -INT8_MIN * self.scale if self.is_unsigned else 0.0


@dataclass(frozen=True)
class Provenance:
    """What the ranges were measured on: they hold for this model file, these patches and this method only."""

    model_sha256: str
    patches_sha256: tuple[str, ...]
    method: str


@dataclass(frozen=True)
class Sensitivity:
    """The noise that each layer makes alone, on these held-out patches: by node, output units squared."""

    held_out_sha256: str
    noise_power: Mapping[str, float]


@dataclass(frozen=True)
class TunedTensor:
    """What fine-tuning found for one tensor and the layers that read it.

    `noise_before` and `noise_after` are the readers' relative errors on columns that the tuning has not seen. Only
    where it helped there are a `range`, `corrections` as in Calibration, and the INT8 `weights` of the readers: base64
    of their bytes in the order of the float weight.
    """

    noise_before: float
    noise_after: float
    range: TensorRange | None = None
    corrections: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    weights: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Finetuning:
    """Tuned tensors by name, also those where it did not help."""

    steps: int
    tensors: Mapping[str, TunedTensor] = field(default_factory=dict)

    @property
    def kept(self) -> int:
        """In how many of the tensors it helped."""
        return sum(tuned.range is not None for tuned in self.tensors.values())


@dataclass(frozen=True)
class Calibration:
    """Enough to write the INT8 graph without the pictures.

    `ranges` holds the input of every layer that can be INT8, also of those kept float, so that layers can be switched
    without measuring again; `corrections`, for each such layer that has a bias, what is added to it while the layer is
    INT8, per output channel. `sensitivity` and `timings` are what the layers were chosen by, where a budget was to be
    met. What `finetuning` found goes before `ranges`, `corrections` and the nearest INT8 weights: read `range_of`,
    `correction_of` and `tuned_weight`.
    """

    provenance: Provenance
    policy: PlacementPolicy
    ranges: Mapping[str, TensorRange]
    decisions: tuple[Decision, ...]
    corrections: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    sensitivity: Sensitivity | None = None
    timings: Timings | None = None
    finetuning: Finetuning | None = None

    def range_of(self, tensor: str) -> TensorRange:
        """How that input of a layer becomes INT8."""
        tuned = self._tuned(tensor)
        return self.ranges[tensor] if tuned is None or tuned.range is None else tuned.range

    def correction_of(self, op: QuantizableOp) -> tuple[float, ...] | None:
        """What is added to the layer's bias while it is INT8; None where it cannot be corrected."""
        tuned = self._tuned(op.activation)
        return (self.corrections if tuned is None or tuned.range is None else tuned.corrections).get(op.node)

    def tuned_weight(self, op: QuantizableOp, shape: tuple[int, ...]) -> npt.NDArray[np.int8] | None:
        """The fine-tuned INT8 weight of that shape; None where the nearest values are taken."""
        tuned = self._tuned(op.activation)
        text = tuned.weights.get(op.node) if tuned is not None else None
        return None if text is None else np.frombuffer(base64.b64decode(text), np.int8).reshape(shape)

    def _tuned(self, tensor: str) -> TunedTensor | None:
        return self.finetuning.tensors.get(tensor) if self.finetuning is not None else None

    @property
    def int8_nodes(self) -> tuple[str, ...]:
        return tuple(decision.node for decision in self.decisions if decision.int8)

    def keep_float(self, nodes: Collection[str], reason: str) -> Calibration:
        """The same calibration with these INT8 layers switched to float; raises UsageError for any other name."""
        strange = tuple(sorted(set(nodes) - set(self.int8_nodes)))
        if strange:
            raise UsageError(
                f"cannot switch layers to float: no INT8 layer is named {' or '.join(strange)}",
                found=strange,
                wanted=self.int8_nodes,
                remedy="choose from the calibration's int8_nodes",
            )
        decisions = tuple(replace(d, int8=False, reason=reason) if d.node in nodes else d for d in self.decisions)
        return replace(self, decisions=decisions)
