"""Selects the INT8 layers that save the most time while their joint loss stays within the budget.

The losses of single layers do not add up, so the loss of every set of layers is measured.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from sr_edge.calibration.result.timings import Timings
from sr_edge.errors import NothingToQuantize, UsageError

DropDb = Callable[[Collection[str]], float]
"""The joint loss of these layers in INT8, in dB; infinite if an output is not finite."""

CURVE_SHARES = (0.0, 0.05, 0.25, 0.6)
"""The shares of layers left float at the points of the curve that are always measured."""

MAX_PRICE = 4.0
"""The largest ratio of a layer's share of the budget to its share of the time saved."""

RETRIES = 4
"""The number of layers left float that are tried again, one by one, while the budget is not used up."""


@dataclass(frozen=True)
class Budget:
    """The largest loss `max_drop_db`; with `latency_ms`, only as much of it as that latency for one tile requires.

    Attributes:
        max_drop_db: Largest loss of PSNR against the float network, on held-out patches.
        latency_ms: Target for the latency of one tile; None uses the whole budget.
    """

    max_drop_db: float = 0.05
    latency_ms: float | None = None

    def __post_init__(self) -> None:
        if not self.max_drop_db >= 0.0:
            raise UsageError(
                f"the largest allowed loss is {self.max_drop_db} dB, but it cannot be below 0 dB",
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
    """One set of INT8 layers on the curve of loss against time.

    Attributes:
        int8_layers: The number of INT8 layers.
        drop_db: Their joint loss, which is finite.
        cost: The time of one tile; or the MMAC of the layers left float where no runtime was timed.
    """

    int8_layers: int
    drop_db: float
    cost: float


@dataclass(frozen=True)
class LayerSelection:
    """The layers to make INT8, and why the others stay float.

    Attributes:
        int8: The names of the INT8 layers, in graph order.
        drop_db: Their joint loss.
        curve: All sets of layers that were measured.
        without_gain: Layers that stay float because INT8 saves no time in them.
        too_noisy: Layers that stay float because they lose too much quality for the time that they save.
        not_needed: Layers that stay float because the latency target is met without them.
    """

    int8: tuple[str, ...]
    drop_db: float
    curve: tuple[CurvePoint, ...]
    without_gain: tuple[str, ...] = ()
    too_noisy: tuple[str, ...] = ()
    not_needed: tuple[str, ...] = ()


def choose_layers(single_db: Mapping[str, float], timings: Timings, drop_db: DropDb, budget: Budget) -> LayerSelection:
    """Drops layers, those with the largest loss per time saved first, until the rest stays within the budget.

    Layers in which INT8 saves no time are dropped before all others, as are those whose share of the budget is more
    than MAX_PRICE times their share of the time saved. Then bisection finds the smallest number of further layers to
    drop, and those of the dropped layers that save the most time are tried again. For a latency target see
    `choose_for_target`.

    Args:
        single_db: The loss of every quantizable layer alone.
        timings: What each layer saves.
        drop_db: Measures the joint loss.
        budget: The largest loss.

    Raises:
        NothingToQuantize: Every single layer exceeds the budget on its own.
    """
    without_gain, too_noisy = layers_without_gain(single_db, timings), _too_noisy(single_db, timings, budget)
    gate = Gate(noisiest_first(single_db, timings, {*without_gain, *too_noisy}), timings, drop_db)
    chosen = gate.most_within(budget.max_drop_db)
    return replace(gate.selection(tuple(single_db), chosen), without_gain=without_gain, too_noisy=too_noisy)


class Gate:
    """Measures sets of layers and remembers the results.

    `dropped` is a number of layers left float, counted from the front of the order.
    """

    def __init__(self, order: Sequence[str], timings: Timings, drop_db: DropDb) -> None:
        self._order = order
        self._timings = timings
        self._drop_db = drop_db
        self._drops_db: dict[frozenset[str], float] = {}

    def joint(self, int8: Collection[str]) -> float:
        key = frozenset(int8)
        if key not in self._drops_db:
            self._drops_db[key] = self._drop_db(key)
        return self._drops_db[key]

    def drop_db(self, dropped: int) -> float:
        return self.joint(self._order[dropped:])

    def most_within(self, max_drop_db: float) -> frozenset[str]:
        """The layers that remain within the budget; raises NothingToQuantize if none does."""
        dropped = self.fewest_dropped(max_drop_db)
        if dropped == len(self._order):
            best = self.drop_db(dropped - 1)
            raise NothingToQuantize(
                f"no layer can be INT8 within a loss of {max_drop_db:g} dB: the least noisy one, {self._order[-1]}, "
                f"loses {best:.2g} dB",
                found=best,
                wanted=max_drop_db,
                remedy="allow a larger loss, or deploy the model in float",
            )
        return self._with_retries(dropped, max_drop_db)

    def fewest_dropped(self, max_drop_db: float) -> int:
        """The number of layers to drop from the front of the order, found by bisection; all if none may remain.

        The search begins with none and a quarter of them, because usually few are dropped.
        """
        low, high, middle = 0, len(self._order), 0
        while low < high:
            if self.drop_db(middle) <= max_drop_db:
                high = middle
            else:
                low = middle + 1
            middle = low + (high - low) // (4 if low == 1 else 2)
        return low

    def _with_retries(self, dropped: int, max_drop_db: float) -> frozenset[str]:
        chosen = frozenset(self._order[dropped:])
        by_saving = sorted(self._order[:dropped], key=lambda name: self._timings.saved[name], reverse=True)
        for name in by_saving[:RETRIES]:
            if self._timings.saved[name] > 0.0 and self.joint(chosen | {name}) <= max_drop_db:
                chosen |= {name}
        return chosen

    def selection(self, layers: Sequence[str], chosen: Collection[str]) -> LayerSelection:
        """The selection with the points of the curve, from all layers in INT8 to none."""
        self.joint(layers)
        self._draw_curve()
        return LayerSelection(tuple(name for name in layers if name in chosen), self.joint(chosen), self._points())

    def _draw_curve(self) -> None:
        """Measures some sets of layers, from many to few, for the curve."""
        for share in CURVE_SHARES:
            self.drop_db(round(share * (len(self._order) - 1)))

    def _points(self) -> tuple[CurvePoint, ...]:
        finite = {int8: drop for int8, drop in self._drops_db.items() if math.isfinite(drop)}
        points = [CurvePoint(len(int8), drop, self._timings.cost(int8)) for int8, drop in finite.items()]
        points.append(CurvePoint(0, 0.0, self._timings.cost(())))
        return tuple(sorted(points, key=lambda point: (point.cost, point.drop_db)))


def layers_without_gain(single_db: Mapping[str, float], timings: Timings) -> tuple[str, ...]:
    """The layers in which INT8 saves no time; none if it saves no time in any layer."""
    names = tuple(name for name in single_db if timings.saved[name] <= 0.0)
    return names if len(names) < len(single_db) else ()


def _too_noisy(single_db: Mapping[str, float], timings: Timings, budget: Budget) -> tuple[str, ...]:
    saved = {name: max(0.0, timings.saved[name]) for name in single_db}
    total = sum(saved.values())
    if budget.max_drop_db == 0.0 or total == 0.0:
        return ()
    names = tuple(
        name
        for name, cost_db in single_db.items()
        if saved[name] > 0.0 and cost_db / budget.max_drop_db > MAX_PRICE * saved[name] / total
    )
    return names if len(names) < sum(value > 0.0 for value in saved.values()) else ()


def noisiest_first(single_db: Mapping[str, float], timings: Timings, without: Collection[str]) -> list[str]:
    """The layers by loss per time saved, the largest first; by loss alone if no layer saves time."""
    nothing_saves = all(timings.saved[name] <= 0.0 for name in single_db)
    return sorted(
        (name for name in single_db if name not in without),
        key=lambda name: single_db[name] / (1.0 if nothing_saves else timings.saved[name]),
        reverse=True,
    )
