"""Which graph a runtime runs, by measured times. Times are injected, and the clock is made of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest

from sr_edge.deploy.pass_timing import MAX_ROUNDS, MIN_ROUNDS, Candidates, Passes, Run, Times, decide, time_in_turn
from sr_edge.errors import EngineError, PrecisionUnavailable, SrEdgeError

PLAIN: Passes = ()
FOLDED, FIRST, SPLIT = ("folded",), ("folded", "channel-first"), ("folded", "split")
BOTH = ("folded", "channel-first", "split")


@dataclass
class Machine:
    """A runtime in which every graph takes the same time again and again.

    Attributes:
        ms: The times of a graph, which are repeated.
        bf16_ms: Its times in a second precision; empty for a machine with one.
        opening_s: How long it takes to open a graph.
        refused: The graphs that cannot be opened, with the errors.
        now_s: The clock.
        opened: The graphs that were opened.
    """

    ms: Mapping[Passes, Sequence[float]]
    opening_s: float = 0.1
    refused: Mapping[Passes, SrEdgeError] = field(default_factory=dict)
    bf16_ms: Mapping[Passes, Sequence[float]] = field(default_factory=dict)
    now_s: float = 0.0
    opened: list[Passes] = field(default_factory=list)

    def clock(self) -> float:
        return self.now_s

    @contextmanager
    def open(self, passes: Passes) -> Iterator[Run]:
        self.now_s += self.opening_s
        if passes in self.refused:
            raise self.refused[passes]
        self.opened.append(passes)
        runs = 0

        def run() -> Times:
            nonlocal runs
            runs += 1
            precisions = [times[passes] for times in (self.ms, self.bf16_ms) if times]
            taken = tuple(times[runs % len(times)] for times in precisions)
            self.now_s += sum(taken) / 1e3
            return taken

        yield run


def candidates(*single: Passes, every: Passes = (), shared: Passes = FOLDED) -> Candidates:
    def combined(several: Sequence[Passes]) -> Passes:
        names = {name for passes in several for name in passes}
        return tuple(name for name in BOTH if name in names)

    return Candidates(shared, PLAIN, every or shared, single, combined)


def chosen(machine: Machine, *single: Passes, budget_s: float = 20.0) -> Passes:
    return decide(candidates(*single), machine.open, budget_s, machine.clock).passes


def test_the_faster_graph_is_chosen_and_compared_with_the_plain_one() -> None:
    machine = Machine({PLAIN: [20.0], FOLDED: [16.0], FIRST: [10.0]})
    decision = decide(candidates(FIRST), machine.open, 20.0, machine.clock)
    assert decision.passes == FIRST
    assert decision.base == PLAIN
    assert decision.ratio.median == pytest.approx(0.5)
    assert decision.rounds == MAX_ROUNDS
    assert decision.remarks == ()


@pytest.mark.parametrize(
    "first_ms",
    [[16.2], [15.9], [10.0, 22.0], [15.0, 15.0, 15.0, 17.0, 17.0, 17.0]],
    ids=["slower", "gain too small for a file", "as often slower", "within the noise"],
)
def test_the_shared_graph_stays_where_a_pass_is_not_surely_faster(first_ms: list[float]) -> None:
    machine = Machine({PLAIN: [20.0], FOLDED: [16.0], FIRST: first_ms})
    assert chosen(machine, FIRST) == FOLDED


def test_the_plain_graph_is_chosen_where_the_passes_for_all_targets_are_slower() -> None:
    machine = Machine({PLAIN: [10.0], FOLDED: [16.0], FIRST: [15.0]})
    assert chosen(machine, FIRST) == PLAIN


def test_a_graph_that_is_slower_in_another_precision_is_not_chosen() -> None:
    machine = Machine(
        {PLAIN: [20.0], FOLDED: [16.0], FIRST: [10.0], SPLIT: [14.0]},
        bf16_ms={PLAIN: [10.0], FOLDED: [8.0], FIRST: [8.5], SPLIT: [8.0]},
    )
    decision = decide(candidates(FIRST, SPLIT), machine.open, 20.0, machine.clock)
    assert decision.passes == SPLIT
    assert decision.ratio.median == pytest.approx(0.7)


def test_a_gain_in_another_precision_suffices() -> None:
    machine = Machine(
        {PLAIN: [20.0], FOLDED: [16.0], FIRST: [16.0]}, bf16_ms={PLAIN: [10.0], FOLDED: [8.0], FIRST: [6.0]}
    )
    assert chosen(machine, FIRST) == FIRST


def test_the_plain_graph_is_chosen_where_the_shared_one_is_slower_in_another_precision() -> None:
    machine = Machine(
        {PLAIN: [20.0], FOLDED: [19.0], FIRST: [18.0]}, bf16_ms={PLAIN: [10.0], FOLDED: [10.5], FIRST: [10.4]}
    )
    assert chosen(machine, FIRST) == PLAIN


def test_a_pass_is_chosen_against_the_plain_graph_where_the_shared_one_is_slower() -> None:
    machine = Machine({PLAIN: [15.0], FOLDED: [16.0], FIRST: [13.0]})
    assert chosen(machine, FIRST) == FIRST


def test_passes_that_win_alone_are_combined() -> None:
    machine = Machine({PLAIN: [20.0], FOLDED: [16.0], FIRST: [12.0], SPLIT: [13.0], BOTH: [9.0]})
    decision = decide(candidates(FIRST, SPLIT), machine.open, 20.0, machine.clock)
    assert decision.passes == BOTH
    assert decision.ratio.median == pytest.approx(0.45)


@pytest.mark.parametrize("both_ms", [[12.1], [11.0, 13.0]], ids=["slower", "as often slower"])
def test_a_combination_that_is_not_faster_than_the_best_pass_is_not_chosen(both_ms: list[float]) -> None:
    machine = Machine({PLAIN: [20.0], FOLDED: [16.0], FIRST: [12.0], SPLIT: [13.0], BOTH: both_ms})
    assert chosen(machine, FIRST, SPLIT) == FIRST


def test_all_passes_are_tried_since_some_help_only_after_others() -> None:
    machine = Machine({PLAIN: [20.0], FOLDED: [16.0], FIRST: [16.0], BOTH: [9.0]})
    decision = decide(candidates(FIRST, every=BOTH), machine.open, 20.0, machine.clock)
    assert decision.passes == BOTH


def test_passes_that_do_not_win_are_not_combined() -> None:
    machine = Machine({PLAIN: [20.0], FOLDED: [16.0], FIRST: [12.0], SPLIT: [16.5]})
    assert chosen(machine, FIRST, SPLIT) == FIRST
    assert BOTH not in machine.opened


def test_the_time_limit_is_kept_but_for_one_round() -> None:
    machine = Machine({PLAIN: [300.0], FOLDED: [300.0], FIRST: [200.0], SPLIT: [200.0], BOTH: [100.0]})
    assert chosen(machine, FIRST, SPLIT, budget_s=20.0) == BOTH
    assert machine.now_s <= 20.0 + 1.0


def test_a_network_that_is_too_slow_for_the_limit_keeps_the_shared_graph_and_says_so() -> None:
    machine = Machine({PLAIN: [3000.0], FOLDED: [3000.0], FIRST: [1000.0]})
    decision = decide(candidates(FIRST), machine.open, 20.0, machine.clock)
    assert decision.passes == FOLDED
    assert decision.rounds == 0
    assert len(decision.remarks) == 3
    assert machine.now_s < 20.0 + 7.0


def test_graphs_that_take_too_long_to_open_are_left_out() -> None:
    """The plain graph and the shared one are opened in any case; then nothing can be gained any more."""
    machine = Machine({PLAIN: [10.0], FOLDED: [16.0], FIRST: [1.0]}, opening_s=6.0)
    decision = decide(candidates(FIRST), machine.open, 20.0, machine.clock)
    assert FIRST not in machine.opened
    assert decision.passes == PLAIN
    assert len(decision.remarks) == 1


def test_graphs_that_leave_no_time_for_rounds_of_all_are_left_out() -> None:
    """Six rounds of two graphs take 12 s, of three 18 s, which is too much after they were opened and run once."""
    machine = Machine({PLAIN: [800.0], FOLDED: [1000.0], FIRST: [1000.0]})
    decision = decide(candidates(FIRST), machine.open, 15.0, machine.clock)
    assert FIRST not in machine.opened
    assert decision.passes == PLAIN
    assert decision.rounds >= MIN_ROUNDS


def test_a_graph_that_the_runtime_refuses_is_left_out_and_named() -> None:
    machine = Machine(
        {PLAIN: [20.0], FOLDED: [16.0], SPLIT: [10.0]}, refused={FIRST: EngineError("no kernel for this Split")}
    )
    decision = decide(candidates(FIRST, SPLIT), machine.open, 20.0, machine.clock)
    assert decision.passes == SPLIT
    (remark,) = decision.remarks
    assert "no kernel for this Split" in remark


def test_nothing_is_chosen_where_the_shared_graph_is_refused() -> None:
    machine = Machine({PLAIN: [20.0], FIRST: [10.0]}, refused={FOLDED: EngineError("no kernel")})
    decision = decide(candidates(FIRST), machine.open, 20.0, machine.clock)
    assert (decision.passes, decision.rounds) == (FOLDED, 0)


def test_a_precision_that_the_runtime_does_not_run_is_an_error() -> None:
    machine = Machine({}, refused={FOLDED: PrecisionUnavailable("no INT8 here")})
    with pytest.raises(PrecisionUnavailable):
        decide(candidates(FIRST), machine.open, 20.0, machine.clock)


def test_the_graphs_run_in_turn_after_a_run_that_is_not_counted() -> None:
    machine = Machine({FOLDED: [100.0, 1.0, 2.0], FIRST: [100.0, 3.0, 4.0]})
    timings = time_in_turn((FOLDED, FIRST), machine.open, 20.0, machine.clock)
    assert list(timings.rounds_ms[FOLDED][:3]) == [(2.0,), (100.0,), (1.0,)]
    assert list(timings.rounds_ms[FIRST][:3]) == [(4.0,), (100.0,), (3.0,)]
    (ratio,) = timings.ratios(FIRST, FOLDED)
    assert ratio.median == pytest.approx(2.0)


def test_too_few_rounds_decide_nothing() -> None:
    machine = Machine({FOLDED: [1000.0], FIRST: [500.0]})
    timings = time_in_turn((FOLDED, FIRST), machine.open, 1.5 * MIN_ROUNDS - 1.0, machine.clock)
    assert timings.rounds_ms == {}
    assert set(timings.failures) == {FOLDED, FIRST}
