"""Leaving a model that is late and returning to it, on a clock that the test turns."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest

from sr_edge.camera.flow.drop_policy import Policy
from sr_edge.camera.flow.events import EventLog
from sr_edge.camera.media.frame import VideoFrame
from sr_edge.camera.pipeline.fallback import FallbackController, FallbackTiming, FrameCost
from sr_edge.camera.pipeline.frame_stages import FrameStages
from sr_edge.camera.pipeline.loop import Loop
from sr_edge.camera.pipeline.options import LoopOptions
from sr_edge.camera.pipeline.statistics import StreamStatistics
from sr_edge.camera.pipeline.watchdog import Watchdog
from sr_edge.errors import UsageError
from sr_edge.upscaler.reuse import FrameReuse, ReuseStatistics
from tests.camera.clips import flat_frame
from tests.camera.fakes import TIMEOUT_S, ListSink, ListSource, RepeatingFrameUpscaler, eventually
from tests.expected_errors import raises

TIMING = FallbackTiming()
AT_ONCE = FallbackTiming(late_window_s=0.0, first_retry_s=0.0)
"""Each late frame leads to a switch, and so does the next one."""


class Clock:
    def __init__(self, controller: FallbackController) -> None:
        self.controller = controller
        self.now_s = 0.0

    def frames(self, latency_ms: float, seconds: float, step_s: float = 0.1) -> None:
        """Frames of one latency, by whichever is in use."""
        for _ in range(round(seconds / step_s)):
            self.now_s += step_s
            self.controller.observe(latency_ms, self.controller.uses_fallback, self.now_s)


def controller_of(limit_ms: float = 100) -> tuple[Clock, list[str]]:
    events: list[str] = []
    return Clock(FallbackController(limit_ms, events.append)), events


def test_a_model_in_time_is_kept() -> None:
    clock, events = controller_of()
    clock.frames(99, 60)
    assert not clock.controller.uses_fallback
    assert events == []


@pytest.mark.parametrize(("late", "in_time", "leaves"), [(1, 19, False), (4, 6, False), (6, 4, True), (19, 1, True)])
def test_the_model_is_left_when_most_of_its_frames_are_late(late: int, in_time: int, leaves: bool) -> None:
    """Thirty a second, the pattern repeated: a frame in time now and then proves nothing, nor does a late one."""
    clock, _ = controller_of()
    for _ in range(20):
        clock.frames(50, in_time / 30, step_s=1 / 30)
        clock.frames(300, late / 30, step_s=1 / 30)
    assert (clock.controller.switches > 0) is leaves


def test_one_late_frame_of_a_slow_camera_is_not_a_second_of_late_frames() -> None:
    """Of which there is no other within a second."""
    clock, _ = controller_of()
    clock.frames(50, 10, step_s=2)
    clock.frames(300, 2, step_s=2)
    clock.frames(50, 10, step_s=2)
    assert clock.controller.switches == 0
    clock.frames(300, 4, step_s=2)
    assert clock.controller.uses_fallback


def test_a_second_of_late_frames_leads_to_the_fallback_and_is_reported() -> None:
    clock, events = controller_of()
    clock.frames(150, 1.2)
    assert clock.controller.uses_fallback
    assert events == [
        "the model took 150 ms and was mostly above the latency limit of 100 ms for 1 s: switching to the fallback, "
        f"trying the model again in {TIMING.first_retry_s:.0f} s"
    ]


def test_a_frame_that_does_not_come_back_is_late_for_a_second_by_itself() -> None:
    clock, events = controller_of()
    clock.controller.observe_waiting(1099, now_s=1.2)
    assert not clock.controller.uses_fallback
    clock.controller.observe_waiting(1100, now_s=1.3)
    assert clock.controller.uses_fallback
    assert events[0].startswith("the model took 1100 ms")
    clock.controller.observe_waiting(4000, now_s=4.2)
    assert clock.controller.switches == 1


def test_the_model_is_tried_again_and_kept_when_it_holds() -> None:
    clock, events = controller_of()
    clock.frames(150, 1.2)
    clock.frames(10, TIMING.first_retry_s + 0.2)
    assert not clock.controller.uses_fallback
    clock.frames(60, TIMING.stable_s)
    assert clock.controller.switches == 2
    assert events[-1] == "trying the model again"


def test_each_failure_soon_after_a_return_doubles_the_rest() -> None:
    clock, events = controller_of()
    pauses: list[float] = []
    for _ in range(6):
        clock.frames(150, 1.2)
        assert clock.controller.uses_fallback
        left_s = clock.now_s
        while clock.controller.uses_fallback:
            clock.frames(10, 0.1)
        pauses.append(clock.now_s - left_s)
    assert [round(pause / TIMING.first_retry_s) for pause in pauses] == [1, 2, 4, 8, 12, 12]
    assert pauses[-1] <= TIMING.max_retry_s + 0.2
    assert len(events) == 12


def test_a_model_that_held_long_starts_with_the_short_rest_again() -> None:
    clock, events = controller_of()
    for _ in range(3):
        clock.frames(150, 1.2)
        while clock.controller.uses_fallback:
            clock.frames(10, 0.1)
    clock.frames(50, TIMING.stable_s + 1)
    clock.frames(150, 1.2)
    assert events[-1].endswith(f"again in {TIMING.first_retry_s:.0f} s")


def test_frames_begun_before_a_switch_do_not_count() -> None:
    clock, _ = controller_of()
    clock.frames(150, 1.2)
    for _ in range(100):
        clock.now_s += 1
        clock.controller.observe(500, False, clock.now_s)
    assert clock.controller.uses_fallback


def test_frames_that_are_bicubic_by_request_do_not_speak_for_the_model() -> None:
    """Every third through the model, late each time; those between are in time."""
    now_s = 0.0
    options = LoopOptions(every=3, fallback=RepeatingFrameUpscaler(name="cheap"), max_latency_ms=60)
    model = RepeatingFrameUpscaler()
    stages = FrameStages(model, options, StreamStatistics(), Watchdog(TIMEOUT_S), clock=lambda: round(1e9 * now_s))
    by: list[str] = []
    for number in range(60):
        frame = replace(flat_frame(number), captured_ns=round(1e9 * number / 30))
        inferred = stages.infer(frame, stages.upscaler_for(frame))
        result = stages.finish(inferred) if inferred else None
        assert result is not None
        by.append(result.upscaler.name)
        now_s = number / 30 + (0.020 if number % 3 else 0.088)
        stages.record_written(result)
    assert by[:30] == ["repeating", "bicubic", "bicubic"] * 10
    assert by[-3:] == ["cheap", "bicubic", "bicubic"]


def test_a_model_that_is_still_at_its_first_frame_is_left() -> None:
    now_s = 10.0
    inside, go_on, cheaply = threading.Event(), threading.Event(), threading.Event()

    def four_seconds(frame: VideoFrame) -> None:
        inside.set()
        assert go_on.wait(TIMEOUT_S)

    model, cheap = RepeatingFrameUpscaler(), RepeatingFrameUpscaler()
    model.before_infer = four_seconds  # type: ignore[method-assign]
    cheap.before_infer = lambda frame: cheaply.set()  # type: ignore[method-assign]
    frames = [flat_frame(number, pts=number) for number in range(4)]
    options = LoopOptions(fallback=cheap, max_latency_ms=100, report_interval_s=0.001)
    loop, sink = Loop(ListSource(frames), model, options, clock=lambda: round(1e9 * now_s)), ListSink()
    running = threading.Thread(target=loop.run, args=(sink,))
    running.start()
    assert inside.wait(TIMEOUT_S)
    now_s = 11.2
    assert cheaply.wait(TIMEOUT_S)
    assert (loop.report().fallback_switches, loop.report().frames_out) == (1, 0)
    go_on.set()
    running.join(TIMEOUT_S)
    assert [frame.sequence for frame in sink.frames] == [0, 1, 2, 3]
    assert loop.report().fallback_frames == 3


def test_a_limit_that_nothing_can_hold_is_refused() -> None:
    with raises(UsageError, found=0, wanted="more than 0 ms"):
        controller_of(0)


def test_a_late_model_hands_over_to_the_fallback_in_the_loop() -> None:
    """Every frame is late; without patience each one leads to a switch."""
    by: list[str] = []

    class Named(RepeatingFrameUpscaler):
        def before_infer(self, frame: VideoFrame) -> None:
            by.append(self.name)

    events: list[str] = []
    options = LoopOptions(
        fallback=Named(name="cheap"), max_latency_ms=1e-9, fallback_timing=AT_ONCE, event_log=EventLog(events.append)
    )
    shown = threading.Semaphore(1)

    def camera() -> Iterator[VideoFrame]:
        """Each frame comes when the one before was shown."""
        for number in range(6):
            assert shown.acquire(timeout=TIMEOUT_S)
            yield flat_frame(number, pts=number)

    loop = Loop(ListSource(camera()), Named(name="model"), options)
    for _ in loop.frames():
        shown.release()
    assert by == ["model", "cheap"] * 3
    assert (loop.report().fallback_frames, loop.report().fallback_switches) == (3, 6)
    assert [text.startswith("the model took") for text in events] == [True, False] * 3


def test_who_waits_for_the_late_model_takes_the_fallback_at_once() -> None:
    """Else as many slow frames as there are threads would pass after the switch."""
    may_pass = threading.Semaphore(0)
    slow: list[int] = []
    cheap: list[int] = []

    class Slow(RepeatingFrameUpscaler):
        def before_infer(self, frame: VideoFrame) -> None:
            slow.append(frame.sequence)
            assert may_pass.acquire(timeout=TIMEOUT_S)

    class Cheap(RepeatingFrameUpscaler):
        def before_infer(self, frame: VideoFrame) -> None:
            cheap.append(frame.sequence)

    class Patient(ListSink):
        """Has the first frame, and so the news that it was late, only once the second one is in the model."""

        def write(self, frame: VideoFrame) -> None:
            eventually(lambda: len(slow) > 1)
            super().write(frame)

    model = Slow()
    options = LoopOptions(
        Policy.parse("drop-late 1000000"),
        fallback=Cheap(concurrency=2),
        max_latency_ms=1e-9,
        fallback_timing=FallbackTiming(late_window_s=0.0),
        report_interval_s=TIMEOUT_S,  # else a frame that waits for the test is late, too
    )
    loop = Loop(ListSource([flat_frame(number, pts=number) for number in range(6)]), model, options)
    running = threading.Thread(target=loop.run, args=(Patient(),))
    running.start()
    eventually(lambda: model.lock.waiting == 2)
    may_pass.release()
    eventually(lambda: len(cheap) == 2)
    assert loop.report().frames_out == 1, "the second frame is still in the model"
    may_pass.release(6)
    running.join(TIMEOUT_S)
    assert not running.is_alive()


def controller_after(failures: int) -> tuple[FallbackController, float]:
    """A controller whose model has been too slow so many times in a row, and the time of its last switch."""
    controller = FallbackController(100.0, lambda text: None)
    clock = Clock(controller)
    while controller.switches < 2 * failures - 1:
        clock.frames(10.0 if controller.uses_fallback else 300.0, 0.1)
    assert controller.uses_fallback
    return controller, clock.now_s


@pytest.mark.parametrize(("model_ms", "returns"), [(None, False), (95.0, False), (60.0, True)])
def test_the_model_returns_early_once_it_would_be_in_time(model_ms: float | None, returns: bool) -> None:
    """The doubled wait ends when the frames, now with few changed tiles, would be in time."""
    controller, switched_s = controller_after(3)
    controller.observe(10.0, True, switched_s + 0.9 * TIMING.first_retry_s, model_ms)
    assert controller.uses_fallback, "never before the shortest wait"
    controller.observe(10.0, True, switched_s + 1.1 * TIMING.first_retry_s, model_ms)
    assert controller.uses_fallback is not returns


def test_the_cost_of_a_frame_follows_from_its_changed_tiles() -> None:
    cost = FrameCost()
    assert cost.predict_ms(3) is None
    for _ in range(60):
        cost.observe(0, 4.0)
        cost.observe(10, 54.0)
    assert cost.predict_ms(0) == pytest.approx(4.0, abs=0.1)
    assert cost.predict_ms(20) == pytest.approx(104.0, abs=1.0)


def test_a_model_that_is_cheap_again_is_found_by_its_changed_tiles() -> None:
    """Frames of the fallback are compared with what the model has kept, without the model computing anything."""
    now_ns = 0

    class TenTiles(RepeatingFrameUpscaler):
        """Computes all of its ten tiles in 20 ms each; counts how often it is asked for the changed ones."""

        changed, asked, upscaled = 10, 0, 0

        def infer(self, prepared: VideoFrame) -> VideoFrame:
            nonlocal now_ns
            now_ns += 200_000_000
            self.upscaled += 1
            return replace(super().infer(prepared), reuse=FrameReuse(10, (), ReuseStatistics()))

        def count_changed(self, frame: VideoFrame) -> int | None:
            self.asked += 1
            return self.changed

    model, fallback = TenTiles(), RepeatingFrameUpscaler(name="fallback")
    timing = FallbackTiming(late_window_s=0.0, first_retry_s=1.0, max_retry_s=60.0)
    options = LoopOptions(fallback=fallback, max_latency_ms=50.0, fallback_timing=timing)
    stages = FrameStages(model, options, StreamStatistics(), Watchdog(30.0), lambda: now_ns)

    def frames_of_model(seconds: float) -> int:
        """Frames for so long, 10 ms apart; returns how many of them the model upscaled."""
        nonlocal now_ns
        until_ns, before = now_ns + round(1e9 * seconds), model.upscaled
        while now_ns < until_ns:
            frame = replace(flat_frame(0), captured_ns=now_ns)
            upscaler = stages.upscaler_for(frame)
            now_ns += 10_000_000
            inferred = stages.infer(frame, upscaler)
            assert inferred is not None
            done = stages.finish(inferred)
            assert done is not None
            stages.record_written(done)
        return model.upscaled - before

    # Too slow at 0, 1, 3, 7 and 15 s, it waits for 16 s before the next attempt.
    assert frames_of_model(18.0) == 5
    asked = model.asked
    assert frames_of_model(4.0) == 0
    assert 7 <= model.asked - asked <= 9, "twice a second"
    model.changed = 1
    assert frames_of_model(1.0) > 0
