"""Finds which layers of a network make a runtime move data: connected layers of movement, and what is around them."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from sr_edge.bench.operator_times.kinds import Kind
from sr_edge.runtimes.engine.layer_times import LayerTime

INPUT, OUTPUT = "input", "output"


@dataclass(frozen=True)
class Movement:
    """Subgraphs of movement that are alike.

    Attributes:
        layers: source layers of the slowest ones first; the numbers in their paths are "*".
        operators: the runtime's operators in them.
        before: operators that compute what is moved, or "input".
        after: operators that read it, or "output".
        subgraphs: how many there are.
        ms: their time.
        share: the share of the time of the whole graph.
    """

    layers: tuple[str, ...]
    operators: tuple[str, ...]
    before: tuple[str, ...]
    after: tuple[str, ...]
    subgraphs: int
    ms: float
    share: float


def movements(
    layers: Sequence[LayerTime], kinds: Mapping[str, Kind], source_layers: Sequence[str]
) -> tuple[Movement, ...]:
    """All movement of a compiled graph, the slowest first.

    Args:
        layers: the layers of the compiled graph.
        kinds: the kind of each layer by its name.
        source_layers: the path of the module of each node of the file.
    """
    whole_ms = sum(layer.ms for layer in layers)
    surroundings = _Surroundings(layers, kinds, source_layers)
    alike: dict[tuple[object, ...], list[Movement]] = {}
    for subgraph in surroundings.subgraphs():
        one = surroundings.describe(subgraph)
        if one.ms > 0:
            alike.setdefault((one.layers[:1], one.operators, one.before, one.after), []).append(one)
    sums = [_sum_of(equal, whole_ms) for equal in alike.values()]
    return tuple(sorted(sums, key=lambda movement: -movement.ms))


def _sum_of(alike: Sequence[Movement], whole_ms: float) -> Movement:
    first = alike[0]
    layers = tuple(dict.fromkeys(path for movement in alike for path in movement.layers))
    ms = sum(movement.ms for movement in alike)
    return Movement(layers, first.operators, first.before, first.after, len(alike), ms, ms / whole_ms)


class _Surroundings:
    """The layers of a compiled graph by name, with what reads them."""

    def __init__(self, layers: Sequence[LayerTime], kinds: Mapping[str, Kind], source_layers: Sequence[str]) -> None:
        self._layers = {layer.name: layer for layer in layers}
        self._kinds, self._source_layers = kinds, source_layers
        self._readers: dict[str, list[str]] = {layer.name: [] for layer in layers}
        for layer in layers:
            for source in layer.inputs:
                self._readers[source].append(layer.name)

    def subgraphs(self) -> Iterator[list[LayerTime]]:
        """The layers of movement, connected ones together."""
        left = dict.fromkeys(name for name in self._layers if self._kinds[name] is Kind.MOVEMENT)
        while left:
            pending, subgraph = [next(iter(left))], []
            while pending:
                name = pending.pop()
                if name in left:
                    del left[name]
                    subgraph.append(self._layers[name])
                    pending += [*self._layers[name].inputs, *self._readers[name]]
            yield subgraph

    def describe(self, subgraph: Sequence[LayerTime]) -> Movement:
        """One subgraph, whose share of the time is not known here."""
        inside = {layer.name for layer in subgraph}
        timed = sorted((layer for layer in subgraph if layer.ms > 0), key=lambda layer: -layer.ms)
        before = dict.fromkeys(source for layer in subgraph for source in layer.inputs if source not in inside)
        after = dict.fromkeys(name for layer in subgraph for name in self._readers[layer.name] if name not in inside)
        paths = [_pattern(path) for layer in timed for path in self._paths(layer)]
        return Movement(
            layers=tuple(dict.fromkeys(paths)),
            operators=tuple(sorted({layer.operator for layer in timed})),
            before=self._operators(before) or (INPUT,),
            after=self._operators(after) or (OUTPUT,),
            subgraphs=1,
            ms=sum(layer.ms for layer in timed),
            share=0.0,
        )

    def _operators(self, names: Collection[str]) -> tuple[str, ...]:
        return tuple(sorted({self._layers[name].operator for name in names}))

    def _paths(self, layer: LayerTime) -> list[str]:
        """The source layers of a layer; for one that the runtime inserted, those of the nearest, its readers first."""
        seen, pending = {layer.name}, deque([layer.name])
        while pending:
            nearest = self._layers[pending.popleft()]
            paths = dict.fromkeys(self._source_layers[node] for node in nearest.nodes if self._source_layers[node])
            if paths:
                return list(paths)
            neighbours = [name for name in (*self._readers[nearest.name], *nearest.inputs) if name not in seen]
            seen.update(neighbours)
            pending.extend(neighbours)
        return []


def _pattern(path: str) -> str:
    """A path without the numbers of layers, so that the same layer of all blocks is one."""
    return re.sub(r"(?<![^.])\d+(?![^.])", "*", path)
