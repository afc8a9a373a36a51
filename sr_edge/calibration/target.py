"""A latency target: the best quality that takes at most so many milliseconds, by whole graphs that are timed.

What single layers save does not add up: an INT8 layer costs conversions around it, and some graphs with a few INT8
layers are slower than in float.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace

from sr_edge.calibration.gate import Budget, DropDb, Gate, LayerSelection, layers_without_gain, noisiest_first
from sr_edge.calibration.timings import Timings
from sr_edge.errors import NothingToQuantize

TimeMs = Callable[[Collection[str]], float]
"""What one tile takes with these layers in INT8; with none, in float."""


def require_float_misses(float_ms: float, budget: Budget, where: str) -> None:
    """Raises NothingToQuantize where the float graph, which has the best quality, meets the target."""
    if budget.latency_ms is not None and float_ms <= budget.latency_ms:
        raise NothingToQuantize(
            f"the float model already meets the latency target of {budget.latency_ms:g} ms: one tile takes "
            f"{float_ms:.2f} ms {where}, and INT8 would only cost quality, so nothing is written",
            found=float_ms,
            wanted=budget.latency_ms,
            remedy="deploy the model in float, or leave out the target to get as much INT8 as "
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
    """The least noisy layers that meet the target, or the fastest set found within the budget where none does.

    The most layers within the budget are found as by `choose_layers`. While they miss the target, those that were left
    float are tried again. Once they meet it, bisection along the order of layers finds how many can be left float.

    Args:
        single_db: what every layer that may be INT8 costs alone.
        timings: what each saves, by which they are ordered.
        drop_db: the joint check.
        time_ms: times a whole graph; the float one misses the target.
        max_drop_db: what may be lost.
        latency_ms: the target.

    Raises:
        NothingToQuantize: not even one layer alone keeps the budget.
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
    """How many layers can be left float, from the front of the order; 0 where even all of them do not fit."""
    low, high = 0, len(order)
    while high - low > 1 and fits(order):
        middle = (low + high) // 2
        if fits(order[middle:]):
            low = middle
        else:
            high = middle
    return low
