"""Times the layers of a compiled graph in OpenVINO."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sr_edge.runtimes.engine.layer_times import LayerTime, LayerTimes, ProfiledGraph, numbers_in, shortest
from sr_edge.runtimes.engine.vendor_errors import vendor_errors
from sr_edge.runtimes.openvino import runtime


def layer_times(profiled: ProfiledGraph) -> LayerTimes:
    """Implements `ReportsLayerTimes`; the compiled graph says which nodes of the file each layer was made of."""
    error = runtime.obstacle(profiled.float_precision, profiled.device)
    if error is not None:
        raise error
    core = runtime.shared_core()
    with vendor_errors("OpenVINO cannot time the layers of the graph", "check that the file runs in openvino"):
        compiled = core.compile_model(
            core.read_model(profiled.graph, b""), profiled.device.upper(), _properties(profiled)
        )
        times = _times(compiled.create_infer_request(), profiled)
        layers = _layers(compiled.get_runtime_model().get_ordered_ops(), times, profiled.outputs)
    return LayerTimes(layers, runtime.library_version(), runtime.thread_count(compiled))


def _properties(profiled: ProfiledGraph) -> dict[str, Any]:
    properties: dict[str, Any] = {
        "INFERENCE_PRECISION_HINT": runtime.precision_hint(profiled.float_precision),
        "PERFORMANCE_HINT": "LATENCY",
        "PERF_COUNT": "YES",
    }
    return properties | ({} if profiled.threads is None else {"INFERENCE_NUM_THREADS": profiled.threads})


def _times(request: Any, profiled: ProfiledGraph) -> dict[str, float]:
    feed, runs = dict(profiled.feed), []
    for _ in range(profiled.warm_up + profiled.runs):
        request.infer(feed)
        entries = request.get_profiling_info()
        runs.append({entry.node_name: 1e3 * entry.real_time.total_seconds() for entry in entries})
    return shortest(runs[profiled.warm_up :])


def _layers(nodes: list[Any], times: Mapping[str, float], outputs: Mapping[str, int]) -> tuple[LayerTime, ...]:
    """The layers that run; constants, and what was computed from them when the graph was compiled, have no time."""
    layers = []
    for node in nodes:
        name, properties = node.get_friendly_name(), node.get_rt_info()
        if name not in times:
            continue
        inputs = dict.fromkeys(source.get_node().get_friendly_name() for source in node.input_values())
        originals = properties["originalLayersNames"].astype(str)
        named_as_output = [index for tensor, index in outputs.items() if tensor in (originals, *originals.split(","))]
        made_of = tuple(dict.fromkeys([*numbers_in(originals), *named_as_output]))
        operator = properties["layerType"].astype(str)
        layers.append(
            LayerTime(name, operator, times[name], tuple(source for source in inputs if source in times), made_of)
        )
    return tuple(layers)
