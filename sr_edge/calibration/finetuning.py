"""Fine-tuning: the clip of each tensor, the rounding and the bias of each layer, so that it follows the float layer.

The float network is the teacher, layer by layer: on the same inputs the INT8 layer is to put out what the float one
does. What is found on most of the patches is kept only where it helps on the others. The inputs are those of the float
network: given the inputs that INT8 layers before it make, every layer learns to undo the same error, and together they
undo it many times over (3.2 dB lost instead of 0.3 in one network).
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import onnx

from sr_edge.calibration.calibration import Calibration, Finetuning, TensorRange, TunedTensor
from sr_edge.calibration.collect import OBSERVED_BYTES, passes_over
from sr_edge.calibration.columns import Layer, quantizable_layers
from sr_edge.calibration.coordinates import QuadraticError, coordinate_descent
from sr_edge.calibration.int8 import along_axis, quantize_weight
from sr_edge.calibration.patch import Batch, Float32Array, StepProgress
from sr_edge.calibration.search import LayerSamples, int8_values
from sr_edge.calibration.watched import Feeds, InstrumentedGraph
from sr_edge.controls import checked_pairs
from sr_edge.errors import CalibrationError

SAMPLES = 4096
"""Output positions of each layer over all patches, four times those of the search: here weights are fitted."""

VALIDATION_SHARE = 4
"""One patch in so many is kept from the tuning, to check it."""

MIN_PATCHES = 2

SEED = 1
"""Other places than those that the search sees."""

CLIPS = (1.0, 0.9, 1.1, 0.8, 1.25)
"""Shares of the clip that the search found."""


@dataclass(frozen=True)
class _Fit:
    """One layer at one range: its INT8 weight, and the correction of its bias where it has one."""

    weight: npt.NDArray[np.int8]
    correction: tuple[float, ...] | None


def finetune(
    model: onnx.ModelProto,
    calibration: Calibration,
    batches: Sequence[Batch],
    steps: int,
    progress: StepProgress = lambda done, total: None,
    save: Callable[[Calibration], None] = lambda calibration: None,
    *,
    samples: int = SAMPLES,
    observed_bytes: int = OBSERVED_BYTES,
) -> Calibration:
    """The calibration with fine-tuned tensors; those that it holds already for as many steps stay as they are.

    Args:
        model: the float graph.
        calibration: of that graph and these patches.
        batches: calibration patches, in the range of the graph's input.
        steps: sweeps over the weights of each layer.
        progress: called with (steps done, steps in all).
        save: called with what is found so far, so that an interrupted run can go on.
        samples: output positions of each layer over all patches, to tune and to check on.
        observed_bytes: memory for the tensors that are observed in one pass over the patches.

    Raises:
        CalibrationError: there is one patch only, and none to check on.
    """
    require_enough(len(batches))
    known = calibration.finetuning
    done = dict(known.tensors) if known is not None and known.steps == steps else {}
    layers = {name: layer for name, layer in quantizable_layers(model).items() if _has_range(layer, calibration)}
    readers: dict[str, list[Layer]] = {}
    for layer in layers.values():
        readers.setdefault(layer.op.activation, []).append(layer)
    missing = {tensor: found for tensor, found in readers.items() if tensor not in done}
    plain = replace(calibration, finetuning=None)
    passes = list(passes_over(model, missing, batches[0].shape, samples, observed_bytes))
    for tensor, tuned in _tuned_tensors(model, plain, missing, passes, batches, steps, samples, progress):
        done[tensor] = tuned
        save(replace(calibration, finetuning=Finetuning(steps, dict(done))))
    return replace(calibration, finetuning=Finetuning(steps, done))


def require_enough(patches: int) -> None:
    """Raises CalibrationError where so few patches cannot teach and check."""
    if patches < MIN_PATCHES:
        raise CalibrationError(
            f"fine-tuning needs at least {MIN_PATCHES} calibration patches, some to tune on and others to check the "
            f"result, but there {'is' if patches == 1 else 'are'} {patches}",
            found=patches,
            wanted=MIN_PATCHES,
            remedy="use more patches",
        )


def _has_range(layer: Layer, calibration: Calibration) -> bool:
    """A tensor that was zero on every patch has no clip to tune."""
    found = calibration.ranges.get(layer.op.activation)
    return found is not None and found.clip > 0.0


def _tuned_tensors(
    model: onnx.ModelProto,
    plain: Calibration,
    readers: Mapping[str, Sequence[Layer]],
    passes: Sequence[Sequence[str]],
    batches: Sequence[Batch],
    steps: int,
    samples: int,
    progress: StepProgress,
) -> Iterator[tuple[str, TunedTensor]]:
    runs = checked_pairs(list(enumerate(batches)), Feeds(model).controls)
    done, total = 0, len(passes) * len(runs) + len(readers)
    for names in passes:
        graph = InstrumentedGraph(model, names)
        tuners = [_WeightTuner(name, readers[name], -(-samples // len(runs))) for name in names]
        for (index, batch), setting in runs:
            for tuner, values in zip(tuners, graph.run(batch, setting), strict=True):
                tuner.observe(values, checking=index % VALIDATION_SHARE == 1)
            progress(done := done + 1, total)
        for tuner in tuners:
            yield tuner.name, tuner.learn(plain, steps)
            progress(done := done + 1, total)


class _WeightTuner:
    """Samples of one tensor, for each of its readers."""

    def __init__(self, name: str, readers: Sequence[Layer], samples_per_run: int) -> None:
        self.name = name
        self._readers = readers
        self._samples_per_run = samples_per_run
        self._generator = np.random.default_rng((zlib.crc32(name.encode()), SEED))
        self._taught: list[list[Float32Array]] = [[] for _ in readers]
        self._checked: list[list[Float32Array]] = [[] for _ in readers]

    def observe(self, values: Float32Array, checking: bool) -> None:
        kept = self._checked if checking else self._taught
        for unfolded, reader in zip(kept, self._readers, strict=True):
            unfolded.append(reader.sample(values, self._samples_per_run, self._generator))

    def learn(self, plain: Calibration, steps: int) -> TunedTensor:
        taught, checked = (
            [
                LayerSamples.of(reader, np.concatenate(parts, axis=1))
                for reader, parts in zip(self._readers, kept, strict=True)
            ]
            for kept in (self._taught, self._checked)
        )
        self._taught, self._checked = [], []
        corrections = [plain.correction_of(reader.op) for reader in self._readers]
        return tune_tensor(plain.range_of(self.name), corrections, taught, checked, steps)


def tune_tensor(
    found: TensorRange,
    corrections: Sequence[tuple[float, ...] | None],
    taught: Sequence[LayerSamples],
    checked: Sequence[LayerSamples],
    steps: int,
) -> TunedTensor:
    """The best of CLIPS with weights and biases fitted to it, if it is better than what the search found.

    Args:
        found: the range of the tensor that the search found.
        corrections: what the search adds to the bias of each reader.
        taught: columns of every reader, to tune on.
        checked: others, of other patches, to compare on.
        steps: sweeps over the weights.
    """
    nearest = [_nearest(each.layer, found.smoothing_divisors)[0] for each in taught]
    plain = [_Fit(weight, given) for weight, given in zip(nearest, corrections, strict=True)]
    before = _noise(found, plain, checked)
    ranges = [replace(found, clip=share * found.clip, observer=f"{found.observer}, tuned") for share in CLIPS]
    best = min(ranges, key=lambda candidate: _noise(candidate, plain, taught))
    fits = [_fitted(each, best, steps) for each in taught]
    after = _noise(best, fits, checked)
    if after >= before:
        return TunedTensor(before, after)
    named = [(each.layer.op.node, fit) for each, fit in zip(taught, fits, strict=True)]
    weights = {node: base64.b64encode(fit.weight.tobytes()).decode() for node, fit in named}
    fitted = {node: fit.correction for node, fit in named if fit.correction is not None}
    return TunedTensor(before, after, best, fitted, weights)


def _nearest(layer: Layer, smoothing: Float32Array | None) -> tuple[npt.NDArray[np.int8], Float32Array]:
    """The nearest INT8 weight, and its scales shaped to broadcast with it."""
    weight = layer.weight if smoothing is None else layer.smoothed(layer.weight, smoothing)
    levels, scales = quantize_weight(weight, layer.op.channel_axis)
    return levels, along_axis(scales, layer.op.channel_axis, weight.ndim)


def _rounded_input(sampled: LayerSamples, found: TensorRange) -> Float32Array:
    smoothing = found.smoothing_divisors
    unfolded = sampled.unfolded if smoothing is None else sampled.smoothed_input(smoothing)
    return int8_values(unfolded, found)


def _fitted(sampled: LayerSamples, found: TensorRange, steps: int) -> _Fit:
    layer, smoothing = sampled.layer, found.smoothing_divisors
    nearest, scales = _nearest(layer, smoothing)
    target = layer.matrix(layer.weight if smoothing is None else layer.smoothed(layer.weight, smoothing))
    start, steps_of = layer.matrix(nearest.astype(np.float32)), layer.matrix(np.broadcast_to(scales, nearest.shape))
    inputs, wanted = _rounded_input(sampled, found), sampled.output
    if layer.is_correctable:
        inputs = inputs - inputs.mean(axis=1, keepdims=True)
        wanted = wanted - wanted.mean(axis=1, keepdims=True)
    levels = np.stack(
        [
            coordinate_descent(
                QuadraticError.of(inputs[group], wanted[group], target[group]), start[group], steps_of[group, 0], steps
            )
            for group in range(len(inputs))
        ]
    )
    weight = _weight_of(layer, levels)
    error = _error(sampled, found, _Fit(weight, None))
    correction = tuple(-float(value) for value in error.mean(axis=1, dtype=np.float64).ravel())
    return _Fit(weight, correction if layer.is_correctable else None)


def _weight_of(layer: Layer, levels: Float32Array) -> npt.NDArray[np.int8]:
    """The weight of which `levels` is the matrix."""
    places = np.arange(layer.weight.size, dtype=np.float64).reshape(layer.weight.shape)
    weight = np.empty(layer.weight.size, np.int8)
    weight[layer.matrix(places).astype(np.intp)] = levels.astype(np.int8)  # type: ignore[arg-type]
    return weight.reshape(layer.weight.shape)


def _error(sampled: LayerSamples, found: TensorRange, fit: _Fit) -> Float32Array:
    """(groups, samples, outputs of a group): what the layer puts out in INT8, less what is wanted."""
    layer = sampled.layer
    scales = _nearest(layer, found.smoothing_divisors)[1]
    error: Float32Array = np.matmul(_rounded_input(sampled, found), layer.matrix(fit.weight * scales)) - sampled.output
    if fit.correction is not None:
        error += np.asarray(fit.correction, np.float32).reshape(len(error), 1, -1)
    return error


def _noise(found: TensorRange, fits: Sequence[_Fit], sampled: Sequence[LayerSamples]) -> float:
    """Power of the errors over that of the outputs, summed over the readers."""
    return sum(
        float(np.mean(np.square(_error(each, found, fit)), dtype=np.float64))
        / max(float(np.mean(np.square(each.output), dtype=np.float64)), 1e-30)
        for each, fit in zip(sampled, fits, strict=True)
    )
