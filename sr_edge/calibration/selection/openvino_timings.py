"""Times in OpenVINO how many milliseconds INT8 saves in each layer, on whole graphs.

The profiling counter of a kernel is no measure: INT8 in one layer requires reorders and quantizing kernels around
    others, and a layer that is faster alone can be slower among others. Layers of one role (the same operator, weight
    shape and name without its numbers) are therefore taken out of INT8 together, and the whole graph is timed. Graphs
    that are compared run in turn, so that the load of the machine affects all of them, and the median of the ratios of
    all rounds is used.

The functions of this module implement the protocol `Timer`.
"""

from __future__ import annotations

import re
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import onnx

from sr_edge.calibration.graph.im2col import Layer, quantizable_layers
from sr_edge.calibration.graph.probe import Feeds
from sr_edge.calibration.result.calibration import Calibration
from sr_edge.calibration.result.timings import Timings, counted_savings
from sr_edge.calibration.selection.whole_graphs import with_int8
from sr_edge.controls import Controls
from sr_edge.errors import UsageError
from sr_edge.frames import Batch
from sr_edge.runtimes import availability, describe_machine
from sr_edge.spec import Precision

Role = tuple[str, ...]
"""The node names of layers that are timed together."""

WARM_UP = 2
ROUNDS = (8, 40)
"""The smallest and the largest number of rounds; in between, as many as give each graph SLICE_MS."""

SLICE_MS = 1000.0

MAX_ROLES = 12
"""The smallest further roles are timed as one, because every role requires a graph to be compiled."""

ROLES_AT_ONCE = 3
"""The number of roles timed in turn with the whole graph; more would save time but need more memory."""

COMPILED_AT_ONCE = 2
"""Compiling a graph uses little more than one core."""

_HINTS = {Precision.FP32: "f32", Precision.BF16: "bf16", Precision.FP16: "f16"}


class TimedGraph:
    """A graph compiled by the CPU plugin of OpenVINO."""

    def __init__(
        self, model: onnx.ModelProto, feeds: Feeds, batch: Batch, float_precision: Precision, threads: int | None
    ) -> None:
        from sr_edge.runtimes.openvino.runtime import shared_core

        core = shared_core()
        network = core.read_model(model.SerializeToString())
        self._feeds = feeds
        self._inputs = feeds.of(batch)
        network.reshape({name: list(value.shape) for name, value in self._inputs.items()})
        settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": _HINTS[float_precision], "PERFORMANCE_HINT": "LATENCY"}
        if threads is not None:
            settings["INFERENCE_NUM_THREADS"] = threads
        self._request = core.compile_model(network, "CPU", settings).create_infer_request()

    def run(self) -> float:
        """Runs the graph once; returns the milliseconds."""
        started = time.perf_counter()
        self._request.infer(self._inputs)
        return 1e3 * (time.perf_counter() - started)

    def output(self, batch: Batch, setting: Controls | None = None) -> np.ndarray[Any, Any]:
        """The first output for a patch of the same size and control values."""
        self._request.infer(self._feeds.of(batch, setting))
        return np.array(self._request.get_output_tensor(0).data)


def measure_savings(
    model: onnx.ModelProto,
    calibration: Calibration,
    batch: Batch,
    float_precision: Precision,
    threads: int | None = None,
) -> Timings:
    """Times the float graph, the graph with all INT8 layers, and that graph without one role after another.

    The time that a role saves is distributed over its layers by their multiply-accumulate operations, and all gains are
    scaled so that their sum is what the whole graph saves.

    Raises:
        UsageError: OpenVINO does not compute in `float_precision`.
    """
    if float_precision not in _HINTS:
        raise UsageError(
            f"OpenVINO cannot run the float layers of an INT8 graph in {float_precision}",
            found=float_precision,
            wanted=tuple(_HINTS),
            remedy=f"choose one of: {', '.join(_HINTS)}",
        )

    names = calibration.int8_nodes

    def without(role: Role) -> onnx.ModelProto:
        return with_int8(model, calibration, set(names) - set(role))

    layers = quantizable_layers(model)
    macs = counted_savings(model, {name: layers[name] for name in names}, batch.shape).saved
    with_all_int8, in_float = compiled([with_int8(model, calibration, names), model], batch, float_precision, threads)
    int8_ms, float_ms = (statistics.median(samples) for samples in run_interleaved([with_all_int8, in_float]))
    del in_float
    saved: dict[str, float] = {}
    for group in _groups(roles({name: layers[name] for name in names}, macs)):
        with_all, *with_less = run_interleaved(
            [with_all_int8, *compiled(map(without, group), batch, float_precision, threads)]
        )
        for role, samples in zip(group, with_less, strict=True):
            ratio = statistics.median(less / full for full, less in zip(with_all, samples, strict=True))
            total = sum(macs[name] for name in role)
            saved |= {name: (ratio - 1.0) * int8_ms * macs[name] / total for name in role}
    return Timings(scaled_to_total(saved, float_ms - int8_ms), "openvino", float_precision, float_ms, int8_ms)


def roles(layers: Mapping[str, Layer], macs: Mapping[str, float]) -> list[Role]:
    """Groups layers by operator, weight shape and name without numbers, most work first, in at most MAX_ROLES roles."""
    names_of: dict[object, list[str]] = {}
    for name, layer in layers.items():
        key = (layer.op.op_type, layer.weight.shape, layer.groups, re.sub(r"\d+", "", name))
        names_of.setdefault(key, []).append(name)
    by_work = sorted(names_of.values(), key=lambda role: sum(macs[name] for name in role), reverse=True)
    apart, remaining = by_work[: MAX_ROLES - 1], by_work[MAX_ROLES - 1 :]
    together = [name for role in remaining for name in role]
    return [tuple(role) for role in (*apart, together) if role]


def measure_ms(
    graphs: Sequence[onnx.ModelProto], batch: Batch, float_precision: Precision, threads: int | None
) -> list[float]:
    """The median milliseconds of each graph on one tile; the graphs run in turn."""
    return [
        statistics.median(samples) for samples in run_interleaved(compiled(graphs, batch, float_precision, threads))
    ]


def compiled(
    graphs: Iterable[onnx.ModelProto], batch: Batch, float_precision: Precision, threads: int | None
) -> list[TimedGraph]:
    """Compiles all graphs before any of them runs, so that nothing is compiled while a graph is timed."""
    with ThreadPoolExecutor(COMPILED_AT_ONCE) as pool:
        return list(pool.map(lambda graph: TimedGraph(graph, Feeds(graph), batch, float_precision, threads), graphs))


def output_of(
    model: onnx.ModelProto, batch: Batch, float_precision: Precision, threads: int | None
) -> Callable[[Batch, Controls], np.ndarray[Any, Any]]:
    """Compiles the graph and returns a function that gives its first output for patches of the size of `batch`."""
    return TimedGraph(model, Feeds(model), batch, float_precision, threads).output


def conditions(threads: int | None) -> str:
    """The conditions that times are valid for: the version of the runtime, the CPU, and the threads."""
    machine, version = describe_machine(), availability("openvino").version
    used = "any number of" if threads is None else threads
    return f"openvino {version} on {machine.cpu}, {used} threads on {machine.usable_cores} cores"


def run_interleaved(graphs: Sequence[TimedGraph]) -> list[list[float]]:
    """Runs all graphs in turn, round after round; returns the milliseconds of each graph in every round."""
    for _ in range(WARM_UP):
        one_round_ms = sum(graph.run() for graph in graphs)
    least, most = ROUNDS
    count = min(most, max(least, round(SLICE_MS * len(graphs) / one_round_ms)))
    rounds = [[graph.run() for graph in graphs] for _ in range(count)]
    return [list(samples) for samples in zip(*rounds, strict=True)]


def _groups(roles: Sequence[Role]) -> Iterator[Sequence[Role]]:
    return (roles[start : start + ROLES_AT_ONCE] for start in range(0, len(roles), ROLES_AT_ONCE))


def scaled_to_total(saved: dict[str, float], total_ms: float) -> dict[str, float]:
    """Scales the gains so that all values add up to `total_ms`; unchanged if the losses are larger than the gains."""
    gained = sum(value for value in saved.values() if value > 0.0)
    target = total_ms - sum(value for value in saved.values() if value <= 0.0)
    if gained <= 0.0 or target <= 0.0:
        return saved
    return {name: value * target / gained if value > 0.0 else value for name, value in saved.items()}
