"""The decibel gate: the INT8 layers that save most time within a quality budget, judged together, never by addition."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from sr_edge.calibration.timings import Timings
from sr_edge.errors import NothingToQuantize, UsageError

DropDb = Callable[[Collection[str]], float]
"""What these layers in INT8 cost together, in dB."""

CURVE_POINTS = 7
RETURNS = 4
"""How many layers that were left float are tried once more, one by one, when the budget is not used up."""


@dataclass(frozen=True)
class Budget:
    """At most `max_drop_db` may be lost; with `latency_ms`, no more INT8 than that time on one tile needs."""

    max_drop_db: float = 0.05
    latency_ms: float | None = None

    def __post_init__(self) -> None:
        if not self.max_drop_db >= 0.0:
            raise UsageError(
                f"a budget of {self.max_drop_db} dB asks INT8 to be better than float; pass 0.05, for example"
            )
        if self.latency_ms is not None and not self.latency_ms > 0.0:
            raise UsageError(f"a latency target of {self.latency_ms} ms cannot be met; give milliseconds above 0")


@dataclass(frozen=True)
class Point:
    """One set of INT8 layers on the way from most to fewest: its joint cost in dB, and its time or MMAC left float."""

    int8_layers: int
    drop_db: float
    cost: float


@dataclass(frozen=True)
class Choice:
    """The layers to make INT8, what they cost together, and what else was tried on the way."""

    int8: tuple[str, ...]
    drop_db: float
    curve: tuple[Point, ...]
    useless: tuple[str, ...] = ()


def choose_layers(noise_power: Mapping[str, float], timings: Timings, drop_db: DropDb, budget: Budget) -> Choice:
    """Drops layers, most noise per time saved first, until the rest together keeps the budget.

    Layers in which INT8 saves no time are dropped before anything else. Then the fewest that keep the budget are found
    by bisection, and the largest of those that were dropped get another chance. A latency target ends the search early,
    on the side of quality.

    Args:
        noise_power: of every layer that may be INT8, alone.
        timings: what each saves.
        drop_db: the joint check.
        budget: what may be lost.

    Raises:
        NothingToQuantize: not even one layer alone keeps the budget.
    """
    useless = tuple(name for name in noise_power if timings.saved.get(name, 0.0) <= 0.0)
    if len(useless) == len(noise_power) or not timings.is_measured:
        useless = ()
    order = _worst_first(noise_power, timings, useless)
    gate = _Gate(order, timings, drop_db)
    fewest = gate.fewest_dropped(budget.max_drop_db)
    if fewest == len(order):
        best = gate.drop_db(len(order) - 1)
        raise NothingToQuantize(
            f"no INT8 layer stays within {budget.max_drop_db:g} dB (the least noisy, {order[-1]}, costs {best:.2g} "
            "dB); allow a larger drop or deploy the model in float"
        )
    chosen = gate.with_returns(fewest, budget.max_drop_db)
    if budget.latency_ms is not None and timings.cost(chosen) <= budget.latency_ms:
        chosen = gate.least_noise_within(budget.latency_ms, chosen)
    gate.draw_curve()
    return Choice(tuple(n for n in noise_power if n in chosen), gate.joint(chosen), gate.points(), useless)


class _Gate:
    """The joint check with its memory; `dropped` counts layers left float, from the front of the order."""

    def __init__(self, order: Sequence[str], timings: Timings, drop_db: DropDb) -> None:
        self._order = order
        self._timings = timings
        self._drop_db = drop_db
        self._known: dict[frozenset[str], float] = {}

    def joint(self, int8: Collection[str]) -> float:
        key = frozenset(int8)
        if key not in self._known:
            self._known[key] = self._drop_db(key)
        return self._known[key]

    def drop_db(self, dropped: int) -> float:
        return self.joint(self._order[dropped:])

    def fewest_dropped(self, max_drop_db: float) -> int:
        low, high = 0, len(self._order)
        while low < high:
            middle = (low + high) // 2 if low else min(high - 1, high // 4)
            if self.drop_db(middle) <= max_drop_db:
                high = middle
            else:
                low = middle + 1
        return low

    def with_returns(self, dropped: int, max_drop_db: float) -> frozenset[str]:
        chosen = frozenset(self._order[dropped:])
        by_saving = sorted(self._order[:dropped], key=lambda name: self._timings.saved[name], reverse=True)
        for name in by_saving[:RETURNS]:
            if self._timings.saved[name] > 0.0 and self.joint(chosen | {name}) <= max_drop_db:
                chosen |= {name}
        return chosen

    def least_noise_within(self, latency_ms: float, chosen: frozenset[str]) -> frozenset[str]:
        for name in self._order:
            fewer = chosen - {name}
            if fewer and self._timings.cost(fewer) <= latency_ms:
                chosen = fewer
        return chosen

    def draw_curve(self) -> None:
        """Makes sure of some points from all INT8 to one layer."""
        last = len(self._order) - 1
        for step in range(CURVE_POINTS):
            self.drop_db(round(last * (step / (CURVE_POINTS - 1)) ** 2))

    def points(self) -> tuple[Point, ...]:
        found = [Point(len(int8), drop, self._timings.cost(int8)) for int8, drop in self._known.items()]
        return tuple(sorted(found, key=lambda point: (point.cost, point.drop_db)))


def _worst_first(noise_power: Mapping[str, float], timings: Timings, useless: Collection[str]) -> list[str]:
    """Most noise per time saved first; what saves nothing is left out, or where all save nothing, ranked by noise."""
    nothing_saves = all(timings.saved.get(name, 0.0) <= 0.0 for name in noise_power)
    names = [name for name in noise_power if name not in useless]
    return sorted(
        names,
        key=lambda name: noise_power[name] / (1.0 if nothing_saves else max(timings.saved[name], 1e-9)),
        reverse=True,
    )
