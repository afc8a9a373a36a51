"""Runs the float graph over calibration patches and searches the range of every layer's input."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import onnx

from sr_edge.calibration.columns import Layer
from sr_edge.calibration.graph import sized_view
from sr_edge.calibration.observers import Observer
from sr_edge.calibration.patch import Batch, Float32Array, StepProgress
from sr_edge.calibration.search import LayerSamples, RangeSearchResult, TensorStatistics, search_range
from sr_edge.calibration.unsigned import may_be_unsigned
from sr_edge.calibration.watched import Feeds, InstrumentedGraph, require_batches
from sr_edge.controls import checked_pairs
from sr_edge.errors import CalibrationError
from sr_edge.export.graph import view_graph

OBSERVED_BYTES = 256 << 20
"""Observed tensors are outputs of the graph and live at once, beside the samples; more is split over several passes."""

SAMPLES = 1024
"""Output positions of each layer, over all patches, on which candidates are compared."""

_UNKNOWN_BYTES = 16 << 20


def collect_ranges(
    model: onnx.ModelProto,
    layers: Sequence[Layer],
    batches: Sequence[Batch],
    observer_type: type[Observer] | None,
    progress: StepProgress | None = None,
    observed_bytes: int = OBSERVED_BYTES,
) -> Iterator[dict[str, RangeSearchResult]]:
    """What the search finds for the input tensor of each layer, over all batches, pass by pass.

    In a graph with controls the extremes of those count too. Channels that every reader multiplies by zero do not
    count: whatever INT8 makes of them is multiplied by zero again. Static twins of LayerNorm pass the mean on as such a
    channel, of any size. A tensor's result does not depend on which others are searched, so `observed_bytes`, which
    limits how many are observed in one pass, changes only how often the graph runs.

    Raises:
        CalibrationError: there is no batch, its shape is not the graph's, or a tensor is not finite.
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
        found = {}
        for tensor in observed:
            found[tensor.name] = tensor.search(observer_type)
            done = _step(progress, done, total)
        yield found


class _ObservedTensor:
    """Statistics and samples of one tensor, for each of its readers."""

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
                remedy="check the weights, and that the pictures are in [0, 1]",
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
    """The tensors in groups of which all values, and `samples` columns for every reader, fit in `observed_bytes`."""
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
    found = {}
    for name, sides in sized_view(model, shape).shapes.items():
        known = [side for side in sides if isinstance(side, int)]
        if len(known) == len(sides):
            found[name] = 4 * math.prod(known)
    return found
