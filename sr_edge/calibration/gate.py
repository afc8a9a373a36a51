"""The decibel gate: the INT8 layers that save most time within a quality budget, judged together, never by addition."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from sr_edge.calibration.timings import Timings
from sr_edge.errors import NothingToQuantize, UsageError

DropDb = Callable[[Collection[str]], float]
"""What these layers in INT8 cost together, in dB; infinite where an output is not finite."""

CURVE = (0.0, 0.05, 0.25, 0.6)
"""What share of the layers is left float at the points of the curve that are always there."""

PRICE = 4.0
"""A layer may cost this many times its share of the time saved, in shares of the budget."""

RETURNS = 4
"""How many layers that were left float are tried once more, one by one, when the budget is not used up."""


@dataclass(frozen=True)
class Budget:
    """At most `max_drop_db` may be lost; with `latency_ms`, no more than it takes to need at most that on one tile."""

    max_drop_db: float = 0.05
    latency_ms: float | None = None

    def __post_init__(self) -> None:
        if not self.max_drop_db >= 0.0:
            raise UsageError(
                f"the largest allowed drop is {self.max_drop_db} dB, but it cannot be below 0 dB: INT8 is not better "
                "than float",
                found=self.max_drop_db,
                wanted="0 dB or more",
                remedy="pass 0.05, for example",
            )
        if self.latency_ms is not None and not self.latency_ms > 0.0:
            raise UsageError(
                f"the latency target is {self.latency_ms} ms, but it must be above 0 ms",
                found=self.latency_ms,
                wanted="more than 0 ms",
                remedy="pass a positive number of milliseconds",
            )


@dataclass(frozen=True)
class CurvePoint:
    """One set of INT8 layers on the way from most to fewest: its joint cost in dB, and its time or MMAC left float.

    A set of infinite cost is no point of the curve.
    """

    int8_layers: int
    drop_db: float
    cost: float


@dataclass(frozen=True)
class LayerSelection:
    """The layers to make INT8, what they cost together, and what else was tried on the way.

    `without_gain` layers stay float because INT8 saves no time in them, `too_noisy` ones because it saves too little
    for the noise that they make, and `not_needed` ones because the latency target is met without them.
    """

    int8: tuple[str, ...]
    drop_db: float
    curve: tuple[CurvePoint, ...]
    without_gain: tuple[str, ...] = ()
    too_noisy: tuple[str, ...] = ()
    not_needed: tuple[str, ...] = ()


def choose_layers(single_db: Mapping[str, float], timings: Timings, drop_db: DropDb, budget: Budget) -> LayerSelection:
    """Drops layers, most decibels per time saved first, until the rest together keeps the budget.

    Layers in which INT8 saves no time are dropped before anything else, and those of which the share in the budget is
    more than PRICE times the share in the time saved. Then the fewest that keep the budget are found by bisection, and
    the largest of those that were dropped get another chance. For a latency target see `choose_for_target`.

    Args:
        single_db: what every layer that may be INT8 costs alone.
        timings: what each saves.
        drop_db: the joint check.
        budget: what may be lost.

    Raises:
        NothingToQuantize: not even one layer alone keeps the budget.
    """
    without_gain, too_noisy = layers_without_gain(single_db, timings), _too_noisy(single_db, timings, budget)
    gate = Gate(noisiest_first(single_db, timings, {*without_gain, *too_noisy}), timings, drop_db)
    chosen = gate.most_within(budget.max_drop_db)
    return replace(gate.selection(tuple(single_db), chosen), without_gain=without_gain, too_noisy=too_noisy)


class Gate:
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

    def most_within(self, max_drop_db: float) -> frozenset[str]:
        """The layers that remain; raises NothingToQuantize where none does."""
        dropped = self.fewest_dropped(max_drop_db)
        if dropped == len(self._order):
            best = self.drop_db(dropped - 1)
            raise NothingToQuantize(
                f"no INT8 layer stays within {max_drop_db:g} dB: the least noisy one, {self._order[-1]}, costs "
                f"{best:.2g} dB",
                found=best,
                wanted=max_drop_db,
                remedy="allow a larger drop, or deploy the model in float",
            )
        return self._with_returns(dropped, max_drop_db)

    def fewest_dropped(self, max_drop_db: float) -> int:
        """How many to drop from the front of the order, by bisection; as many as there are where no layer may remain.

        It begins with none and a quarter of them: few are dropped as a rule.
        """
        low, high, middle = 0, len(self._order), 0
        while low < high:
            if self.drop_db(middle) <= max_drop_db:
                high = middle
            else:
                low = middle + 1
            middle = low + (high - low) // (4 if low == 1 else 2)
        return low

    def _with_returns(self, dropped: int, max_drop_db: float) -> frozenset[str]:
        chosen = frozenset(self._order[dropped:])
        by_saving = sorted(self._order[:dropped], key=lambda name: self._timings.saved[name], reverse=True)
        for name in by_saving[:RETURNS]:
            if self._timings.saved[name] > 0.0 and self.joint(chosen | {name}) <= max_drop_db:
                chosen |= {name}
        return chosen

    def selection(self, layers: Sequence[str], chosen: Collection[str]) -> LayerSelection:
        """With the points of a curve from all the layers to none of them."""
        self.joint(layers)
        self._draw_curve()
        return LayerSelection(tuple(name for name in layers if name in chosen), self.joint(chosen), self._points())

    def _draw_curve(self) -> None:
        """Makes sure of some points from many layers to few."""
        for share in CURVE:
            self.drop_db(round(share * (len(self._order) - 1)))

    def _points(self) -> tuple[CurvePoint, ...]:
        finite = {int8: drop for int8, drop in self._known.items() if math.isfinite(drop)}
        found = [CurvePoint(len(int8), drop, self._timings.cost(int8)) for int8, drop in finite.items()]
        found.append(CurvePoint(0, 0.0, self._timings.cost(())))
        return tuple(sorted(found, key=lambda point: (point.cost, point.drop_db)))


def layers_without_gain(single_db: Mapping[str, float], timings: Timings) -> tuple[str, ...]:
    """Those in which INT8 saves no time; none where it saves none in any."""
    found = tuple(name for name in single_db if timings.saved[name] <= 0.0)
    return found if len(found) < len(single_db) else ()


def _too_noisy(single_db: Mapping[str, float], timings: Timings, budget: Budget) -> tuple[str, ...]:
    saved = {name: max(0.0, timings.saved[name]) for name in single_db}
    total = sum(saved.values())
    if budget.max_drop_db == 0.0 or total == 0.0:
        return ()
    found = tuple(
        name
        for name, cost_db in single_db.items()
        if saved[name] > 0.0 and cost_db / budget.max_drop_db > PRICE * saved[name] / total
    )
    return found if len(found) < sum(value > 0.0 for value in saved.values()) else ()


def noisiest_first(single_db: Mapping[str, float], timings: Timings, without: Collection[str]) -> list[str]:
    """Most decibels per time saved first; where no layer saves any, by decibels alone."""
    nothing_saves = all(timings.saved[name] <= 0.0 for name in single_db)
    return sorted(
        (name for name in single_db if name not in without),
        key=lambda name: single_db[name] / (1.0 if nothing_saves else timings.saved[name]),
        reverse=True,
    )
