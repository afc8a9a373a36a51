"""Milliseconds that INT8 saves in each layer, measured in OpenVINO on whole graphs.

A kernel's own counter does not tell: INT8 in one layer costs reorders and quantizing kernels around others, and a layer
that wins alone can lose among others. So layers that play one role (the same name but for its numbers, the same
weight) are taken out of INT8 together, and the whole graph tells what that changes. Graphs compared run in turn, so
that what else the machine does falls on both, and the median of the rounds' ratios counts.

The functions of this module make it a `Timer`.
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

from sr_edge.calibration.calibration import Calibration
from sr_edge.calibration.columns import Layer, quantizable_layers
from sr_edge.calibration.patch import Batch
from sr_edge.calibration.timings import Timings, counted_savings
from sr_edge.calibration.watched import Feeds
from sr_edge.calibration.whole_graphs import with_int8
from sr_edge.controls import Controls
from sr_edge.errors import UsageError
from sr_edge.runtimes import availability, describe_machine
from sr_edge.spec import Precision

Role = tuple[str, ...]
"""The names of layers that are timed together."""

WARM_UP = 2
ROUNDS = (8, 40)
"""Least and most; in between as many as give each graph SLICE_MS, since short graphs are timed less surely."""

SLICE_MS = 1000.0

MAX_ROLES = 12
"""The smallest roles beyond are timed as one: each takes a graph to compile."""

ROLES_AT_ONCE = 3
"""Timed in turn with one run of the whole: more would save time and take the memory of as many graphs."""

COMPILED_AT_ONCE = 2
"""Compiling keeps little more than one core busy."""

_HINTS = {Precision.FP32: "f32", Precision.BF16: "bf16", Precision.FP16: "f16"}


class TimedGraph:
    """A graph compiled by OpenVINO's CPU plugin."""

    def __init__(
        self, model: onnx.ModelProto, feeds: Feeds, batch: Batch, float_precision: Precision, threads: int | None
    ) -> None:
        from sr_edge.runtimes.openvino import shared_core

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
        """Milliseconds of one run."""
        started = time.perf_counter()
        self._request.infer(self._inputs)
        return 1e3 * (time.perf_counter() - started)

    def output(self, batch: Batch, setting: Controls | None = None) -> np.ndarray[Any, Any]:
        """The first output for a patch of the same size."""
        self._request.infer(self._feeds.of(batch, setting))
        return np.array(self._request.get_output_tensor(0).data)


def measure_savings(
    model: onnx.ModelProto,
    calibration: Calibration,
    batch: Batch,
    float_precision: Precision,
    threads: int | None = None,
) -> Timings:
    """Times the float graph, the one with all the calibration's INT8 layers, and that without one role after the other.

    What a role saves is shared among its layers by their multiply-accumulates, and all gains are scaled so that the
    layers together save what the whole graph does.

    Raises:
        UsageError: the rest is not one that OpenVINO computes.
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
    everything, in_float = compiled([with_int8(model, calibration, names), model], batch, float_precision, threads)
    int8_ms, float_ms = (statistics.median(samples) for samples in run_interleaved([everything, in_float]))
    del in_float
    saved: dict[str, float] = {}
    for some in _parts(roles({name: layers[name] for name in names}, macs)):
        with_all, *with_less = run_interleaved(
            [everything, *compiled(map(without, some), batch, float_precision, threads)]
        )
        for role, samples in zip(some, with_less, strict=True):
            ratio = statistics.median(b / a for a, b in zip(with_all, samples, strict=True))
            total = sum(macs[name] for name in role)
            saved |= {name: (ratio - 1.0) * int8_ms * macs[name] / total for name in role}
    return Timings(adding_up(saved, float_ms - int8_ms), "openvino", float_precision, float_ms, int8_ms)


def roles(layers: Mapping[str, Layer], macs: Mapping[str, float]) -> list[Role]:
    """Layers alike by operator, weight and name without its numbers, most work first; at most MAX_ROLES of them."""
    found: dict[object, list[str]] = {}
    for name, layer in layers.items():
        alike = (layer.op.op_type, layer.weight.shape, layer.groups, re.sub(r"\d+", "", name))
        found.setdefault(alike, []).append(name)
    by_work = sorted(found.values(), key=lambda role: sum(macs[name] for name in role), reverse=True)
    apart, remaining = by_work[: MAX_ROLES - 1], by_work[MAX_ROLES - 1 :]
    together = [name for role in remaining for name in role]
    return [tuple(role) for role in (*apart, together) if role]


def measure_ms(
    graphs: Sequence[onnx.ModelProto], batch: Batch, float_precision: Precision, threads: int | None
) -> list[float]:
    """Median milliseconds of each graph on one tile, run in turn."""
    return [
        statistics.median(samples) for samples in run_interleaved(compiled(graphs, batch, float_precision, threads))
    ]


def compiled(
    graphs: Iterable[onnx.ModelProto], batch: Batch, float_precision: Precision, threads: int | None
) -> list[TimedGraph]:
    """All of them before one runs: what is timed has the machine for itself."""
    with ThreadPoolExecutor(COMPILED_AT_ONCE) as pool:
        return list(pool.map(lambda graph: TimedGraph(graph, Feeds(graph), batch, float_precision, threads), graphs))


def output_of(
    model: onnx.ModelProto, batch: Batch, float_precision: Precision, threads: int | None
) -> Callable[[Batch, Controls], np.ndarray[Any, Any]]:
    """What the compiled graph gives first, for patches of the batch's size."""
    return TimedGraph(model, Feeds(model), batch, float_precision, threads).output


def conditions(threads: int | None) -> str:
    """What times hold for beside the graph and its tile: the versions of runtime and CPU, and the threads."""
    machine, version = describe_machine(), availability("openvino").version
    used = "any number of" if threads is None else threads
    return f"openvino {version} on {machine.cpu}, {used} threads on {machine.usable_cores} cores"


def run_interleaved(graphs: Sequence[TimedGraph]) -> list[list[float]]:
    """Milliseconds of every graph in every round."""
    for _ in range(WARM_UP):
        one_round_ms = sum(graph.run() for graph in graphs)
    least, most = ROUNDS
    count = min(most, max(least, round(SLICE_MS * len(graphs) / one_round_ms)))
    rounds = [[graph.run() for graph in graphs] for _ in range(count)]
    return [list(samples) for samples in zip(*rounds, strict=True)]


def _parts(found: Sequence[Role]) -> Iterator[Sequence[Role]]:
    return (found[start : start + ROLES_AT_ONCE] for start in range(0, len(found), ROLES_AT_ONCE))


def adding_up(saved: dict[str, float], total_ms: float) -> dict[str, float]:
    """Scales what is gained; where more is lost than gained, everything stays as measured."""
    gained = sum(value for value in saved.values() if value > 0.0)
    wanted = total_ms - sum(value for value in saved.values() if value <= 0.0)
    if gained <= 0.0 or wanted <= 0.0:
        return saved
    return {name: value * wanted / gained if value > 0.0 else value for name, value in saved.items()}
