"""The time line of a stream whose timestamps are missing, restart or do not increase."""

from __future__ import annotations

from fractions import Fraction

from sr_edge.camera.media.timeline import Timeline

MPEG = Fraction(1, 90_000)
SECOND_NS = 10**9


def placed(timeline: Timeline, times: list[int | None], seconds: list[float] | None = None) -> list[int]:
    clock = seconds or [number / 10 for number in range(len(times))]
    return [timeline.place(pts, MPEG, round(s * SECOND_NS)) for pts, s in zip(times, clock, strict=True)]


def test_a_files_times_are_left_alone_however_uneven() -> None:
    times: list[int | None] = [7, 3003, 3004, 90_000, 5_000_000]
    assert placed(Timeline(is_live=False), times) == times


def test_a_live_stream_begins_at_zero_and_keeps_its_distances() -> None:
    assert placed(Timeline(is_live=True), [8_123_456, 8_126_456, 8_132_456]) == [0, 3000, 9000]


def test_a_first_time_that_is_absent_is_one_frame_before_the_next() -> None:
    timeline = Timeline(is_live=True, rate=Fraction(25))
    assert placed(timeline, [None, 500_000, 503_600], [0, 0.001, 0.002]) == [0, 3600, 7200]


def test_live_frames_without_times_are_placed_by_the_clock_also_after_a_pause() -> None:
    seconds = [0.0, 0.04, 0.30, 0.34, 0.38]
    assert placed(Timeline(is_live=True), [None] * 5, seconds) == [round(90_000 * s) for s in seconds]


def test_frames_without_times_of_a_constant_rate_follow_it_and_not_their_arrival() -> None:
    timeline = Timeline(is_live=True, rate=Fraction(10), is_constant=True)
    assert placed(timeline, [None] * 4, [0.0, 0.01, 0.5, 0.51]) == [0, 9000, 18_000, 27_000]
    timeline.restart()
    assert timeline.place(None, MPEG, round(2.51 * SECOND_NS)) == 27_000 + 180_000
    assert timeline.place(None, MPEG, round(2.52 * SECOND_NS)) == 27_000 + 189_000


def test_a_live_stream_that_restarts_goes_on_by_the_clock() -> None:
    timeline = Timeline(is_live=True)
    assert placed(timeline, [100, 3100], [0, 1 / 30]) == [0, 3000]
    timeline.restart()
    assert timeline.place(50, MPEG, 2 * SECOND_NS) == 3000 + round((2 - 1 / 30) * 90_000)
    assert timeline.place(3050, MPEG, 3 * SECOND_NS) == 6000 + round((2 - 1 / 30) * 90_000)


def test_a_time_that_jumps_back_is_moved_with_all_that_follow() -> None:
    assert placed(Timeline(is_live=False), [0, 3000, 6000, 0, 3000]) == [0, 3000, 6000, 9000, 12_000]


def test_times_always_rise_in_another_unit_too() -> None:
    timeline = Timeline(is_live=False)
    assert timeline.place(90_000, MPEG, 0) == 90_000
    assert timeline.place(1000, Fraction(1, 1000), 0) > 1000
    assert timeline.offset_s > 0


def test_what_goes_beside_the_frames_knows_where_they_went() -> None:
    timeline = Timeline(is_live=True)
    assert not timeline.has_begun
    timeline.place(9000, MPEG, 0)
    assert timeline.has_begun
    assert timeline.offset_s == Fraction(-1, 10)
