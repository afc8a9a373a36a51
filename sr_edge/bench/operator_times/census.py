"""Measures where a runtime spends its time on a graph: by operator, by kind of work, and by what moves data.

    census = sr_edge.bench.census("network.onnx", "openvino")

The times are the shortest of several runs, as the runtime itself reports them layer by layer, which slows it down a
little: they say what share of the time a layer takes, and no more about the latency of the whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt
import onnx

from sr_edge.bench.operator_times.kinds import Kind, kind_of
from sr_edge.bench.operator_times.movement import Movement, movements
from sr_edge.controls import Controls, control_values
from sr_edge.errors import UsageError
from sr_edge.export.graph.inputs import feed_of, random_inputs
from sr_edge.export.graph.source_layers import source_layers
from sr_edge.export.graph.view import picture_inputs, read_onnx
from sr_edge.runtimes import SessionRequest, random_tile
from sr_edge.runtimes.engine.host_format import tile_from_frames
from sr_edge.runtimes.engine.layer_times import LayerTime, LayerTimes, ProfiledGraph, numbered_name
from sr_edge.runtimes.measure.layer_times import layer_times
from sr_edge.spec import Precision, member_of

DEFAULT_RUNS = 20


@dataclass(frozen=True)
class KindTime:
    """The time of all layers of a kind, and its share of the whole."""

    kind: Kind
    ms: float
    share: float


@dataclass(frozen=True)
class OperatorTime:
    """The time of all layers of an operator, by the runtime's name for it, and its share of the whole."""

    operator: str
    kind: Kind
    layers: int
    ms: float
    share: float


@dataclass(frozen=True)
class Census:
    """Where the time of a graph goes in a runtime.

    Attributes:
        runtime: name of the runtime.
        version: version of the runtime's library.
        float_precision: precision of the layers that are not INT8.
        threads: number of threads that ran.
        runs: timed runs, of which the shortest time of each layer counts.
        total_ms: the sum of the times of all layers.
        kinds: the time by kind of work.
        operators: the time by operator, the slowest first.
        movements: the subgraphs that move data, the slowest first.
    """

    runtime: str
    version: str
    float_precision: Precision
    threads: int
    runs: int
    total_ms: float
    kinds: tuple[KindTime, ...]
    operators: tuple[OperatorTime, ...]
    movements: tuple[Movement, ...]

    def share_of(self, kind: Kind | str) -> float:
        """The share of a kind of work in the time of all layers."""
        kind = member_of(Kind, kind, "kind of work")
        return next(time.share for time in self.kinds if time.kind is kind)


def census(
    graph: onnx.ModelProto | str | Path,
    runtime: str,
    precision: Precision | str = Precision.FP32,
    device: str = "cpu",
    threads: int | None = None,
    runs: int = DEFAULT_RUNS,
) -> Census:
    """Measures where the time of an ONNX graph goes in a runtime on this machine, with seeded random inputs.

    Args:
        graph: an ONNX file or model, of any origin; dynamic dimensions become 24.
        runtime: a runtime whose library reports the time of each layer: "openvino" or "onnxruntime".
        precision: precision of the layers that are not INT8 in the file.
        device: device of the runtime.
        threads: number of threads on the CPU; None leaves it to the runtime.
        runs: timed runs, of which the shortest time of each layer counts.

    Raises:
        UnknownNameError: there is no runtime or precision of that name.
        RuntimeUnavailable: it does not work here, or does not report layer times.
        PrecisionUnavailable: it cannot compute in that precision.
        EngineError: it cannot compile or run the graph.
        ExportError: the file is not a readable ONNX graph.
        UsageError: `runs` is below 1.
    """
    precision = member_of(Precision, precision, "precision")
    model = graph if isinstance(graph, onnx.ModelProto) else read_onnx(Path(graph))
    return _measured(model, runtime, random_inputs(model, seed=0), precision, device, threads, runs)


def census_of_request(runtime: str, request: SessionRequest, controls: Controls, runs: int = DEFAULT_RUNS) -> Census:
    """The census of the file that a session would open, at its tile; raises as `census` does."""
    model = read_onnx(request.artifact)
    tile = tile_from_frames(random_tile(request.tile, request.io, request.card.channels), request.io)
    feed = feed_of(picture_inputs(model)[0].name, tile, control_values(request.card.controls, controls))
    return _measured(model, runtime, feed, request.inference_precision, request.device, request.threads, runs)


def _measured(
    model: onnx.ModelProto,
    runtime: str,
    feed: Mapping[str, npt.NDArray[Any]],
    precision: Precision,
    device: str,
    threads: int | None,
    runs: int,
) -> Census:
    if runs < 1:
        raise UsageError(f"runs is {runs}", found=runs, wanted="1 or more", remedy="pass 1 or more")
    outputs = {output.name for output in model.graph.output}
    computed = {name: index for index, node in enumerate(model.graph.node) for name in node.output if name in outputs}
    graph = _numbered(model).SerializeToString()
    times = layer_times(runtime, ProfiledGraph(graph, feed, computed, precision, device, threads, runs))
    return _counted(model, runtime, times, precision, runs)


def _numbered(model: onnx.ModelProto) -> onnx.ModelProto:
    numbered = onnx.ModelProto()
    numbered.CopyFrom(model)
    for index, node in enumerate(numbered.graph.node):
        node.name = numbered_name(index)
    return numbered


def _counted(model: onnx.ModelProto, runtime: str, times: LayerTimes, precision: Precision, runs: int) -> Census:
    operators = [node.op_type for node in model.graph.node]
    kinds = {layer.name: kind_of(layer.operator, {operators[node] for node in layer.nodes}) for layer in times.layers}
    total_ms = sum(layer.ms for layer in times.layers)
    return Census(
        runtime=runtime,
        version=times.version,
        float_precision=precision,
        threads=times.threads,
        runs=runs,
        total_ms=total_ms,
        kinds=_by_kind(times.layers, kinds, total_ms),
        operators=_by_operator(times.layers, kinds, total_ms),
        movements=movements(times.layers, kinds, source_layers(model)),
    )


def _by_kind(layers: Sequence[LayerTime], kinds: Mapping[str, Kind], total_ms: float) -> tuple[KindTime, ...]:
    sums = {kind: sum(layer.ms for layer in layers if kinds[layer.name] is kind) for kind in Kind}
    return tuple(KindTime(kind, ms, _share(ms, total_ms)) for kind, ms in sums.items())


def _by_operator(layers: Sequence[LayerTime], kinds: Mapping[str, Kind], total_ms: float) -> tuple[OperatorTime, ...]:
    times: dict[tuple[str, Kind], list[float]] = {}
    for layer in layers:
        if layer.ms > 0:
            times.setdefault((layer.operator, kinds[layer.name]), []).append(layer.ms)
    operators = [
        OperatorTime(operator, kind, len(taken), sum(taken), _share(sum(taken), total_ms))
        for (operator, kind), taken in times.items()
    ]
    return tuple(sorted(operators, key=lambda time: -time.ms))


def _share(ms: float, total_ms: float) -> float:
    return ms / total_ms if total_ms else 0.0
