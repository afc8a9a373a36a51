"""Runs the float graph on the calibration patches and searches the INT8 range of every layer's input."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import onnx

from sr_edge.calibration.data.patch import Float32Array, StepProgress
from sr_edge.calibration.graph.im2col import Layer
from sr_edge.calibration.graph.load import sized_view
from sr_edge.calibration.graph.probe import Feeds, InstrumentedGraph, require_batches
from sr_edge.calibration.ranges.observers import Observer
from sr_edge.calibration.ranges.search import LayerSamples, RangeSearchResult, TensorStatistics, search_range
from sr_edge.calibration.ranges.unsigned import may_be_unsigned
from sr_edge.controls import checked_pairs
from sr_edge.errors import CalibrationError
from sr_edge.export.graph.view import view_graph
from sr_edge.frames import Batch

OBSERVED_BYTES = 256 << 20
"""Memory for the tensors that are observed in one pass, and their samples; further tensors take further passes."""

SAMPLES = 1024
"""The number of output positions of each layer, over all patches, on which the candidates are compared."""

_UNKNOWN_BYTES = 16 << 20


def collect_ranges(
    model: onnx.ModelProto,
    layers: Sequence[Layer],
    batches: Sequence[Batch],
    observer_type: type[Observer] | None,
    progress: StepProgress | None = None,
    observed_bytes: int = OBSERVED_BYTES,
) -> Iterator[dict[str, RangeSearchResult]]:
    """Searches the range of each layer's input over all batches; yields the results pass by pass.

    A graph with controls runs at the extremes of the controls as well. Channels that all readers multiply by zero are
    ignored, since their rounding error is multiplied by zero too: static twins of LayerNorm pass the mean on as such a
    channel, with values of any size. The result for a tensor does not depend on which other tensors are searched, so
    `observed_bytes` changes only the number of runs.

    Args:
        model: The float graph.
        layers: The quantizable layers whose inputs are searched.
        batches: Calibration patches in the input range of the graph.
        observer_type: Determines the clip; None tries SHARES of the largest magnitude.
        progress: Called with (steps done, steps in all).
        observed_bytes: Memory for the tensors observed in one pass.

    Raises:
        CalibrationError: There are no batches, their shape is not that of the graph, or a tensor is not finite.
    """
    require_batches(model, batches)
    readers: dict[str, list[Layer]] = {}
    for layer in layers:
        readers.setdefault(layer.op.activation, []).append(layer)
    runs = checked_pairs(batches, Feeds(model).controls)
    passes = list(passes_over(model, readers, batches[0].shape, SAMPLES, observed_bytes))
    done, total = 0, len(passes) * len(runs) + len(readers)
    view = view_graph(model)
    for names in passes:
        observed = [
            _ObservedTensor(name, readers[name], -(-SAMPLES // len(runs)), may_be_unsigned(view, name, readers[name]))
            for name in names
        ]
        graph = InstrumentedGraph(model, names)
        for batch, setting in runs:
            for tensor, values in zip(observed, graph.run(batch, setting), strict=True):
                tensor.observe(values)
            done = _step(progress, done, total)
        results = {}
        for tensor in observed:
            results[tensor.name] = tensor.search(observer_type)
            done = _step(progress, done, total)
        yield results


class _ObservedTensor:
    """The statistics of one tensor, and samples of it for each layer that reads it."""

    def __init__(self, name: str, readers: Sequence[Layer], samples_per_run: int, is_picture: bool) -> None:
        self.name = name
        self._readers = readers
        self._is_picture = is_picture
        self._samples_per_run = samples_per_run
        self._generator = np.random.default_rng(zlib.crc32(name.encode()))
        self._unfolded: list[list[Float32Array]] = [[] for _ in readers]
        self._lowest: list[Float32Array] = []
        self._highest: list[Float32Array] = []

    def observe(self, values: Float32Array) -> None:
        axis = self._readers[0].channel_axis % values.ndim
        others = tuple(index for index in range(values.ndim) if index != axis)
        lowest, highest = values.min(axis=others), values.max(axis=others)
        if not (np.isfinite(lowest).all() and np.isfinite(highest).all()):
            raise CalibrationError(
                f"the tensor {self.name} is not finite ({lowest.min()} to {highest.max()}) on a calibration patch",
                found=self.name,
                wanted="finite values",
                remedy="check the weights, and that the patches are in [0, 1]",
            )
        self._lowest.append(lowest)
        self._highest.append(highest)
        for unfolded, reader in zip(self._unfolded, self._readers, strict=True):
            unfolded.append(reader.sample(values, self._samples_per_run, self._generator))

    def search(self, observer_type: type[Observer] | None) -> RangeSearchResult:
        statistics = TensorStatistics(np.min(self._lowest, axis=0), np.max(self._highest, axis=0))
        sampled = [
            LayerSamples.of(reader, np.concatenate(unfolded, axis=1))
            for reader, unfolded in zip(self._readers, self._unfolded, strict=True)
        ]
        self._unfolded = []
        return search_range(statistics, sampled, observer_type, may_be_unsigned=self._is_picture)


def _step(progress: StepProgress | None, done: int, total: int) -> int:
    if progress is not None:
        progress(done + 1, total)
    return done + 1


def passes_over(
    model: onnx.ModelProto,
    readers: Mapping[str, Sequence[Layer]],
    shape: tuple[int, ...],
    samples: int,
    observed_bytes: int = OBSERVED_BYTES,
) -> Iterator[list[str]]:
    """Groups of tensors whose values, with `samples` unfolded samples for every reader, fit in `observed_bytes`."""
    sizes = _tensor_bytes(model, shape)
    group: list[str] = []
    group_bytes = 0
    for name, layers in readers.items():
        size = sizes.get(name, _UNKNOWN_BYTES) + samples * sum(map(_unfolded_bytes, layers))
        if group and group_bytes + size > observed_bytes:
            yield group
            group, group_bytes = [], 0
        group.append(name)
        group_bytes += size
    if group:
        yield group


def _unfolded_bytes(layer: Layer) -> int:
    return 4 * layer.input_channels * math.prod(layer.weight.shape[2:])


def _tensor_bytes(model: onnx.ModelProto, shape: tuple[int, ...]) -> dict[str, int]:
    sizes = {}
    for name, dims in sized_view(model, shape).shapes.items():
        static_dims = [dim for dim in dims if isinstance(dim, int)]
        if len(static_dims) == len(dims):
            sizes[name] = 4 * math.prod(static_dims)
    return sizes
