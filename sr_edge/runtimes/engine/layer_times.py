"""What a runtime reports about the layers of a compiled graph: their times, what they read, what they were made of."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy.typing as npt

from sr_edge.spec import Precision

_NUMBER = re.compile(r"sr-edge\((\d+)\)")


def numbered_name(index: int) -> str:
    """The name for the node of that index in a graph to be timed; libraries repeat it in the names of fused layers."""
    return f"sr-edge({index})"


def numbers_in(text: str) -> tuple[int, ...]:
    """The indices of all nodes that a text of a library names, each once."""
    return tuple(dict.fromkeys(int(number) for number in _NUMBER.findall(text)))


@dataclass(frozen=True)
class ProfiledGraph:
    """A graph to be timed layer by layer.

    Attributes:
        graph: a serialized ONNX model whose nodes have the names of `numbered_name`.
        feed: its inputs by name.
        outputs: index of the node that computes each output of the graph, whose name a library may give to the layer.
        float_precision: precision of the layers that are not INT8.
        device: device of the runtime.
        threads: number of threads on the CPU; None leaves it to the runtime.
        runs: timed runs, of which the shortest time of each layer counts.
        warm_up: untimed runs before them.
    """

    graph: bytes
    feed: Mapping[str, npt.NDArray[Any]]
    outputs: Mapping[str, int]
    float_precision: Precision = Precision.FP32
    device: str = "cpu"
    threads: int | None = None
    runs: int = 20
    warm_up: int = 3


@dataclass(frozen=True)
class LayerTime:
    """One layer of a compiled graph.

    Attributes:
        name: the library's name for it, which no other layer has.
        operator: the library's operator.
        ms: the shortest of its times; 0 for a layer that does nothing, such as a Reshape of contiguous memory.
        inputs: names of the layers that it reads.
        nodes: indices of the nodes of the file that it was made of; none for a layer that the library inserted.
    """

    name: str
    operator: str
    ms: float
    inputs: tuple[str, ...] = ()
    nodes: tuple[int, ...] = ()


@dataclass(frozen=True)
class LayerTimes:
    """The layers of a compiled graph in the order in which they run, the library's version, and its threads."""

    layers: tuple[LayerTime, ...]
    version: str
    threads: int


class ReportsLayerTimes(Protocol):
    """The function that a runtime's module provides if its library reports the time of each layer."""

    def layer_times(self, profiled: ProfiledGraph) -> LayerTimes:
        """Runs a graph and reports the shortest time of each of its layers.

        Raises:
            RuntimeUnavailable: the device does not exist, or its layers cannot be timed.
            PrecisionUnavailable: the device cannot compute in that precision.
            EngineError: the library cannot compile or run the graph.
        """
        ...


def shortest(runs: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The shortest time of each layer over several runs, which may list layers that others do not."""
    times: dict[str, float] = {}
    for run in runs:
        for name, took_ms in run.items():
            times[name] = min(took_ms, times.get(name, took_ms))
    return times
