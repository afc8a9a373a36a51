"""The one loop: source -> model -> sink, all at once, with bounded queues between them.

    source thread        reads and decodes                -> inbox, which drops by the policy
    at_once + 1 threads  take a turn on the engine, then the frame; prepare, infer, leave the turn, finish -> outbox
    consumer             takes the results in order, and writes them

The turn is taken first, the frame after it: what is taken is then the newest there is, however long the wait was.
Frames that are bicubic by request go past those in the engine, for which there is one thread more; the outbox holds
them until these are out.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace

from sr_edge.camera.enlarger import FrameUpscaler
from sr_edge.camera.frame import VideoFrame
from sr_edge.camera.options import LoopOptions
from sr_edge.camera.policy import Dropping, policy_for
from sr_edge.camera.ports import Sink, SinkUnavailable, Source
from sr_edge.camera.queues import Inbox, Outbox
from sr_edge.camera.statistics import StreamReport, StreamStatistics
from sr_edge.camera.watch import Watch
from sr_edge.camera.work import Result, Work
from sr_edge.errors import UsageError

_MOST_BEHIND = 32
"""Frames between, made meanwhile, that may wait for the model's: a second of video."""


class Loop:
    """One stream. `frames` gives the results to the caller, `run` writes them to a sink; one of the two, once."""

    def __init__(
        self,
        source: Source,
        upscaler: FrameUpscaler,
        options: LoopOptions | None = None,
        *,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """Args:
        source: is closed at the end.
        upscaler: stays the caller's; several loops may share one, and take turns.
        clock: nanoseconds that only rise, by the clock of the frames' `captured_ns`.

        Raises:
            UsageError: the fallback is of another scale.
        """
        options = options or LoopOptions()
        policy = options.policy or policy_for(source.is_live)
        self.options = options
        self._clock = clock
        self._source = source
        self._sink: Sink | None = None
        self._event_log = options.event_log
        self._stopped = threading.Event()
        self._watch = Watch(options.hang_s)
        self._statistics = StreamStatistics()
        self._work = Work(upscaler, options, self._statistics, self._watch, clock)
        self._inbox = Inbox(policy, gives_way=self._work.is_between, clock=clock)
        self._workers = self._work.at_once + (1 if options.every == 1 else 2)
        # Results that wait are old when they are shown: only where none may be lost, a burst is evened out.
        depth = self._workers + (2 if policy.dropping is Dropping.BLOCK else 0)
        behind = min((options.every - 1) * self._work.at_once, _MOST_BEHIND)
        self._outbox: Outbox[Result] = Outbox(depth, behind)
        self._taking = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._working = self._workers
        self._error: BaseException | None = None

    def report(self) -> StreamReport:
        """What happened so far."""
        return self._statistics.report(
            dropped=self._inbox.dropped,
            queued=len(self._inbox),
            reopened=getattr(self._source, "reopened", 0),
            sink_reopened=getattr(self._sink, "reopened", 0),
            unreadable_packets=getattr(self._source, "unreadable_packets", 0),
            events=self._event_log.events,
        )

    def frames(self) -> Iterator[VideoFrame]:
        """The enlarged frames in order, each at the pts of the one that it came from.

        Leaving the iteration early ends the stream.

        Raises:
            StreamError: the source is lost, a stage hangs, or too many frames in a row failed.
        """
        with closing(self._results()) as results:
            for result in results:
                self._work.sent(result)
                yield result.frame

    def run(self, sink: Sink, on_tick: Callable[[StreamReport], None] | None = None) -> StreamReport:
        """Writes every result to `sink`, and closes it whatever happens.

        Args:
            on_tick: is given a report every `options.tick_s`.

        Raises:
            StreamError: as `frames`, or the sink failed.
        """
        # An event and not `join`: Python 3.11 takes a thread for ended when a signal interrupts its join.
        written = threading.Event()
        self._sink = sink
        threading.Thread(target=self._write_all, args=(sink, written), name="sr-edge-sink", daemon=True).start()
        try:
            while not written.wait(self.options.tick_s):
                self._watch.check()
                if on_tick is not None:
                    on_tick(self.report())
        except BaseException:
            self.stop()
            written.wait(self.options.hang_s)
            raise
        if self._error is not None:
            raise self._error
        return self.report()

    def stop(self) -> None:
        """Ends the stream as if its source had ended: what is under way is finished. From any thread."""
        self._stopped.set()
        self._source.close()
        self._inbox.end(discard=True)

    def _write_all(self, sink: Sink, written: threading.Event) -> None:
        try:
            try:
                with closing(self._results()) as results:
                    for result in results:
                        if not self._write(sink, result):
                            break
            finally:
                with self._watch.stage(f"closing the sink {sink.name}"):
                    sink.close()
        except BaseException as error:
            self._give_up(error)
        finally:
            written.set()

    def _write(self, sink: Sink, result: Result) -> bool:
        """False where the stream was stopped while the sink was away."""
        started_s = time.perf_counter()
        while (wait_s := self._try_to_write(sink, result)) is not None:
            if self._stopped.wait(wait_s):
                return False
        self._statistics.stage("write", 1e3 * (time.perf_counter() - started_s))
        self._work.sent(result)
        return True

    def _try_to_write(self, sink: Sink, result: Result) -> float | None:
        """How long to wait where the sink is away; None where it took the frame."""
        try:
            with self._watch.stage(f"the sink {sink.name}"):
                sink.write(result.frame)
        except SinkUnavailable as away:
            return away.wait_s
        return None

    def _results(self) -> Generator[Result, None, None]:
        self._start()
        try:
            while not self._outbox.is_over:
                result = self._outbox.take(self.options.tick_s)
                self._watch.check()
                self._work.look()
                if result is not None:
                    yield result
            if self._error is not None:
                raise self._error
            self._work.require_result()
        finally:
            self.stop()
            self._outbox.end()
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
        """Waits until nothing uses the model any more, so that its session can be closed; for a hung one not for good.

        The source's thread ends by itself when its read comes back.
        """
        until_s = time.monotonic() + self.options.hang_s
        for thread in self._threads[: self._workers]:
            thread.join(max(0.0, until_s - time.monotonic()))

    def _read_all(self) -> None:
        try:
            asked_s = time.perf_counter()
            for frame in self._source.frames():
                self._statistics.frame_in(1e3 * (time.perf_counter() - asked_s))
                if not self._inbox.put(frame if frame.captured_ns else replace(frame, captured_ns=self._clock())):
                    break
                asked_s = time.perf_counter()
        except BaseException as error:
            self._error = self._error or error
        finally:
            self._source.close()
            self._inbox.end()

    def _upscale_all(self) -> None:
        try:
            while self._inbox.wait() and self._outbox.reserve():
                self._upscale_next()
        except BaseException as error:
            self._error = self._error or error
            self.stop()
        finally:
            with self._taking:
                self._working -= 1
                if self._working == 0:
                    self._outbox.end()

    def _upscale_next(self) -> None:
        upscaler = self._wanted()
        if upscaler is None:
            self._outbox.release()
            return
        with upscaler.lock.acquire(self, lambda: self._wanted() is upscaler) as is_acquired:
            with self._taking:
                frame = (
                    self._inbox.take(lambda frame: self._work.frame_upscaler_for(frame) is upscaler)
                    if is_acquired
                    else None
                )
                if frame is None:
                    self._outbox.release()
                    return
                ticket = self._outbox.ticket()
            self._work.wake()
            with self._delivering(ticket):
                started = self._work.begin(frame, upscaler)
        with self._delivering(ticket):
            self._outbox.deliver(ticket, self._work.finish(started) if started else None)

    @contextmanager
    def _delivering(self, ticket: int) -> Iterator[None]:
        """What other threads have under way before this frame still comes out."""
        try:
            yield
        except BaseException as error:
            self._error = self._error or error
            self._outbox.fail(ticket)
            raise

    def _wanted(self) -> FrameUpscaler | None:
        """What the next frame is to go through; None where none waits."""
        frame = self._inbox.head()
        return None if frame is None else self._work.frame_upscaler_for(frame)

    def _give_up(self, error: BaseException) -> None:
        self._error = self._error or error
        self.stop()
        self._outbox.end()
