"""The stages of one frame: which upscaler processes it, its three timed steps, and what happens if one fails."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from sr_edge.camera.media.frame import VideoFrame
from sr_edge.camera.pipeline.fallback import FallbackController, FrameCost
from sr_edge.camera.pipeline.frame_upscaler import BicubicFrameUpscaler, FrameUpscaler
from sr_edge.camera.pipeline.options import LoopOptions
from sr_edge.camera.pipeline.statistics import BICUBIC, FALLBACK, INFER, MODEL, StreamStatistics
from sr_edge.camera.pipeline.watchdog import Watchdog
from sr_edge.errors import FrameError, SrEdgeError, StreamError, UsageError
from sr_edge.upscaler.reuse import FrameReuse

_PREDICTION_INTERVAL_NS = 500_000_000


@dataclass(frozen=True)
class UpscaledFrame:
    """An upscaled frame, and the upscaler that made it."""

    frame: VideoFrame
    upscaler: FrameUpscaler


@dataclass(frozen=True)
class InferredFrame:
    """A frame that has left the engine and is not yet in the pixel format of the source.

    Attributes:
        like: the input frame, or the region of it that was upscaled.
        upscaled: the output of the engine.
        upscaler: whose engine that was.
    """

    like: VideoFrame
    upscaled: VideoFrame
    upscaler: FrameUpscaler


class FrameStages:
    """Routes the frames of one stream to an upscaler and runs its steps. Shared by the workers of the stream."""

    def __init__(
        self,
        upscaler: FrameUpscaler,
        options: LoopOptions,
        statistics: StreamStatistics,
        watchdog: Watchdog,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """Prepares the stages of a stream.

        Args:
            upscaler: the model.
            options: the options of the stream.
            statistics: the statistics of the stream.
            watchdog: records when a frame enters and leaves an engine.
            clock: nanoseconds, by the clock of the frames' `captured_ns`.

        Raises:
            UsageError: the fallback has another scale than the model.
        """
        self._model = upscaler
        self._options = options
        self._statistics = statistics
        self._watchdog = watchdog
        self._clock = clock
        self._bicubic = BicubicFrameUpscaler(upscaler.scale)
        self._failure_lock = threading.Lock()
        self._consecutive_failures = 0
        self._has_result = False
        self._last_failure: Exception | None = None
        self._controller: FallbackController | None = None
        self._cost = FrameCost()
        # What the model would take for a recent frame of the fallback, and when that was predicted. Both are replaced
        # by single assignments, at worst by two workers that predict at once.
        self._predicted_ms: float | None = None
        self._predicted_ns = 0
        self._obstacle = ""
        # When each worker's frame entered the model, by thread. A thread writes only its own key: no lock is needed.
        self._in_model_since_ns: dict[int, int] = {}
        fallback = options.fallback
        if fallback is not None and fallback.scale != upscaler.scale:
            raise UsageError(
                f"the fallback has scale {fallback.scale}, the model has scale {upscaler.scale}",
                found=fallback.scale,
                wanted=upscaler.scale,
                remedy="use a fallback of the same scale",
            )
        if options.max_latency_ms is not None:
            self._controller = FallbackController(options.max_latency_ms, self._on_switch, options.fallback_timing)

    @property
    def concurrency(self) -> int:
        """The most frames in the engine of the model or of the fallback at a time."""
        fallback = self._options.fallback
        return max(self._model.lock.concurrency, fallback.lock.concurrency if fallback else 0)

    def is_bicubic(self, frame: VideoFrame) -> bool:
        """Whether the frame lies between those of the model and is upscaled by bicubic interpolation."""
        return frame.sequence % self._options.every != 0

    def upscaler_for(self, frame: VideoFrame) -> FrameUpscaler:
        """The upscaler for the frame at this moment: the fallback may take over while the frame waits."""
        if self.is_bicubic(frame):
            return self._bicubic
        fallback = self._options.fallback
        return fallback if fallback and self._controller and self._controller.uses_fallback else self._model

    def infer(self, frame: VideoFrame, upscaler: FrameUpscaler) -> InferredFrame | None:
        """Runs the steps that need the engine. The caller has acquired `upscaler.lock`.

        Returns:
            The output of the engine; None if the frame failed.

        Raises:
            StreamError: too many frames in a row have failed.
        """
        self._statistics.record_stage("wait", (self._clock() - frame.captured_ns) / 1e6)
        with self._tolerating_failures(frame):
            like = self._region_of(frame)
            kind = self._kind_of(upscaler)
            with self._timed("prepare" if kind == MODEL else None):
                prepared = upscaler.prepare(like)
            started_ns = self._clock()
            with self._timed(INFER if kind == MODEL else kind), self._in_engine(upscaler):
                upscaled = upscaler.infer(prepared)
            if kind == MODEL and upscaled.reuse is not None:
                self._record_reuse(upscaled.reuse, (self._clock() - started_ns) / 1e6)
            if kind == FALLBACK:
                self._predict(like)
            return InferredFrame(like, upscaled, upscaler)
        return None

    def _record_reuse(self, reuse: FrameReuse, infer_ms: float) -> None:
        self._statistics.record_reuse(reuse)
        self._cost.observe(reuse.computed, infer_ms)
        obstacle, self._obstacle = self._obstacle, reuse.statistics.obstacle
        if self._obstacle and self._obstacle != obstacle:
            self._options.event_log.record(f"no tiles are reused: {self._obstacle} (--reuse-memory)")

    def _predict(self, frame: VideoFrame) -> None:
        """Predicts, twice a second, what the model would take for a frame of the fallback."""
        now_ns = self._clock()
        if now_ns - self._predicted_ns < _PREDICTION_INTERVAL_NS:
            return
        changed = self._model.count_changed(frame)
        self._predicted_ns = now_ns
        self._predicted_ms = None if changed is None else self._cost.predict_ms(changed)

    def _region_of(self, frame: VideoFrame) -> VideoFrame:
        region = self._options.region
        if region is None:
            return frame
        try:
            return frame.cropped(region.left, region.top, region.width, region.height)
        except FrameError as error:
            if self._has_result:  # the size of the stream may have changed for a while
                raise
            raise UsageError(error.problem, found=error.found, wanted=error.wanted, remedy=error.remedy) from None

    def finish(self, inferred: InferredFrame) -> UpscaledFrame | None:
        """Runs the step that needs no engine: conversion to the pixel format of the source.

        Returns:
            The result; None if the frame failed.

        Raises:
            StreamError: too many frames in a row have failed.
        """
        with self._tolerating_failures(inferred.like):
            with self._timed("finish" if inferred.upscaler is self._model else None):
                frame = inferred.upscaler.finish(inferred.upscaled, inferred.like)
            self._statistics.record_sizes((inferred.like.width, inferred.like.height), (frame.width, frame.height))
            self._has_result = True
            if inferred.upscaler is self._bicubic:
                # Does not end a row of failures: a bicubic frame does not show that the model works.
                self._statistics.increment("bicubic_frames")
                return UpscaledFrame(frame, inferred.upscaler)
            self._consecutive_failures = 0
            if inferred.upscaler is self._options.fallback:
                self._statistics.increment("fallback_frames")
            return UpscaledFrame(frame, inferred.upscaler)
        return None

    def require_result(self) -> None:
        """Raises StreamError if every frame of a stream that has ended failed."""
        if self._last_failure is not None and not self._has_result:
            raise StreamError(
                f"no frame was upscaled; the last error: {_problem_of(self._last_failure)}",
                found=0,
                wanted="at least one frame",
                remedy=_remedy_of(self._last_failure),
            ) from self._last_failure

    def record_written(self, result: UpscaledFrame) -> None:
        """Records that the sink has taken a frame. Called by the consumer's thread only."""
        now_ns = self._clock()
        latency_ms = (now_ns - result.frame.captured_ns) / 1e6
        self._statistics.record_output(latency_ms, self._kind_of(result.upscaler))
        if self._controller is not None and result.upscaler is not self._bicubic:
            is_fallback = result.upscaler is self._options.fallback
            self._controller.observe(latency_ms, is_fallback, now_ns / 1e9, self._predicted_ms)

    def check_latency(self) -> None:
        """Checks how long the frames in the model have been there. Called by the consumer's thread, every second."""
        if self._controller is not None:
            now_ns = self._clock()
            # `list` copies the values in one step: workers add and remove theirs meanwhile.
            for since_ns in list(self._in_model_since_ns.values()):
                self._controller.observe_waiting((now_ns - since_ns) / 1e6, now_ns / 1e9)

    def _on_switch(self, text: str) -> None:
        self._predicted_ms, self._predicted_ns = None, 0
        self._options.event_log.record(text)
        self._statistics.increment("fallback_switches")
        self.wake()

    def wake(self) -> None:
        """Makes the workers that wait for an engine check whether the next frame still needs that engine.

        Called after a frame was taken and after a switch between the model and the fallback: a worker that waits for
        an engine tests its condition only when the lock wakes it.
        """
        for upscaler in (self._model, self._bicubic, self._options.fallback):
            if upscaler is not None:
                upscaler.lock.wake()

    @contextmanager
    def _in_engine(self, upscaler: FrameUpscaler) -> Iterator[None]:
        thread = threading.get_ident()
        if upscaler is self._model:
            self._in_model_since_ns[thread] = self._clock()
        try:
            with self._watchdog.stage(f"the model ({upscaler.name})"):
                yield
        finally:
            self._in_model_since_ns.pop(thread, None)

    @contextmanager
    def _tolerating_failures(self, frame: VideoFrame) -> Iterator[None]:
        """Counts and reports a frame that fails, and goes on without it; many in a row end the stream."""
        try:
            yield
        except UsageError:
            raise
        except Exception as error:
            with self._failure_lock:
                self._consecutive_failures += 1
                failures = self._consecutive_failures
            self._statistics.increment("failed")
            self._last_failure = error
            if failures >= self._options.max_consecutive_failures:
                raise StreamError(
                    f"{failures} frames in a row failed; the last error: {_problem_of(error)}",
                    found=failures,
                    wanted=f"fewer than {self._options.max_consecutive_failures}",
                    remedy=_remedy_of(error),
                ) from error
            self._options.event_log.record(f"frame {frame.sequence} was skipped: {str(error) or type(error).__name__}")

    def _kind_of(self, upscaler: FrameUpscaler) -> str:
        return BICUBIC if upscaler is self._bicubic else FALLBACK if upscaler is self._options.fallback else MODEL

    @contextmanager
    def _timed(self, stage: str | None) -> Iterator[None]:
        """Records the duration of the block; None records nothing."""
        started_s = time.perf_counter()
        yield
        if stage is None:
            return
        self._statistics.record_stage(stage, 1e3 * (time.perf_counter() - started_s))


def _problem_of(error: Exception) -> str:
    return error.problem if isinstance(error, SrEdgeError) else str(error) or type(error).__name__


def _remedy_of(error: Exception) -> str | None:
    return error.remedy if isinstance(error, SrEdgeError) else None
