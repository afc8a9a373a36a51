"""Fine-tuning: fits the clip of each tensor, and the rounding and bias of each layer, to the output of the float layer.

Every INT8 layer is fitted by itself: for the inputs of the float network it should give the output of the float layer.
    The result of tuning on most of the patches is kept only where it lowers the error on the remaining ones. The inputs
    are those of the float network, because with the inputs that the preceding INT8 layers produce every layer learns to
    compensate for the same error, and together they overcompensate (a loss of 3.2 dB instead of 0.3 dB in one network).
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import onnx

from sr_edge.calibration.data.patch import Float32Array, StepProgress
from sr_edge.calibration.graph.im2col import Layer, quantizable_layers
from sr_edge.calibration.graph.int8 import along_axis, quantize_weight
from sr_edge.calibration.graph.probe import Feeds, InstrumentedGraph
from sr_edge.calibration.ranges.collect import OBSERVED_BYTES, passes_over
from sr_edge.calibration.ranges.comq import QuadraticError, coordinate_descent
from sr_edge.calibration.ranges.search import LayerSamples, int8_values
from sr_edge.calibration.result.calibration import Calibration, Finetuning, TensorRange, TunedTensor
from sr_edge.controls import checked_pairs
from sr_edge.errors import CalibrationError
from sr_edge.frames import Batch

SAMPLES = 4096
"""The number of output positions of each layer over all patches; four times that of the search, to fit weights."""

VALIDATION_SHARE = 4
"""One patch of this many is used for validation instead of tuning."""

MIN_PATCHES = 2

SEED = 1
"""Samples other positions than the search."""

CLIPS = (1.0, 0.9, 1.1, 0.8, 1.25)
"""The clips that are tried, as multiples of the clip from the search."""


@dataclass(frozen=True)
class _Fit:
    """One layer at one range: its INT8 weight, and the bias correction if its bias can be corrected."""

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
    """Fine-tunes all tensors that the calibration does not contain results for with the same number of steps.

    Args:
        model: The float graph.
        calibration: The calibration of that graph with these patches.
        batches: Calibration patches, in the input range of the graph.
        steps: The number of sweeps over the weights of each layer.
        progress: Called with (steps done, steps in all).
        save: Called with the calibration so far, so that an interrupted run can be continued.
        samples: The number of output positions of each layer over all patches, for tuning and validation.
        observed_bytes: Memory for the tensors that are observed in one pass over the patches.

    Raises:
        CalibrationError: There is only one patch, and none for validation.
    """
    require_enough(len(batches))
    cached = calibration.finetuning
    done = dict(cached.tensors) if cached is not None and cached.steps == steps else {}
    layers = {name: layer for name, layer in quantizable_layers(model).items() if _has_range(layer, calibration)}
    readers: dict[str, list[Layer]] = {}
    for layer in layers.values():
        readers.setdefault(layer.op.activation, []).append(layer)
    missing = {tensor: readers[tensor] for tensor in readers if tensor not in done}
    untuned = replace(calibration, finetuning=None)
    passes = list(passes_over(model, missing, batches[0].shape, samples, observed_bytes))
    for tensor, tuned in _tuned_tensors(model, untuned, missing, passes, batches, steps, samples, progress):
        done[tensor] = tuned
        save(replace(calibration, finetuning=Finetuning(steps, dict(done))))
    return replace(calibration, finetuning=Finetuning(steps, done))


def require_enough(patches: int) -> None:
    """Raises CalibrationError if there are too few patches for tuning and validation."""
    if patches < MIN_PATCHES:
        raise CalibrationError(
            f"fine-tuning needs at least {MIN_PATCHES} calibration patches, some to tune on and others to check the "
            f"result, but there {'is' if patches == 1 else 'are'} {patches}",
            found=patches,
            wanted=MIN_PATCHES,
            remedy="use more patches",
        )


def _has_range(layer: Layer, calibration: Calibration) -> bool:
    """Whether there is a clip to tune; a tensor that was zero on every patch has none."""
    tensor_range = calibration.ranges.get(layer.op.activation)
    return tensor_range is not None and tensor_range.clip > 0.0


def _tuned_tensors(
    model: onnx.ModelProto,
    untuned: Calibration,
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
                tuner.observe(values, is_validation=index % VALIDATION_SHARE == 1)
            progress(done := done + 1, total)
        for tuner in tuners:
            yield tuner.name, tuner.tune(untuned, steps)
            progress(done := done + 1, total)


class _WeightTuner:
    """Samples of one tensor for each layer that reads it, from which the weights of those layers are tuned."""

    def __init__(self, name: str, readers: Sequence[Layer], samples_per_run: int) -> None:
        self.name = name
        self._readers = readers
        self._samples_per_run = samples_per_run
        self._generator = np.random.default_rng((zlib.crc32(name.encode()), SEED))
        self._tuning: list[list[Float32Array]] = [[] for _ in readers]
        self._validation: list[list[Float32Array]] = [[] for _ in readers]

    def observe(self, values: Float32Array, is_validation: bool) -> None:
        samples = self._validation if is_validation else self._tuning
        for unfolded, reader in zip(samples, self._readers, strict=True):
            unfolded.append(reader.sample(values, self._samples_per_run, self._generator))

    def tune(self, untuned: Calibration, steps: int) -> TunedTensor:
        tuning, validation = (
            [
                LayerSamples.of(reader, np.concatenate(parts, axis=1))
                for reader, parts in zip(self._readers, samples, strict=True)
            ]
            for samples in (self._tuning, self._validation)
        )
        self._tuning, self._validation = [], []
        corrections = [untuned.correction_of(reader.op) for reader in self._readers]
        return tune_tensor(untuned.range_of(self.name), corrections, tuning, validation, steps)


def tune_tensor(
    searched: TensorRange,
    corrections: Sequence[tuple[float, ...] | None],
    tuning: Sequence[LayerSamples],
    validation: Sequence[LayerSamples],
    steps: int,
) -> TunedTensor:
    """Chooses the best of CLIPS and fits weights and biases to it; kept only if the error on `validation` is lower.

    Args:
        searched: The range of the tensor from the search.
        corrections: The bias corrections of the readers from the search.
        tuning: Samples of every reader, to tune on.
        validation: Samples of every reader from other patches, to compare on.
        steps: The number of sweeps over the weights.
    """
    nearest = [_nearest(each.layer, searched.smoothing_divisors)[0] for each in tuning]
    untuned = [_Fit(weight, correction) for weight, correction in zip(nearest, corrections, strict=True)]
    before = _noise(searched, untuned, validation)
    ranges = [replace(searched, clip=share * searched.clip, observer=f"{searched.observer}, tuned") for share in CLIPS]
    best = min(ranges, key=lambda candidate: _noise(candidate, untuned, tuning))
    fits = [_fitted(each, best, steps) for each in tuning]
    after = _noise(best, fits, validation)
    if after >= before:
        return TunedTensor(before, after)
    named = [(each.layer.op.node, fit) for each, fit in zip(tuning, fits, strict=True)]
    weights = {node: base64.b64encode(fit.weight.tobytes()).decode() for node, fit in named}
    fitted = {node: fit.correction for node, fit in named if fit.correction is not None}
    return TunedTensor(before, after, best, fitted, weights)


def _nearest(layer: Layer, smoothing: Float32Array | None) -> tuple[npt.NDArray[np.int8], Float32Array]:
    """The nearest INT8 levels of a layer's weight, and its scales, shaped to broadcast with the weight."""
    weight = layer.weight if smoothing is None else layer.smoothed(layer.weight, smoothing)
    levels, scales = quantize_weight(weight, layer.op.channel_axis)
    return levels, along_axis(scales, layer.op.channel_axis, weight.ndim)


def _rounded_input(sampled: LayerSamples, tensor_range: TensorRange) -> Float32Array:
    smoothing = tensor_range.smoothing_divisors
    unfolded = sampled.unfolded if smoothing is None else sampled.smoothed_input(smoothing)
    return int8_values(unfolded, tensor_range)


def _fitted(sampled: LayerSamples, tensor_range: TensorRange, steps: int) -> _Fit:
    layer, smoothing = sampled.layer, tensor_range.smoothing_divisors
    nearest, scales = _nearest(layer, smoothing)
    weight = layer.matrix(layer.weight if smoothing is None else layer.smoothed(layer.weight, smoothing))
    start, scale = layer.matrix(nearest.astype(np.float32)), layer.matrix(np.broadcast_to(scales, nearest.shape))
    inputs, outputs = _rounded_input(sampled, tensor_range), sampled.output
    if layer.is_correctable:
        inputs = inputs - inputs.mean(axis=1, keepdims=True)
        outputs = outputs - outputs.mean(axis=1, keepdims=True)
    levels = np.stack(
        [
            coordinate_descent(
                QuadraticError.of(inputs[group], outputs[group], weight[group]), start[group], scale[group, 0], steps
            )
            for group in range(len(inputs))
        ]
    )
    int8_weight = _weight_of(layer, levels)
    error = _error(sampled, tensor_range, _Fit(int8_weight, None))
    correction = tuple(-float(value) for value in error.mean(axis=1, dtype=np.float64).ravel())
    return _Fit(int8_weight, correction if layer.is_correctable else None)


def _weight_of(layer: Layer, levels: Float32Array) -> npt.NDArray[np.int8]:
    """The weight whose `Layer.matrix` is `levels`."""
    positions = np.arange(layer.weight.size, dtype=np.float64).reshape(layer.weight.shape)
    weight = np.empty(layer.weight.size, np.int8)
    weight[layer.matrix(positions).astype(np.intp)] = levels.astype(np.int8)  # type: ignore[arg-type]
    return weight.reshape(layer.weight.shape)


def _error(sampled: LayerSamples, tensor_range: TensorRange, fit: _Fit) -> Float32Array:
    """(groups, samples, outputs per group) The output of the layer in INT8 minus its float output."""
    layer = sampled.layer
    scales = _nearest(layer, tensor_range.smoothing_divisors)[1]
    outputs = np.matmul(_rounded_input(sampled, tensor_range), layer.matrix(fit.weight * scales))
    error: Float32Array = outputs - sampled.output
    if fit.correction is not None:
        error += np.asarray(fit.correction, np.float32).reshape(len(error), 1, -1)
    return error


def _noise(tensor_range: TensorRange, fits: Sequence[_Fit], sampled: Sequence[LayerSamples]) -> float:
    """The power of the error relative to the output, summed over the readers."""
    return sum(
        float(np.mean(np.square(_error(each, tensor_range, fit)), dtype=np.float64))
        / max(float(np.mean(np.square(each.output), dtype=np.float64)), 1e-30)
        for each, fit in zip(sampled, fits, strict=True)
    )
