"""Decides by measurement which graph a runtime runs: all candidates are open and run in turn, within a time limit.

A candidate replaces the graph that all runtimes share only where the whole 95 % interval of the ratios of their times,
taken round by round, is below 1 and the gain is worth a file of its own. A graph runs in several precisions where the
processor computes in bf16, too; then it must not be slower in any of them, since the same file serves all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from statistics import geometric_mean

from sr_edge.errors import PrecisionUnavailable, SrEdgeError
from sr_edge.printable import one_line
from sr_edge.runtimes import MedianInterval

MIN_ROUNDS = 6
"""Fewer rounds have no 95 % interval."""

MAX_ROUNDS = 60
LEAST_GAIN = 0.02
"""A smaller gain is not worth a second file in the bundle."""

MOST_LOSS = 0.01
"""A larger loss in one of the precisions excludes a graph."""

OPENING_SHARE, SINGLE_SHARE = 0.5, 0.6
"""The share of the time limit in which graphs are opened, and that of the single passes before their combination.

Two graphs are opened in any case, since nothing can be decided with fewer."""

Passes = tuple[str, ...]
Times = tuple[float, ...]
"""Times in milliseconds, one for each precision in which the graph runs."""

Run = Callable[[], Times]
"""Runs a graph once in each precision."""

OpenGraph = Callable[[Passes], AbstractContextManager[Run]]
"""Opens the graph that has these passes."""


@dataclass(frozen=True)
class Candidates:
    """The graphs of one precision among which a runtime chooses, each named by its passes.

    Attributes:
        shared: The graph that all runtimes share.
        plain: The graph without passes; it is `shared` where no pass is a gain on every target.
        every: The graph with all passes, some of which change a graph only after others.
        single: `shared` with one more pass each.
        combined: Returns `shared` with several of these passes.
    """

    shared: Passes
    plain: Passes
    every: Passes
    single: tuple[Passes, ...]
    combined: Callable[[Sequence[Passes]], Passes]

    @property
    def first(self) -> tuple[Passes, ...]:
        """What is timed first, without repetitions, in the order of importance."""
        return tuple(dict.fromkeys((self.shared, self.plain, self.every, *self.single)))


@dataclass(frozen=True)
class Timings:
    """The times of several graphs, measured in the same rounds.

    Attributes:
        rounds_ms: The time in each round by the passes of the graph.
        failures: Why the other graphs could not be timed.
    """

    rounds_ms: Mapping[Passes, Sequence[Times]]
    failures: Mapping[Passes, str] = field(default_factory=dict)

    def ratios(self, passes: Passes, base: Passes) -> tuple[MedianInterval, ...]:
        """The time of a graph divided by that of another one, round by round, in each precision."""
        pairs = zip(self.rounds_ms[passes], self.rounds_ms[base], strict=True)
        by_round = [[ms / base_ms for ms, base_ms in zip(*times, strict=True)] for times in pairs]
        return tuple(MedianInterval.of(ratios) for ratios in zip(*by_round, strict=True))

    def is_faster(self, passes: Passes, base: Passes, least_gain: float = LEAST_GAIN) -> bool:
        """Whether a graph is faster than another one by more than noise in a precision, and slower in none."""
        ratios = self.ratios(passes, base)
        gains = [ratio for ratio in ratios if ratio.high < 1.0 and ratio.median <= 1.0 - least_gain]
        return bool(gains) and not self.is_slower(passes, base)

    def is_slower(self, passes: Passes, base: Passes) -> bool:
        """Whether a graph is slower than another one by more than noise in one of the precisions."""
        return any(ratio.low > 1.0 and ratio.median > 1.0 + MOST_LOSS for ratio in self.ratios(passes, base))

    def mean_ratio(self, passes: Passes, base: Passes) -> float:
        """The geometric mean of the ratios over the precisions."""
        return geometric_mean([ratio.median for ratio in self.ratios(passes, base)])


@dataclass(frozen=True)
class Decision:
    """The graph that a runtime runs.

    Attributes:
        passes: Its passes.
        base: The passes of the graph that it was compared with: the plain one, or the shared one where that was not
            timed.
        ratio: Its time divided by that of the base, in the first precision.
        rounds: The number of rounds.
        remarks: What could not be timed.
    """

    passes: Passes
    base: Passes
    ratio: MedianInterval
    rounds: int
    remarks: tuple[str, ...] = ()


Decide = Callable[[Candidates, OpenGraph, float, Callable[[], float]], Decision]
"""A function with the arguments of `decide`."""


def decide(candidates: Candidates, open_graph: OpenGraph, budget_s: float, clock: Callable[[], float]) -> Decision:
    """Times the candidates and chooses the fastest; the shared graph where nothing is faster or could be timed.

    The plain graph takes the place of the shared one where that is slower. Single passes are timed first. Where several
    are faster, the graph with all of them is timed against the fastest.

    Args:
        candidates: The graphs.
        open_graph: Opens one of them; raises SrEdgeError where the runtime refuses it.
        budget_s: Seconds that opening and timing may take.
        clock: Returns the time in seconds.

    Raises:
        PrecisionUnavailable: The runtime does not run the precision of the shared graph.
    """
    started = clock()
    share = SINGLE_SHARE if len(candidates.single) > 1 else 1.0
    first = time_in_turn(candidates.first, open_graph, share * budget_s, clock)
    if not first.rounds_ms:
        return _decision(candidates.shared, candidates, first)
    plain = candidates.plain if candidates.plain in first.rounds_ms else candidates.shared
    usual = plain if first.is_slower(candidates.shared, plain) else candidates.shared
    faster = [
        passes
        for passes in first.rounds_ms
        if passes != usual and first.is_faster(passes, usual) and not first.is_slower(passes, plain)
    ]
    best = min(faster, key=lambda passes: first.mean_ratio(passes, usual), default=usual)
    decided = _decision(best, candidates, first)
    winners = [passes for passes in faster if passes in candidates.single]
    if len(winners) < 2:
        return decided
    both = candidates.combined(winners)
    left_s = budget_s - (clock() - started)
    second = time_in_turn(tuple(dict.fromkeys((best, both, candidates.plain))), open_graph, left_s, clock)
    if both in second.rounds_ms and second.is_faster(both, best, least_gain=0.0):
        return _decision(both, candidates, second)
    return decided


def _decision(passes: Passes, candidates: Candidates, timings: Timings) -> Decision:
    remarks = tuple(f"{_named(failed)}: {reason}" for failed, reason in timings.failures.items())
    if passes not in timings.rounds_ms:  # nothing could be timed
        return Decision(candidates.shared, candidates.shared, MedianInterval(1.0, 1.0, 1.0), 0, remarks)
    base = next(each for each in (candidates.plain, candidates.shared, passes) if each in timings.rounds_ms)
    return Decision(passes, base, timings.ratios(passes, base)[0], len(timings.rounds_ms[passes]), remarks)


def _named(passes: Passes) -> str:
    return f"with {', '.join(passes)}" if passes else "the plain graph"


def time_in_turn(
    graphs: Sequence[Passes], open_graph: OpenGraph, budget_s: float, clock: Callable[[], float]
) -> Timings:
    """Opens the graphs and runs them in turn, A B A B, after one run of each that is not counted.

    Args:
        graphs: The graphs; without the first one nothing is timed. From the third on, a graph is not opened if it would
            leave no time for MIN_ROUNDS rounds of all.
        open_graph: Opens one of them.
        budget_s: Seconds that opening and timing may take.
        clock: Returns the time in seconds.

    Raises:
        PrecisionUnavailable: The runtime does not run the precision of the first graph.
    """
    started = clock()
    failures: dict[Passes, str] = {}
    with ExitStack() as stack:
        runs: dict[Passes, Run] = {}
        round_s = 0.0
        for passes in graphs:
            spent_s = clock() - started
            if len(runs) > 1 and spent_s > OPENING_SHARE * budget_s:
                failures[passes] = "not timed, since opening the other graphs took too long"
                continue
            if len(runs) > 1 and spent_s + MIN_ROUNDS * round_s * (len(runs) + 1) / len(runs) > budget_s:
                failures[passes] = f"not timed, since {MIN_ROUNDS} rounds with this graph, too, would take too long"
                continue
            try:
                runs[passes] = stack.enter_context(open_graph(passes))
                round_s += sum(runs[passes]()) / 1e3
            except SrEdgeError as error:
                runs.pop(passes, None)
                if not runs and isinstance(error, PrecisionUnavailable):
                    raise
                failures[passes] = one_line(error.problem)
                if not runs:
                    return Timings({}, failures)
        if len(runs) < 2:
            return Timings({}, failures)
        rounds = _rounds(list(runs.values()), started + budget_s, clock)
    if len(rounds) < MIN_ROUNDS:
        slow = f"not timed: {len(rounds)} rounds in {budget_s:.0f} s, {MIN_ROUNDS} needed"
        return Timings({}, {**failures, **dict.fromkeys(runs, slow)})
    return Timings(dict(zip(runs, zip(*rounds, strict=True), strict=True)), failures)


def _rounds(runs: Sequence[Run], deadline: float, clock: Callable[[], float]) -> list[list[Times]]:
    """The times of each round; the last one may end after the deadline by as much as one round takes."""
    rounds: list[list[Times]] = []
    while len(rounds) < MAX_ROUNDS and clock() < deadline:
        rounds.append([run() for run in runs])
    return rounds
