"""Milliseconds that INT8 saves in each layer, by OpenVINO's own counters.

The float graph and the INT8 graph are compiled with the same settings and run in turn, so that what else the machine
does falls on both; of each kernel's runs the shortest counts, because disturbance only ever adds. A kernel's time goes
to the layers that it was compiled from; a separate quantizing kernel counts against the layers that read its tensor.
What is left over (reorders) is shared out in proportion, so that all layers together save what the whole graph does.
"""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx

from sr_edge.calibration.calibration import Calibration
from sr_edge.calibration.columns import possible_layers
from sr_edge.calibration.qdq import insert_qdq
from sr_edge.calibration.timings import Timings
from sr_edge.calibration.watched import Batch, Feeds
from sr_edge.errors import UsageError
from sr_edge.spec import Precision, Spelling

ROUNDS = 12
WARM_UP = 3

_HINTS = {Precision.FP32: "f32", Precision.BF16: "bf16", Precision.FP16: "f16"}


class TimedGraph:
    """A graph compiled by OpenVINO's CPU plugin with counters on."""

    def __init__(
        self, model: onnx.ModelProto, feeds: Feeds, batch: Batch, rest: Precision, threads: int | None
    ) -> None:
        from sr_edge.runtimes.openvino import shared_core

        core = shared_core()
        network = core.read_model(model.SerializeToString())
        inputs = feeds.of(batch)
        network.reshape({name: list(value.shape) for name, value in inputs.items()})
        settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": _HINTS[rest], "PERF_COUNT": True}
        settings["PERFORMANCE_HINT"] = "LATENCY"
        if threads is not None:
            settings["INFERENCE_NUM_THREADS"] = threads
        self._compiled = core.compile_model(network, "CPU", settings)
        self._request = self._compiled.create_infer_request()
        self._inputs = inputs
        self._sources = {
            node.get_friendly_name(): _originals(node) for node in self._compiled.get_runtime_model().get_ordered_ops()
        }
        self.wall_ms: list[float] = []
        self._kernels_ms: dict[str, list[float]] = defaultdict(list)

    def run(self) -> None:
        """One timed run."""
        started = time.perf_counter()
        self._request.infer(self._inputs)
        self.wall_ms.append(1e3 * (time.perf_counter() - started))
        for kernel in self._request.get_profiling_info():
            self._kernels_ms[kernel.node_name].append(1e3 * kernel.real_time.total_seconds())

    def output(self) -> np.ndarray[Any, Any]:
        """What the last run gave first."""
        return np.array(self._request.get_output_tensor(0).data)

    def forget(self) -> None:
        """Leaves what was timed so far out: it was warming up."""
        self.wall_ms.clear()
        self._kernels_ms.clear()

    def layer_ms(self, names: Sequence[str], readers: Mapping[str, Sequence[str]]) -> dict[str, float]:
        """Least milliseconds by layer; `readers` maps each quantizing node to the layers that read its tensor."""
        found = dict.fromkeys(names, 0.0)
        known = set(names)
        for kernel, samples in self._kernels_ms.items():
            sources = self._sources.get(kernel, ())
            owners = [name for name in sources if name in known]
            owners = owners or [name for source in sources for name in readers.get(source, ())]
            for owner in owners:
                found[owner] += min(samples) / len(owners)
        return found


def measure_savings(
    model: onnx.ModelProto, calibration: Calibration, batch: Batch, rest: Precision, threads: int | None = None
) -> Timings:
    """Times the float graph and the one with all the calibration's INT8 layers, in turn, on one tile.

    Raises:
        UsageError: the rest is not one that OpenVINO computes.
    """
    if rest not in _HINTS:
        raise UsageError(f"the rest of an INT8 graph cannot be {rest}; choose fp32 or bf16")
    feeds = Feeds(model)
    names = calibration.int8_nodes
    graphs = [
        TimedGraph(graph, feeds, batch, rest, threads) for graph in (model, insert_qdq(model, calibration, Spelling.U8))
    ]
    run_in_turn(graphs)
    readers = _readers(model, names)
    float_ms, int8_ms = (min(graph.wall_ms) for graph in graphs)
    by_layer = [graph.layer_ms(names, readers) for graph in graphs]
    saved = {name: by_layer[0][name] - by_layer[1][name] for name in names}
    return Timings(_in_proportion(saved, float_ms - int8_ms), "openvino", rest, float_ms, int8_ms)


def measure_ms(graphs: Sequence[onnx.ModelProto], batch: Batch, rest: Precision, threads: int | None) -> list[float]:
    """Median milliseconds of each graph on one tile, run in turn."""
    timed = [TimedGraph(graph, Feeds(graph), batch, rest, threads) for graph in graphs]
    run_in_turn(timed)
    return [statistics.median(graph.wall_ms) for graph in timed]


def run_once(model: onnx.ModelProto, batch: Batch, threads: int | None) -> np.ndarray[Any, Any]:
    """The graph's first output for one patch, its rest in float32."""
    graph = TimedGraph(model, Feeds(model), batch, Precision.FP32, threads)
    graph.run()
    return graph.output()


def run_in_turn(graphs: Sequence[TimedGraph]) -> None:
    for _ in range(WARM_UP):
        for graph in graphs:
            graph.run()
    for graph in graphs:
        graph.forget()
    for _ in range(ROUNDS):
        for graph in graphs:
            graph.run()


def _in_proportion(saved: dict[str, float], total_ms: float) -> dict[str, float]:
    attributed = sum(saved.values())
    if attributed <= 0.0 or total_ms <= 0.0:
        return saved
    return {name: value * total_ms / attributed for name, value in saved.items()}


def _readers(model: onnx.ModelProto, names: Sequence[str]) -> dict[str, list[str]]:
    layers = possible_layers(model)
    found: dict[str, list[str]] = defaultdict(list)
    for name in names:
        tensor = layers[name].site.activation
        for suffix in ("_QuantizeLinear", "_DequantizeLinear", "_smoothed_Mul"):
            found[f"{tensor}/int8{suffix}"].append(name)
    return found


def _originals(node: Any) -> tuple[str, ...]:
    """The nodes of the file that a kernel was compiled from."""
    facts = node.get_rt_info()
    return tuple(facts["originalLayersNames"].astype(str).split(",")) if "originalLayersNames" in facts else ()
