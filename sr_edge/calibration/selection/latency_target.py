"""Selection for a latency target: the best quality whose whole graph takes at most that time.

The savings of single layers do not add up: an INT8 layer requires conversions around it, and some graphs with a few
    INT8 layers are slower than the float graph.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace

from sr_edge.calibration.result.timings import Timings
from sr_edge.calibration.selection.gate import Budget, DropDb, Gate, LayerSelection, layers_without_gain, noisiest_first
from sr_edge.errors import NothingToQuantize

TimeMs = Callable[[Collection[str]], float]
"""Milliseconds for one tile with these layers in INT8."""


def require_float_misses(float_ms: float, budget: Budget, where: str) -> None:
    """Raises NothingToQuantize if the float graph, which has the best quality, meets the latency target."""
    if budget.latency_ms is not None and float_ms <= budget.latency_ms:
        raise NothingToQuantize(
            f"the float model already meets the latency target of {budget.latency_ms:g} ms: one tile takes "
            f"{float_ms:.2f} ms {where}, and INT8 would only cost quality, so nothing is written",
            found=float_ms,
            wanted=budget.latency_ms,
            remedy="deploy the model in float, or leave out the target to get as many INT8 layers as "
            f"{budget.max_drop_db:g} dB allow",
        )


def choose_for_target(
    single_db: Mapping[str, float],
    timings: Timings,
    drop_db: DropDb,
    time_ms: TimeMs,
    max_drop_db: float,
    latency_ms: float,
) -> LayerSelection:
    """Selects the least noisy layers that meet the target; the fastest set within the budget if none meets it.

    First the most layers within the budget are found as in `choose_layers`. While their graph misses the target, the
    layers left float are tried again. Once it meets the target, bisection finds the largest number of layers that can
    stay float.

    Args:
        single_db: The loss of every quantizable layer alone.
        timings: What each layer saves; determines the order.
        drop_db: Measures the joint loss.
        time_ms: Times a whole graph. The float graph misses the target.
        max_drop_db: The largest loss.
        latency_ms: The target.

    Raises:
        NothingToQuantize: Every single layer exceeds the budget on its own.
    """
    without_gain = layers_without_gain(single_db, timings)
    useful = noisiest_first(single_db, timings, without_gain)
    gate = Gate(useful, timings, drop_db)
    by_saving = sorted(single_db, key=lambda name: timings.saved[name], reverse=True)
    most = gate.most_within(max_drop_db)
    for more in (frozenset(without_gain), *(frozenset({name}) for name in by_saving)):
        grown = most | more
        if time_ms(most) > latency_ms and gate.joint(grown) <= max_drop_db and time_ms(grown) < time_ms(most):
            most = grown
    noisiest = sorted(without_gain, key=lambda name: single_db[name], reverse=True)
    order = [name for name in (*noisiest, *useful) if name in most]

    def fits(int8: Collection[str]) -> bool:
        return time_ms(int8) <= latency_ms and gate.joint(int8) <= max_drop_db

    not_needed = _most_dropped(order, fits)
    selection = gate.selection(tuple(single_db), order[not_needed:])
    left = tuple(name for name in without_gain if name not in most)
    return replace(selection, without_gain=left, not_needed=tuple(order[:not_needed]))


def _most_dropped(order: Sequence[str], fits: Callable[[Collection[str]], bool]) -> int:
    """The largest number of layers, from the front of the order, that can stay float; 0 if all layers do not fit."""
    low, high = 0, len(order)
    while high - low > 1 and fits(order):
        middle = (low + high) // 2
        if fits(order[middle:]):
            low = middle
        else:
            high = middle
    return low
