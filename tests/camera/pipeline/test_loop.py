"""The loop: order and times kept, every policy, failures, hangs, stopping; no clock is waited for."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

from sr_edge.camera.flow.drop_policy import Policy
from sr_edge.camera.flow.events import EventLog
from sr_edge.camera.media.frame import VideoFrame
from sr_edge.camera.pipeline.frame_upscaler import NetworkFrameUpscaler
from sr_edge.camera.pipeline.loop import Loop
from sr_edge.camera.pipeline.options import LoopOptions
from sr_edge.camera.pipeline.watchdog import StageTimeout
from sr_edge.camera.sinks.encoded import EncodedSink, StreamEncoding
from sr_edge.camera.sources.connection import FFmpegInput
from sr_edge.camera.sources.ffmpeg import FFmpegSource
from sr_edge.errors import EngineError, StreamError, UsageError
from sr_edge.frames import Region
from sr_edge.runtimes import Session
from tests.camera.clips import flat_frame, number_of, read_clip, times_of, write_clip
from tests.camera.fakes import TIMEOUT_S, ListSink, ListSource, RepeatingFrameUpscaler, eventually
from tests.expected_errors import raises

UNEVEN = [0, 3003, 9009, 12012, 12013, 30000, 33003, 36006, 90000, 93003]


def numbered(count: int) -> list[VideoFrame]:
    return [flat_frame(number, pts=number) for number in range(count)]


class Gated(RepeatingFrameUpscaler):
    """Waits in `infer` for the test, which first hears that a frame is there."""

    def __init__(self, concurrency: int = 1) -> None:
        super().__init__(concurrency)
        self.inside = threading.Semaphore(0)
        self.go_on = threading.Semaphore(0)

    def before_infer(self, frame: VideoFrame) -> None:
        self.inside.release()
        assert self.go_on.acquire(timeout=TIMEOUT_S)


def test_a_file_goes_through_a_network_into_a_file_with_exact_times(session: Session, tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "in.mp4", UNEVEN)
    source = FFmpegSource(FFmpegInput(str(clip)))
    sink = EncodedSink(StreamEncoding(str(tmp_path / "out.mp4")), source.info)
    report = Loop(source, NetworkFrameUpscaler(session, concurrency=3)).run(sink)
    upscaled = read_clip(tmp_path / "out.mp4")
    assert times_of(upscaled) == [Fraction(time, 90_000) for time in UNEVEN]
    assert [number_of_picture(picture) for picture in upscaled] == list(range(len(UNEVEN)))
    assert {(picture.width, picture.height, picture.format.name) for picture in upscaled} == {(128, 96, "yuv420p")}
    assert (report.frames_in, report.frames_out, report.dropped, report.failed) == (10, 10, 0, 0)
    assert set(report.stages) == {"source", "wait", "prepare", "infer", "finish", "write"}
    assert report.latency is not None
    assert report.latency.count == 10


def number_of_picture(picture: object) -> int:
    from sr_edge.camera.media.conversion import frame_from_av

    return number_of(frame_from_av(picture))  # type: ignore[arg-type]


@pytest.mark.parametrize("concurrency", [1, 4])
def test_nothing_is_lost_or_reordered_under_block(concurrency: int) -> None:
    class Uneven(RepeatingFrameUpscaler):
        def before_infer(self, frame: VideoFrame) -> None:
            if frame.sequence % 3 == 0:  # lets later frames overtake
                sum(range(20_000))

    sink = ListSink()
    report = Loop(ListSource(numbered(60)), Uneven(concurrency)).run(sink)
    assert [frame.sequence for frame in sink.frames] == list(range(60))
    assert [frame.pts for frame in sink.frames] == list(range(60))
    assert sink.closed == 1
    assert report.dropped == 0


def test_several_frames_are_in_the_engine_at_once() -> None:
    both = threading.Barrier(2, timeout=TIMEOUT_S)

    class InPairs(RepeatingFrameUpscaler):
        def before_infer(self, frame: VideoFrame) -> None:
            both.wait()

    assert len(list(Loop(ListSource(numbered(8)), InPairs(concurrency=2)).frames())) == 8


def test_latest_takes_the_newest_frame_when_the_model_is_free() -> None:
    upscaler, all_in = Gated(), threading.Event()

    def camera() -> Iterator[VideoFrame]:
        yield from numbered(3)
        assert upscaler.inside.acquire(timeout=TIMEOUT_S)
        yield from [flat_frame(number, pts=number) for number in range(3, 20)]
        all_in.set()
        upscaler.go_on.release(2)

    loop = Loop(ListSource(camera(), is_live=True), upscaler)
    sequences = [frame.sequence for frame in loop.frames()]
    assert all_in.is_set()
    assert len(sequences) == 2
    assert sequences[0] in (0, 1, 2)
    assert sequences[1] == 19
    assert loop.report().dropped == 18


def test_drop_late_leaves_out_what_waited_too_long() -> None:
    now_ns = 10**12
    old = [replace(frame, captured_ns=now_ns - 200_000_000) for frame in numbered(3)]
    fresh = [replace(frame, captured_ns=now_ns - 50_000_000) for frame in numbered(5)[3:]]
    options = LoopOptions(Policy.parse("drop-late 100"))
    loop = Loop(ListSource([*old, *fresh], is_live=True), RepeatingFrameUpscaler(), options, clock=lambda: now_ns)
    assert [frame.sequence for frame in loop.frames()] == [3, 4]
    assert loop.report().dropped == 3


def test_a_frame_without_a_time_of_capture_is_timed_from_the_loop_on() -> None:
    loop = Loop(ListSource(numbered(4)), RepeatingFrameUpscaler(), LoopOptions(Policy.parse("drop-late 60000")))
    assert [frame.sequence for frame in loop.frames()] == [0, 1, 2, 3]
    latency = loop.report().latency
    assert latency is not None
    assert latency.max_ms < 60_000


def test_a_region_is_upscaled_alone() -> None:
    frames = list(
        Loop(ListSource(numbered(2)), RepeatingFrameUpscaler(), LoopOptions(region=Region(8, 4, 20, 10))).frames()
    )
    assert {(frame.width, frame.height) for frame in frames} == {(40, 20)}


def test_every_third_frame_goes_through_the_model() -> None:
    seen: list[int] = []
    upscaler = RepeatingFrameUpscaler()
    upscaler.before_infer = lambda frame: seen.append(frame.sequence)  # type: ignore[method-assign]
    loop = Loop(ListSource(numbered(7)), upscaler, LoopOptions(every=3))
    frames = list(loop.frames())
    assert seen == [0, 3, 6]
    assert [frame.sequence for frame in frames] == list(range(7))
    assert {(frame.width, frame.height) for frame in frames} == {(128, 96)}
    assert [number_of(frame) for frame in frames] == list(range(7))
    assert loop.report().bicubic_frames == 4


@pytest.mark.parametrize("concurrency", [1, 3])
def test_frames_between_go_past_the_model_and_come_out_behind_it(concurrency: int) -> None:
    model, sink = Gated(concurrency), ListSink()
    loop = Loop(ListSource(numbered(20)), model, LoopOptions(every=3))
    running = threading.Thread(target=loop.run, args=(sink,))
    running.start()
    eventually(lambda: loop.report().bicubic_frames == 2 * concurrency)
    assert sink.frames == []
    model.go_on.release(20)
    running.join(TIMEOUT_S)
    assert [frame.sequence for frame in sink.frames] == list(range(20))
    assert loop.report().bicubic_frames == 13


def test_latest_drops_frames_between_only_for_newer_ones_and_the_models_only_for_the_models() -> None:
    model = Gated()

    def camera() -> Iterator[VideoFrame]:
        yield from numbered(1)
        assert model.inside.acquire(timeout=TIMEOUT_S)
        yield flat_frame(1)
        eventually(lambda: loop.report().bicubic_frames == 1)
        yield flat_frame(2)
        eventually(lambda: loop.report().bicubic_frames == 2)
        yield from numbered(9)[3:]
        model.go_on.release()
        assert model.inside.acquire(timeout=TIMEOUT_S)
        eventually(lambda: loop.report().bicubic_frames == 3)
        model.go_on.release()

    loop = Loop(ListSource(camera(), is_live=True), model, LoopOptions(every=3))
    assert [frame.sequence for frame in loop.frames()] == [0, 1, 2, 6, 8]
    assert loop.report().dropped == 4


def failing(*numbers: int) -> RepeatingFrameUpscaler:
    upscaler = RepeatingFrameUpscaler()

    def fail(frame: VideoFrame) -> None:
        if frame.sequence in numbers:
            raise EngineError("the fake engine failed")

    upscaler.before_infer = fail  # type: ignore[method-assign]
    return upscaler


def test_a_frame_that_fails_is_left_out_counted_and_named() -> None:
    events: list[str] = []
    loop = Loop(ListSource(numbered(6)), failing(1, 4), LoopOptions(event_log=EventLog(events.append)))
    assert [frame.sequence for frame in loop.frames()] == [0, 2, 3, 5]
    assert events == [f"frame {number} was skipped: the fake engine failed" for number in (1, 4)]
    assert loop.report().failed == 2
    assert loop.report().events == tuple(events)


def test_many_failures_in_a_row_end_the_stream_and_close_the_sink() -> None:
    sink = ListSink()
    loop = Loop(ListSource(numbered(50)), failing(*range(2, 50)), LoopOptions(max_consecutive_failures=4))
    with raises(StreamError, found=4) as caught:
        loop.run(sink)
    assert isinstance(caught.value.__cause__, EngineError)
    assert sink.closed == 1
    assert 4 <= loop.report().failed < 10, "what was under way may fail too"


def test_frames_that_need_no_model_do_not_hide_that_it_always_fails() -> None:
    loop = Loop(ListSource(numbered(200)), failing(*range(0, 200, 2)), LoopOptions(every=2, max_consecutive_failures=4))
    with raises(StreamError, found=4):
        list(loop.frames())


def test_frames_before_one_that_ends_the_stream_still_come_out() -> None:
    failed = threading.Event()
    failing: list[threading.Thread] = []

    class Broken(RepeatingFrameUpscaler):
        def infer(self, prepared: VideoFrame) -> VideoFrame:
            if prepared.sequence == 3:
                failing.append(threading.current_thread())
                failed.set()
                raise EngineError("the fake engine failed")
            return super().infer(prepared)

        def finish(self, upscaled: VideoFrame, like: VideoFrame) -> VideoFrame:
            if like.sequence == 1:
                assert failed.wait(TIMEOUT_S)
                failing[0].join(TIMEOUT_S)
            return super().finish(upscaled, like)

    sequences: list[int] = []
    with raises(StreamError, found=1) as caught:
        for frame in Loop(ListSource(numbered(9)), Broken(), LoopOptions(max_consecutive_failures=1)).frames():
            sequences.append(frame.sequence)
    assert sequences == [0, 1, 2]
    assert isinstance(caught.value.__cause__, EngineError)


def test_a_stream_of_which_nothing_comes_through_is_an_error() -> None:
    loop = Loop(ListSource(numbered(3)), failing(0, 1, 2))
    with raises(StreamError, found=0) as caught:
        list(loop.frames())
    assert isinstance(caught.value.__cause__, EngineError)
    assert list(Loop(ListSource([]), RepeatingFrameUpscaler()).frames()) == [], "but an empty one is none"


def test_a_region_outside_the_frame_ends_the_stream_at_once() -> None:
    events: list[str] = []
    loop = Loop(
        ListSource(numbered(3)),
        RepeatingFrameUpscaler(),
        LoopOptions(region=Region(0, 0, 400, 4), event_log=EventLog(events.append)),
    )
    with raises(UsageError, found=(0, 0, 400, 4), wanted=(64, 48)):
        list(loop.frames())
    assert events == []


def test_a_source_that_is_lost_ends_the_stream_after_what_it_gave() -> None:
    def camera() -> Iterator[VideoFrame]:
        yield from numbered(5)
        raise StreamError("the camera is gone", found="camera")

    sink = ListSink()
    with raises(StreamError, found="camera"):
        Loop(ListSource(camera()), RepeatingFrameUpscaler()).run(sink)
    assert [frame.sequence for frame in sink.frames] == list(range(5))
    assert sink.closed == 1


def test_a_sink_that_fails_ends_the_stream_and_closes_both() -> None:
    class FullSink(ListSink):
        def write(self, frame: VideoFrame) -> None:
            if frame.sequence == 3:
                raise StreamError("the disk is full", found="disk")
            super().write(frame)

    sink, source = FullSink(), ListSource(numbered(1000))
    with raises(StreamError, found="disk"):
        Loop(source, RepeatingFrameUpscaler()).run(sink)
    assert (len(sink.frames), sink.closed, source.closed.is_set()) == (3, 1, True)


def test_a_model_that_hangs_is_named() -> None:
    upscaler = Gated()
    loop = Loop(ListSource(numbered(3)), upscaler, LoopOptions(stage_timeout_s=0.01))
    try:
        with raises(StageTimeout, found="the model (repeating)"):
            list(loop.frames())
    finally:
        upscaler.go_on.release(99)


def test_a_sink_that_hangs_is_named() -> None:
    let_go = threading.Event()

    class StuckSink(ListSink):
        def write(self, frame: VideoFrame) -> None:
            assert let_go.wait(TIMEOUT_S)

    try:
        with raises(StageTimeout, found="the sink a list"):
            Loop(ListSource(numbered(3)), RepeatingFrameUpscaler(), LoopOptions(stage_timeout_s=0.01)).run(StuckSink())
    finally:
        let_go.set()


def test_leaving_the_iteration_ends_the_stream() -> None:
    source = ListSource(numbered(1000))
    for frame in Loop(source, RepeatingFrameUpscaler()).frames():
        if frame.sequence == 2:
            break
    assert source.closed.is_set()


def test_stop_finishes_what_is_under_way_and_closes_the_sink() -> None:
    sink = ListSink()
    loop = Loop(ListSource(numbered(1000)), RepeatingFrameUpscaler())

    def stop_at_five(frame: VideoFrame) -> None:
        sink.frames.append(frame)
        if frame.sequence == 5:
            loop.stop()

    sink.write = stop_at_five  # type: ignore[method-assign]
    report = loop.run(sink)
    assert 6 <= len(sink.frames) < 1000
    assert [frame.sequence for frame in sink.frames] == list(range(len(sink.frames)))
    assert (sink.closed, report.frames_out) == (1, len(sink.frames))


def test_an_interrupt_closes_the_sink() -> None:
    sink = ListSink()
    endless = (flat_frame(number, pts=number) for number in iter(int, 1))

    def interrupt(report: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Loop(ListSource(endless), RepeatingFrameUpscaler()).run(sink, interrupt)
    assert sink.closed == 1


def test_a_stream_runs_once() -> None:
    loop = Loop(ListSource(numbered(1)), RepeatingFrameUpscaler())
    assert len(list(loop.frames())) == 1
    with raises(UsageError):
        next(loop.frames())


def test_options_are_checked() -> None:
    with raises(UsageError, found=0, wanted="1 or more"):
        LoopOptions(every=0)
    with raises(UsageError, found=-1, wanted="1 or more"):
        LoopOptions(max_consecutive_failures=-1)
    with raises(UsageError, found=(None, 5)):
        LoopOptions(max_latency_ms=5)
    fallback = RepeatingFrameUpscaler()
    fallback.scale = 3
    with raises(UsageError, found=3, wanted=2):
        Loop(ListSource([]), RepeatingFrameUpscaler(), LoopOptions(fallback=fallback, max_latency_ms=5))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", ""),
        ("1,2,3", "1,2,3"),
        ("a,b,c,d", "a,b,c,d"),
        ("0,0,0,4", (0, 0, 0, 4)),
        ("-1,0,4,4", (-1, 0, 4, 4)),
    ],
)
def test_a_part_that_is_none_is_refused(text: str, found: object) -> None:
    with raises(UsageError, found=found):
        Region.parse(text)


def test_a_report_is_shown_in_one_line() -> None:
    loop = Loop(ListSource(numbered(3)), RepeatingFrameUpscaler(), LoopOptions())
    list(loop.frames())
    line = repr(loop.report())
    assert line.startswith("<StreamReport ")
    assert "3 frames in, 3 out (" in line
    assert "0 dropped, 0 failed, latency " in line
    assert "\n" not in line
