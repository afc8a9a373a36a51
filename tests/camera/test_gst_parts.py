"""The element's frame counters and its latency, which need no GStreamer."""

from __future__ import annotations

import pytest

from sr_edge.gstreamer.tally import FrameCounters, earliest_after_qos, is_notable, latency_ns, reaches_round

NO_TIME = 2**64 - 1


def test_a_frame_whose_turn_comes_tells_of_those_that_were_displaced() -> None:
    counters = FrameCounters(most_waiting=2)
    for pts in (0, 10, 20, 30):
        counters.enter(pts)
    counters.arrive(0)
    assert counters.dropped == 0
    counters.arrive(30)
    assert counters.dropped == 2


def test_late_frames_are_dropped_ones() -> None:
    counters = FrameCounters()
    for pts in (0, 10):
        counters.enter(pts)
        counters.arrive(pts)
    counters.refuse()
    assert (counters.entered, counters.dropped) == (2, 1)


def test_frames_without_a_time_are_counted_all_the_same() -> None:
    counters = FrameCounters(most_waiting=1)
    for _ in range(9):
        counters.enter(NO_TIME)
    counters.arrive(NO_TIME)
    assert counters.dropped == 6
    counters.arrive(NO_TIME)
    counters.end()
    assert counters.dropped == 7


def test_a_seek_drops_nothing() -> None:
    counters = FrameCounters(most_waiting=1)
    counters.enter(0)
    counters.enter(10)
    counters.flush()
    counters.enter(0)
    counters.arrive(0)
    counters.end()
    assert (counters.entered, counters.dropped) == (1, 0)


def test_failures_in_a_row_end_with_a_frame_that_works() -> None:
    counters = FrameCounters()
    counters.fail()
    counters.fail()
    assert counters.failed_in_a_row == 2
    counters.deliver(10.0)
    assert (counters.failed, counters.failed_in_a_row) == (2, 0)


@pytest.mark.parametrize(
    ("before", "now", "says"), [(0, 1, True), (1, 2, False), (9, 10, True), (3, 120, True), (100, 999, False)]
)
def test_counts_are_said_at_round_numbers(before: int, now: int, says: bool) -> None:
    assert reaches_round(before, now) is says


def test_a_network_that_cannot_keep_up_adds_the_wait_for_the_frame_before() -> None:
    assert latency_ns(work_ms=20, interval_ms=33) == 20_000_000
    assert latency_ns(work_ms=40, interval_ms=33) == 80_000_000


def test_small_changes_of_latency_are_not_worth_a_message() -> None:
    assert is_notable(0, 1)
    assert not is_notable(20_000_000, 24_000_000)
    assert is_notable(20_000_000, 26_000_000)


def test_a_sink_that_is_behind_is_let_catch_up() -> None:
    assert earliest_after_qos(1000, 50) == 1100
    assert earliest_after_qos(1000, -50) == 950
