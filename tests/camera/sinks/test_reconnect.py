"""A sink that is lost in mid-stream is opened again by the same rules as a source; in test_network.py for real."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator

from sr_edge.camera import EventLog, Loop, LoopOptions, VideoFrame
from sr_edge.camera.protocols import SinkUnavailable
from sr_edge.camera.sinks.reconnect import ReconnectingSink
from sr_edge.errors import StreamError
from tests.camera.clips import flat_frame
from tests.camera.fakes import TIMEOUT_S, ListSink, ListSource, RepeatingFrameUpscaler, eventually
from tests.expected_errors import raises


class FragileSink(ListSink):
    """Takes so many frames and is lost; 0 is one that cannot be reached."""

    def __init__(self, lasts: int, reason: str = "the other side is gone") -> None:
        super().__init__()
        self.lasts = lasts
        self.reason = reason

    def write(self, frame: VideoFrame) -> None:
        if len(self.frames) == self.lasts:
            raise StreamError(f"{self.name}: {self.reason}", found=self.reason)
        super().write(frame)


def opening(
    *sinks: ListSink, event_log: EventLog | None = None, give_up_s: float | None = None, first_wait_s: float = 0.0
) -> ReconnectingSink:
    left = list(sinks)
    on_event = (event_log or EventLog()).record
    return ReconnectingSink(lambda: left.pop(0), on_event=on_event, give_up_s=give_up_s, first_wait_s=first_wait_s)


def frames(count: int) -> list[VideoFrame]:
    return [flat_frame(number, pts=number) for number in range(count)]


def numbers(sink: ListSink) -> list[int]:
    return [frame.sequence for frame in sink.frames]


def test_a_lost_sink_is_opened_again_and_no_frame_is_lost_under_block() -> None:
    sinks = [FragileSink(3), FragileSink(0, "nobody answers there"), FragileSink(0, "nobody answers there"), ListSink()]
    event_log = EventLog()
    sink = opening(*sinks, event_log=event_log)
    report = Loop(ListSource(frames(8)), RepeatingFrameUpscaler(), LoopOptions(event_log=event_log)).run(sink)
    assert numbers(sinks[0]) == [0, 1, 2]
    assert numbers(sinks[3]) == [3, 4, 5, 6, 7]
    assert (report.frames_out, report.sink_reconnections) == (8, 1)
    assert report.events[:2] == (
        "a list was lost: the other side is gone; reconnecting",
        "a list is still unavailable: nobody answers there",
    )
    assert report.events[2].startswith("a list is available again after 0.")
    assert len(report.events) == 3
    assert [one.closed for one in sinks] == [1, 1, 1, 1]


def test_waits_double_up_to_a_limit() -> None:
    sink = opening(FragileSink(1), *[FragileSink(0)] * 9, first_wait_s=0.5)
    sink.write(flat_frame(0))
    waits = []
    for _ in range(7):
        with raises(SinkUnavailable, found="the other side is gone") as caught:
            sink.write(flat_frame(1))
        waits.append(caught.value.wait_s)
    assert waits == [0.5, 1, 2, 4, 8, 8, 8]


def test_a_sink_that_cannot_be_reached_at_first_is_an_error_at_once() -> None:
    with raises(StreamError, found="nobody answers there"):
        Loop(ListSource(frames(3)), RepeatingFrameUpscaler()).run(opening(FragileSink(0, "nobody answers there")))


def test_after_so_long_it_is_given_up() -> None:
    sink = opening(FragileSink(2), FragileSink(0), give_up_s=0.0)
    with raises(StreamError, found="the other side is gone"):
        Loop(ListSource(frames(9)), RepeatingFrameUpscaler()).run(sink)


def test_a_live_source_goes_on_and_its_old_frames_are_dropped() -> None:
    away, back = threading.Event(), threading.Event()

    class Returning(ListSink):
        def write(self, frame: VideoFrame) -> None:
            away.set()
            if not back.is_set():
                raise StreamError("a list: nobody answers there")
            super().write(frame)

    endless = (flat_frame(number, pts=number) for number in itertools.count())
    final = flat_frame(1_000_000, pts=1_000_000)

    def camera() -> Iterator[VideoFrame]:
        for frame in itertools.islice(endless, 10_000):  # the first ones may be dropped before the sink has seen any
            yield frame
            if away.wait(0.003):
                break
        yield from itertools.islice(endless, 50)
        back.set()
        yield final

    last = Returning()
    sink = ReconnectingSink(itertools.chain([FragileSink(1)], itertools.repeat(last)).__next__, first_wait_s=0.0)
    report = Loop(ListSource(camera(), is_live=True), RepeatingFrameUpscaler()).run(sink)
    assert report.dropped > 40
    assert numbers(last)[-1] == final.sequence


def test_a_stream_can_be_stopped_while_its_sink_is_away() -> None:
    event_log = EventLog()
    sink = opening(FragileSink(1), *[FragileSink(0)] * 9, event_log=event_log, first_wait_s=10 * TIMEOUT_S)
    loop = Loop(ListSource(frames(9)), RepeatingFrameUpscaler(), LoopOptions(event_log=event_log))
    running = threading.Thread(target=loop.run, args=(sink,))
    running.start()
    eventually(lambda: len(event_log.events) == 1)
    loop.stop()
    running.join(TIMEOUT_S)
    assert not running.is_alive()
    assert loop.report().frames_out == 1
