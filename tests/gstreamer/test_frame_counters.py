"""The element's frame counters and its latency, which need no GStreamer."""

from __future__ import annotations

import pytest

from sr_edge.gstreamer.frame_counters import (
    FrameCounters,
    earliest_after_qos,
    is_significant_increase,
    latency_ns,
    reaches_power_of_ten,
)

NO_TIMESTAMP = 2**64 - 1


def test_a_dequeued_frame_shows_which_earlier_ones_were_displaced() -> None:
    counters = FrameCounters(queue_frames=2)
    for pts in (0, 10, 20, 30):
        counters.receive(pts)
    counters.dequeue(0)
    assert counters.dropped == 0
    counters.dequeue(30)
    assert counters.dropped == 2


def test_late_frames_count_as_dropped() -> None:
    counters = FrameCounters()
    for pts in (0, 10):
        counters.receive(pts)
        counters.dequeue(pts)
    counters.refuse()
    assert (counters.received, counters.dropped) == (2, 1)


def test_frames_without_a_timestamp_are_counted() -> None:
    counters = FrameCounters(queue_frames=1)
    for _ in range(9):
        counters.receive(NO_TIMESTAMP)
    counters.dequeue(NO_TIMESTAMP)
    assert counters.dropped == 6
    counters.dequeue(NO_TIMESTAMP)
    counters.end()
    assert counters.dropped == 7


def test_a_seek_drops_nothing() -> None:
    counters = FrameCounters(queue_frames=1)
    counters.receive(0)
    counters.receive(10)
    counters.flush()
    counters.receive(0)
    counters.dequeue(0)
    counters.end()
    assert (counters.received, counters.dropped) == (1, 0)


def test_an_upscaled_frame_ends_a_row_of_failures() -> None:
    counters = FrameCounters()
    counters.fail()
    counters.fail()
    assert counters.failed_in_a_row == 2
    counters.deliver(10.0)
    assert (counters.failed, counters.failed_in_a_row) == (2, 0)


@pytest.mark.parametrize(
    ("before", "now", "is_reported"), [(0, 1, True), (1, 2, False), (9, 10, True), (3, 120, True), (100, 999, False)]
)
def test_counts_are_reported_at_powers_of_ten(before: int, now: int, is_reported: bool) -> None:
    assert reaches_power_of_ten(before, now) is is_reported


def test_a_slow_network_adds_the_wait_for_the_previous_frame() -> None:
    assert latency_ns(processing_ms=20, interval_ms=33) == 20_000_000
    assert latency_ns(processing_ms=40, interval_ms=33) == 80_000_000


def test_small_increases_of_latency_are_not_reported() -> None:
    assert is_significant_increase(0, 1)
    assert not is_significant_increase(20_000_000, 24_000_000)
    assert is_significant_increase(20_000_000, 26_000_000)


def test_a_late_sink_can_catch_up() -> None:
    assert earliest_after_qos(1000, 50) == 1100
    assert earliest_after_qos(1000, -50) == 950
