"""The cheapest division of nodes into two sides, as a minimum cut of a network of capacities."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable

UNLIMITED = 1 << 60


class CutNetwork:
    """A directed network in which the minimum cut between `SOURCE` and `SINK` is found (Edmonds and Karp, 1972)."""

    SOURCE = "source"
    SINK = "sink"

    def __init__(self) -> None:
        self._capacity: dict[Hashable, dict[Hashable, int]] = {self.SOURCE: {}, self.SINK: {}}

    def connect(self, start: Hashable, end: Hashable, cost: int) -> None:
        """Adds the cost of having `start` on the side of the source and `end` on that of the sink."""
        forward = self._capacity.setdefault(start, {})
        forward[end] = forward.get(end, 0) + cost
        self._capacity.setdefault(end, {}).setdefault(start, 0)

    def source_side(self) -> frozenset[Hashable]:
        """The nodes on the side of the source in the cheapest division; of equally cheap ones that with the fewest."""
        while True:
            previous = self._reached()
            if self.SINK not in previous:
                return frozenset(previous)
            self._augment(previous)

    def _reached(self) -> dict[Hashable, Hashable]:
        """The nodes on paths with capacity from the source, each with the node in front of it, up to the sink."""
        previous: dict[Hashable, Hashable] = {self.SOURCE: self.SOURCE}
        waiting: deque[Hashable] = deque([self.SOURCE])
        while waiting and self.SINK not in previous:
            node = waiting.popleft()
            for neighbour, capacity in self._capacity[node].items():
                if capacity > 0 and neighbour not in previous:
                    previous[neighbour] = node
                    waiting.append(neighbour)
        return previous

    def _augment(self, previous: dict[Hashable, Hashable]) -> None:
        """Sends as much as possible along the path to the sink."""
        path, node = [], self.SINK
        while node != self.SOURCE:
            path.append((previous[node], node))
            node = previous[node]  # type: ignore[assignment]
        amount = min(self._capacity[start][end] for start, end in path)
        for start, end in path:
            self._capacity[start][end] -= amount
            self._capacity[end][start] += amount
