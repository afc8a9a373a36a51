"""The pipeline of one stream: source -> model -> sink, in threads of their own with bounded queues between them.

    source thread            reads and decodes -> input queue, which drops frames by the policy
    concurrency + 1 workers  acquire the engine's lock, then take a frame; prepare, infer, release the lock,
                             finish -> ordered output
    consumer                 takes the results in order, and writes them

A worker acquires the lock before it takes a frame: it then takes the newest frame, however long it waited.
Frames that are upscaled by bicubic interpolation (`every`) overtake those in the engine. There is one more worker for
them, and the ordered output keeps them until the frames before them are done.

Locks are acquired in one order only: `FairLock`, then `_take_lock`, then the condition of one queue. No queue calls
back into a `FairLock`, so no cycle of waiting threads can arise.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace

from sr_edge.camera.flow.drop_policy import Dropping, policy_for
from sr_edge.camera.flow.queues import InputQueue, OrderedOutput
from sr_edge.camera.media.frame import VideoFrame
from sr_edge.camera.pipeline.frame_stages import FrameStages, UpscaledFrame
from sr_edge.camera.pipeline.frame_upscaler import FrameUpscaler
from sr_edge.camera.pipeline.options import LoopOptions
from sr_edge.camera.pipeline.statistics import StreamReport, StreamStatistics
from sr_edge.camera.pipeline.watchdog import Watchdog
from sr_edge.camera.protocols import Sink, SinkUnavailable, Source
from sr_edge.errors import UsageError

_MAX_EXTRA_DEPTH = 32
"""Bicubic frames that may wait for a frame in the model: about a second of video."""


class Loop:
    """One stream. Either `frames` returns the results to the caller or `run` writes them to a sink; once."""

    def __init__(
        self,
        source: Source,
        upscaler: FrameUpscaler,
        options: LoopOptions | None = None,
        *,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """Prepares a stream without starting it.

        Args:
            source: the source, which is closed at the end.
            upscaler: the upscaler, which stays open; streams that share one share its engine fairly, and each reuses
                its own tiles.
            options: the options of the stream; None means the defaults.
            clock: the monotonic clock of the frames' `captured_ns` and of the statistics, in nanoseconds.

        Raises:
            UsageError: the fallback has another scale than the model.
        """
        options = options or LoopOptions()
        policy = options.policy or policy_for(source.is_live)
        self.options = options
        self._clock = clock
        self._source = source
        self._sink: Sink | None = None
        self._event_log = options.event_log
        self._stopped = threading.Event()
        self._watchdog = Watchdog(options.stage_timeout_s)
        self._statistics = StreamStatistics(clock)
        own_options = replace(options, fallback=options.fallback and options.fallback.for_stream())
        self._stages = FrameStages(upscaler.for_stream(), own_options, self._statistics, self._watchdog, clock)
        self._input = InputQueue(policy, is_low_priority=self._stages.is_bicubic, clock=clock)
        self._workers = self._stages.concurrency + (1 if options.every == 1 else 2)
        # Results that wait are old when they are shown. Only `block`, which loses no frame, evens out bursts.
        depth = self._workers + (2 if policy.dropping is Dropping.BLOCK else 0)
        extra_depth = min((options.every - 1) * self._stages.concurrency, _MAX_EXTRA_DEPTH)
        self._output: OrderedOutput[UpscaledFrame] = OrderedOutput(depth, extra_depth)
        self._take_lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._active_workers = self._workers
        # The first error of any thread. Two threads that fail at the same moment may both set it: either one is right.
        self._error: BaseException | None = None

    def report(self) -> StreamReport:
        """The statistics so far."""
        return self._statistics.report(
            dropped=self._input.dropped,
            queued=len(self._input),
            reconnections=self._source.reconnections,
            is_reconnecting=self._source.is_reconnecting,
            sink_reconnections=self._sink.reconnections if self._sink is not None else 0,
            unreadable_packets=self._source.unreadable_packets,
            events=self._event_log.events,
        )

    def frames(self) -> Iterator[VideoFrame]:
        """Iterates over the upscaled frames in order, each with the pts of its input frame.

        Leaving the iteration early ends the stream.

        Raises:
            StreamError: the source is lost, a stage hangs, or too many frames in a row failed.
        """
        with closing(self._results()) as results:
            for result in results:
                self._stages.record_written(result)
                yield result.frame

    def run(self, sink: Sink, on_report: Callable[[StreamReport], None] | None = None) -> StreamReport:
        """Writes every result to `sink`, and closes the sink whatever happens.

        Args:
            sink: receives the frames in a thread of its own.
            on_report: called with a report every `options.report_interval_s`.

        Returns:
            The report at the end of the stream.

        Raises:
            StreamError: see `frames`; also if the sink failed.
        """
        # An event and not `join`: Python 3.11 takes a thread for ended when a signal interrupts its join.
        written = threading.Event()
        self._sink = sink
        threading.Thread(target=self._write_all, args=(sink, written), name="sr-edge-sink", daemon=True).start()
        try:
            # The wait has a timeout because a hung stage sets no event: the watchdog has to be asked again and again.
            while not written.wait(self.options.report_interval_s):
                self._watchdog.check()
                if on_report is not None:
                    on_report(self.report())
        except BaseException:
            # `stop` ends the results, after which the sink's thread closes the sink and sets the event in any case.
            # The timeout covers a thread that hangs.
            self.stop()
            written.wait(self.options.stage_timeout_s)
            raise
        if self._error is not None:
            raise self._error
        return self.report()

    def stop(self) -> None:
        """Ends the stream as if its source had ended; frames under way are finished. May be called from any thread."""
        # The event wakes a writer that waits for its sink, closing the source ends a read, and the end of the input
        # queue wakes a source that waits for room and workers that wait for a frame.
        self._stopped.set()
        self._source.close()
        self._input.end(discard=True)

    def _write_all(self, sink: Sink, written: threading.Event) -> None:
        try:
            try:
                with closing(self._results()) as results:
                    for result in results:
                        if not self._write(sink, result):
                            break
            finally:
                with self._watchdog.stage(f"closing the sink {sink.name}"):
                    sink.close()
        except BaseException as error:
            self._fail(error)
        finally:
            # Set last: `run` reads `_error` once it sees the event.
            written.set()

    def _write(self, sink: Sink, result: UpscaledFrame) -> bool:
        """Writes a result, again and again while the sink is unavailable; false if the stream was stopped meanwhile."""
        started_s = time.perf_counter()
        while (wait_s := self._try_to_write(sink, result)) is not None:
            # Meanwhile the output fills and the workers wait in `reserve`, so the policy drops frames at the
            # input queue. `stop` ends the wait.
            if self._stopped.wait(wait_s):
                return False
        self._statistics.record_stage("write", 1e3 * (time.perf_counter() - started_s))
        self._stages.record_written(result)
        return True

    def _try_to_write(self, sink: Sink, result: UpscaledFrame) -> float | None:
        """Seconds to wait before the next attempt; None if the sink has taken the frame."""
        try:
            with self._watchdog.stage(f"the sink {sink.name}"):
                sink.write(result.frame)
        except SinkUnavailable as error:
            return error.wait_s
        return None

    def _results(self) -> Generator[UpscaledFrame, None, None]:
        self._start()
        try:
            while not self._output.is_over:
                # With a timeout: if a stage hangs, no result arrives and only the watchdog can end the stream.
                result = self._output.take(self.options.report_interval_s)
                self._watchdog.check()
                self._stages.check_latency()
                if result is not None:
                    yield result
            if self._error is not None:
                raise self._error
            self._stages.require_result()
        finally:
            # `end` wakes the workers that wait for a place in the output, which nobody takes results from any more.
            self.stop()
            self._output.end()
            self._join()

    def _start(self) -> None:
        if self._threads:
            raise UsageError("this stream has already run", remedy="create another one")
        for number in range(self._workers):
            name = f"sr-edge-model-{number}"
            self._threads.append(threading.Thread(target=self._upscale_all, name=name, daemon=True))
        self._threads.append(threading.Thread(target=self._read_all, name="sr-edge-source", daemon=True))
        for thread in self._threads:
            thread.start()

    def _join(self) -> None:
        """Waits until no worker uses the model, so that its session can be closed; not for ever if one hangs.

        The source's thread is not waited for: it ends when its read returns, and does not use the model.
        """
        deadline_s = time.monotonic() + self.options.stage_timeout_s
        for thread in self._threads[: self._workers]:
            thread.join(max(0.0, deadline_s - time.monotonic()))

    def _read_all(self) -> None:
        try:
            requested_s = time.perf_counter()
            for frame in self._source.frames():
                self._statistics.record_input(1e3 * (time.perf_counter() - requested_s))
                if not self._input.put(frame if frame.captured_ns else replace(frame, captured_ns=self._clock())):
                    break
                requested_s = time.perf_counter()
        except BaseException as error:
            self._error = self._error or error
        finally:
            # The error is set before the queue ends: who sees the end of the results sees the error, too.
            self._source.close()
            self._input.end()

    def _upscale_all(self) -> None:
        try:
            # The place is reserved before a frame is taken: a frame must not get old while it waits for the consumer.
            while self._input.wait() and self._output.reserve():
                self._upscale_next()
        except BaseException as error:
            self._error = self._error or error
            self.stop()
        finally:
            # The last worker ends the output. Each one has delivered or failed its ticket by now: no result is missed.
            with self._take_lock:
                self._active_workers -= 1
                if self._active_workers == 0:
                    self._output.end()

    def _upscale_next(self) -> None:
        upscaler = self._next_upscaler()
        if upscaler is None:  # another worker was faster
            self._output.release()
            return
        # While this worker waits, another one may take the frame, or the fallback may take over. `FrameStages.wake`
        # then makes it test its condition again. If the source replaces the frame or `stop` discards it, nothing
        # wakes it, which is safe: the lock is granted sooner or later, and `take` refuses a frame of another upscaler.
        with upscaler.lock.acquire(self, lambda: self._next_upscaler() is upscaler) as is_acquired:
            # The lock makes the order of the tickets the order of the frames.
            with self._take_lock:
                frame = (
                    self._input.take(lambda frame: self._stages.upscaler_for(frame) is upscaler)
                    if is_acquired
                    else None
                )
                if frame is None:
                    self._output.release()
                    return
                ticket = self._output.issue_ticket()
            self._stages.wake()
            with self._failing_output(ticket):
                inferred = self._stages.infer(frame, upscaler)
        with self._failing_output(ticket):
            self._output.deliver(ticket, self._stages.finish(inferred) if inferred else None)

    @contextmanager
    def _failing_output(self, ticket: int) -> Iterator[None]:
        """Ends the output before this ticket if the block fails; earlier frames that are under way still come out."""
        try:
            yield
        except BaseException as error:
            # Before `fail`, which may wake the consumer: it raises the error that it finds.
            self._error = self._error or error
            self._output.fail(ticket)
            raise

    def _next_upscaler(self) -> FrameUpscaler | None:
        """The upscaler for the next frame; None if no frame waits."""
        frame = self._input.head()
        return None if frame is None else self._stages.upscaler_for(frame)

    def _fail(self, error: BaseException) -> None:
        self._error = self._error or error
        self.stop()
        self._output.end()
