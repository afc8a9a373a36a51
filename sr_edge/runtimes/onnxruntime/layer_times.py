"""Times the layers of an optimized graph in ONNX Runtime on the CPU.

The library does not say what a fused layer was made of. The optimized graph does: its tensors keep their names, so a
layer consists of the nodes of the file between the tensors that it reads and those that it computes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import onnx
import onnxruntime as ort  # type: ignore[import-untyped]  # ships no types

from sr_edge.errors import RuntimeUnavailable
from sr_edge.files.unfinished import temporary_folder
from sr_edge.runtimes.engine.cores import physical_cores
from sr_edge.runtimes.engine.layer_times import LayerTime, LayerTimes, ProfiledGraph, numbers_in, shortest
from sr_edge.runtimes.engine.vendor_errors import vendor_errors
from sr_edge.runtimes.onnxruntime import runtime

_SUFFIX = "_kernel_time"
_INSERTED = {"ReorderInput", "ReorderOutput", "Transpose"}
"""Operators that the library inserts, and that take over the name of a tensor that another layer computes."""

_BLOCKED = "_nchwc"
"""What the library appends to the name of a tensor for the name of the blocked convolution that computes it."""


def layer_times(profiled: ProfiledGraph) -> LayerTimes:
    """Implements `ReportsLayerTimes` for the CPU; GPU kernels run after the call that the library times.

    Raises:
        RuntimeUnavailable: The device is not the CPU.
    """
    error = runtime.obstacle(profiled.float_precision, profiled.device)
    if error is not None:
        raise error
    if profiled.device != "cpu":
        raise RuntimeUnavailable(
            f"onnxruntime reports no layer times on {profiled.device}, where kernels run after the calls that it times",
            found=profiled.device,
            wanted="cpu",
            remedy="pass --device cpu",
        )
    threads = profiled.threads or physical_cores()
    with temporary_folder("onnxruntime") as folder:
        optimized = folder / "optimized.onnx"
        with vendor_errors("onnxruntime cannot time the layers of the graph", "check that the file runs there"):
            runs = _runs(profiled, threads, folder, optimized)
        layers = _layers(onnx.load(optimized).graph, _times(runs, profiled), onnx.load_from_string(profiled.graph))
    return LayerTimes(layers, ort.__version__, threads)


def _runs(profiled: ProfiledGraph, threads: int, folder: Path, optimized: Path) -> list[dict[str, Any]]:
    """The events of all runs, in order."""
    options = runtime.session_options({}, threads, optimized)
    options.enable_profiling = True
    options.profile_file_prefix = str(folder / "profile")
    session = ort.InferenceSession(profiled.graph, options, providers=["CPUExecutionProvider"])
    for _ in range(profiled.warm_up + profiled.runs):
        session.run(None, dict(profiled.feed))
    events: list[dict[str, Any]] = json.loads(Path(session.end_profiling()).read_bytes())
    return events


def _times(events: Iterable[Mapping[str, Any]], profiled: ProfiledGraph) -> dict[str, float]:
    """The shortest time of each layer: an event for each run, of which the first are the warm-up."""
    times: dict[str, list[float]] = {}
    for event in events:
        if event["cat"] == "Node" and event["name"].endswith(_SUFFIX):
            times.setdefault(event["name"].removesuffix(_SUFFIX), []).append(1e-3 * event["dur"])
    return shortest([{name: min(taken[-profiled.runs :])} for name, taken in times.items()])


def _layers(graph: onnx.GraphProto, times: Mapping[str, float], file: onnx.ModelProto) -> tuple[LayerTime, ...]:
    producer = {tensor: node.name for node in graph.node for tensor in node.output if tensor}
    origins = _Origins(file.graph, graph)
    layers = []
    for node in graph.node:
        inputs = dict.fromkeys(producer[tensor] for tensor in node.input if tensor in producer)
        nodes = origins.of(node)
        layers.append(LayerTime(node.name, node.op_type, times.get(node.name, 0.0), tuple(inputs), nodes))
    return tuple(layers)


class _Origins:
    """Finds the nodes of the file that a layer of the optimized graph was made of."""

    def __init__(self, file: onnx.GraphProto, optimized: onnx.GraphProto) -> None:
        self._nodes = file.node
        self._producer = {tensor: index for index, node in enumerate(file.node) for tensor in node.output if tensor}
        self._kept = {tensor for node in optimized.node for tensor in (*node.input, *node.output)}
        self._names_taken = {
            node.input[0]: node.output[0] for node in optimized.node if node.op_type in _INSERTED and self._is_new(node)
        }

    def of(self, layer: onnx.NodeProto) -> tuple[int, ...]:
        """The indices of the nodes, each once; none for an inserted layer."""
        if layer.op_type in _INSERTED and self._is_new(layer):
            return ()
        computed = [self._names_taken.get(tensor, tensor) for tensor in layer.output]
        between = self._between([*computed, layer.name.removesuffix(_BLOCKED)])
        return tuple(dict.fromkeys([*between, *numbers_in(layer.name)]))

    def _is_new(self, layer: onnx.NodeProto) -> bool:
        """Whether the file computes the output of this layer by another operator, or not at all."""
        index = self._producer.get(layer.output[0])
        return index is None or self._nodes[index].op_type != layer.op_type

    def _between(self, tensors: list[str]) -> list[int]:
        """The nodes that compute these tensors from tensors that the optimized graph has, too."""
        nodes: dict[int, None] = {}
        pending = list(tensors)
        while pending:
            index = self._producer.get(pending.pop())
            if index is not None and index not in nodes:
                nodes[index] = None
                pending += [tensor for tensor in self._nodes[index].input if tensor not in self._kept]
        return list(nodes)
