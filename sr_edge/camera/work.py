"""One frame through the model: which enlarger it takes, its three steps timed, and what happens when one fails."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from sr_edge.camera.enlarger import BicubicFrameUpscaler, FrameUpscaler
from sr_edge.camera.fallback import Governor
from sr_edge.camera.frame import VideoFrame
from sr_edge.camera.options import LoopOptions
from sr_edge.camera.statistics import StreamStatistics
from sr_edge.camera.watch import Watch
from sr_edge.errors import FrameError, SrEdgeError, StreamError, UsageError


@dataclass(frozen=True)
class Result:
    """One enlarged frame, and what made it."""

    frame: VideoFrame
    upscaler: FrameUpscaler


@dataclass(frozen=True)
class StartedFrame:
    """A frame that has left the engine and is not in its own format yet."""

    like: VideoFrame
    upscaled: VideoFrame
    upscaler: FrameUpscaler


class Work:
    """What the model's threads of one stream share."""

    def __init__(
        self,
        upscaler: FrameUpscaler,
        options: LoopOptions,
        statistics: StreamStatistics,
        watch: Watch,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """Args:
        clock: nanoseconds, by the clock of the frames' `captured_ns`.
        """
        self._frame_upscaler = upscaler
        self._options = options
        self._statistics = statistics
        self._watch = watch
        self._clock = clock
        self._between = BicubicFrameUpscaler(upscaler.scale)
        self._failing = threading.Lock()
        self._failed_in_a_row = 0
        self._has_result = False
        self._last_failure: Exception | None = None
        self._governor: Governor | None = None
        self._in_model_since_ns: dict[int, int] = {}
        """By thread."""
        fallback = options.fallback
        if fallback is not None and fallback.scale != upscaler.scale:
            raise UsageError(
                f"the fallback has scale {fallback.scale}, the model has scale {upscaler.scale}",
                found=fallback.scale,
                wanted=upscaler.scale,
                remedy="use a fallback of the same scale",
            )
        if options.max_latency_ms is not None:
            self._governor = Governor(options.max_latency_ms, self._on_switch, options.fallback_timing)

    @property
    def at_once(self) -> int:
        """The most frames that are in an engine at a time, beside those that go past it."""
        fallback = self._options.fallback
        return max(self._frame_upscaler.lock.at_once, fallback.lock.at_once if fallback else 0)

    def is_between(self, frame: VideoFrame) -> bool:
        """Whether the frame is to be bicubic by request."""
        return frame.sequence % self._options.every != 0

    def frame_upscaler_for(self, frame: VideoFrame) -> FrameUpscaler:
        """What the frame is to go through now: the fallback may take over while it waits."""
        if self.is_between(frame):
            return self._between
        fallback = self._options.fallback
        return fallback if fallback and self._governor and self._governor.uses_fallback else self._frame_upscaler

    def begin(self, frame: VideoFrame, upscaler: FrameUpscaler) -> StartedFrame | None:
        """What needs the engine. None where the frame failed; the caller holds a turn of `upscaler`.

        Raises:
            StreamError: too many in a row failed.
        """
        self._statistics.stage("wait", (self._clock() - frame.captured_ns) / 1e6)
        with self._failures(frame):
            like = self._part(frame)
            with self._timed("prepare"):
                prepared = upscaler.prepare(like)
            with self._timed("infer"), self._inside(upscaler):
                return StartedFrame(like, upscaler.infer(prepared), upscaler)
        return None

    def _part(self, frame: VideoFrame) -> VideoFrame:
        region = self._options.region
        if region is None:
            return frame
        try:
            return frame.cropped(region.left, region.top, region.width, region.height)
        except FrameError as error:
            if self._has_result:  # the stream may have changed its size for a while
                raise
            raise UsageError(error.problem, found=error.found, wanted=error.wanted, remedy=error.remedy) from None

    def finish(self, started: StartedFrame) -> Result | None:
        """What needs no engine; None where that failed. Raises as `begin`."""
        with self._failures(started.like):
            with self._timed("finish"):
                frame = started.upscaler.finish(started.upscaled, started.like)
            self._has_result = True
            if started.upscaler is self._between:  # says nothing about the model
                self._statistics.count("between")
                return Result(frame, started.upscaler)
            self._failed_in_a_row = 0
            if started.upscaler is self._options.fallback:
                self._statistics.count("by_fallback")
            return Result(frame, started.upscaler)
        return None

    def require_result(self) -> None:
        """Raises StreamError where all frames of a stream that is over failed."""
        if self._last_failure is not None and not self._has_result:
            raise StreamError(
                f"no frame was upscaled; the last error: {_problem_of(self._last_failure)}",
                found=0,
                wanted="at least one frame",
                remedy=_remedy_of(self._last_failure),
            ) from self._last_failure

    def sent(self, result: Result) -> None:
        """Takes note that the sink has a frame."""
        now_ns = self._clock()
        latency_ms = (now_ns - result.frame.captured_ns) / 1e6
        self._statistics.frame_out(latency_ms)
        if self._governor is not None and result.upscaler is not self._between:
            self._governor.observe(latency_ms, result.upscaler is self._options.fallback, now_ns / 1e9)

    def look(self) -> None:
        """Takes note of how long frames are in the model already; by the thread of `sent`, every second or oftener."""
        if self._governor is not None:
            now_ns = self._clock()
            for since_ns in list(self._in_model_since_ns.values()):
                self._governor.observe_waiting((now_ns - since_ns) / 1e6, now_ns / 1e9)

    def _on_switch(self, text: str) -> None:
        self._options.event_log.record(text)
        self._statistics.count("switches")
        self.wake()

    def wake(self) -> None:
        """Has who waits for an engine look whether its frame is still there and still to go through that one."""
        for upscaler in (self._frame_upscaler, self._between, self._options.fallback):
            if upscaler is not None:
                upscaler.lock.wake()

    @contextmanager
    def _inside(self, upscaler: FrameUpscaler) -> Iterator[None]:
        thread = threading.get_ident()
        if upscaler is self._frame_upscaler:
            self._in_model_since_ns[thread] = self._clock()
        try:
            with self._watch.stage(f"the model ({upscaler.name})"):
                yield
        finally:
            self._in_model_since_ns.pop(thread, None)

    @contextmanager
    def _failures(self, frame: VideoFrame) -> Iterator[None]:
        """A frame that fails is left out, counted and named; many in a row end the stream."""
        try:
            yield
        except UsageError:
            raise
        except Exception as error:
            with self._failing:
                self._failed_in_a_row += 1
                failed = self._failed_in_a_row
            self._statistics.count("failed")
            self._last_failure = error
            if failed >= self._options.failures_in_a_row:
                raise StreamError(
                    f"{failed} frames in a row failed; the last error: {_problem_of(error)}",
                    found=failed,
                    wanted=f"fewer than {self._options.failures_in_a_row}",
                    remedy=_remedy_of(error),
                ) from error
            self._options.event_log.record(f"frame {frame.sequence} is left out: {str(error) or type(error).__name__}")

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        started_s = time.perf_counter()
        yield
        self._statistics.stage(stage, 1e3 * (time.perf_counter() - started_s))


def _problem_of(error: Exception) -> str:
    return error.problem if isinstance(error, SrEdgeError) else str(error) or type(error).__name__


def _remedy_of(error: Exception) -> str | None:
    return error.remedy if isinstance(error, SrEdgeError) else None
