"""Counters and processing times of the frames in the element, and the rules for when to report them."""

from __future__ import annotations

import threading
from collections import deque

_SMOOTHING = 0.1
_SIGNIFICANT_CHANGE = 1.25


class FrameCounters:
    """Counters of one stream, updated by the thread that queues frames and the thread that upscales them.

    Frames are identified by their pts. They leave the input queue in order, so when a frame is dequeued, all earlier
    frames that are still recorded as queued were displaced. A lock makes every update visible as a whole.

    Attributes:
        received: Frames that arrived at the element.
        displaced: Frames that newer ones pushed out of the input queue.
        late: Frames that were refused when they were dequeued.
        failed: Frames that could not be upscaled.
        failed_in_a_row: Failures since the last frame that was upscaled.
        delivered: Frames that were upscaled.
        processing_ms: Processing time of one frame, smoothed.
    """

    def __init__(self, queue_frames: int = 0) -> None:
        """Sets all counters to 0.

        Args:
            queue_frames: Capacity of the input queue; one more frame may be on its way into the queue.
        """
        self._lock = threading.Lock()
        self._queued: deque[int] = deque()
        self._max_queued = queue_frames + 1
        self.received = self.displaced = self.late = self.failed = self.delivered = 0
        self.failed_in_a_row = 0
        self.processing_ms = 0.0

    @property
    def dropped(self) -> int:
        """Frames that were dropped by the policy."""
        return self.displaced + self.late

    def receive(self, pts: int) -> None:
        with self._lock:
            self.received += 1
            self._queued.append(pts)

    def dequeue(self, pts: int) -> None:
        """Records that the frame has left the input queue."""
        with self._lock:
            while self._queued and self._queued.popleft() != pts:
                self.displaced += 1
            # Frames without a timestamp all have the same pts; the capacity of the queue shows how many are missing.
            while len(self._queued) > self._max_queued:
                self._queued.popleft()
                self.displaced += 1

    def refuse(self) -> None:
        with self._lock:
            self.late += 1

    def flush(self) -> None:
        """Removes the queued frames from the counters: a seek has discarded them, not the policy."""
        with self._lock:
            self.received -= len(self._queued)
            self._queued.clear()

    def end(self) -> None:
        """Counts the frames that were never dequeued as displaced; called at the end of the stream."""
        with self._lock:
            self.displaced += len(self._queued)
            self._queued.clear()

    def set_processing_ms(self, processing_ms: float) -> None:
        """Sets the processing time that was measured before the first frame."""
        with self._lock:
            self.processing_ms = processing_ms

    def fail(self) -> None:
        with self._lock:
            self.failed += 1
            self.failed_in_a_row += 1

    def deliver(self, processing_ms: float) -> None:
        """Records that a frame was upscaled in `processing_ms`, and updates the smoothed value."""
        with self._lock:
            self.delivered += 1
            self.failed_in_a_row = 0
            self.processing_ms += (processing_ms - self.processing_ms) * _SMOOTHING

    def summary(self, policy: str) -> str:
        """A sentence for users about the frames that are missing downstream."""
        failed = f", {self.failed} failed" if self.failed else ""
        return (
            f"{self.dropped} of {self.received} frames were dropped{failed}: one takes {self.processing_ms:.0f} ms "
            f"(policy {policy}); a faster runtime, precision or model, or smaller frames would keep them"
        )


def reaches_power_of_ten(before: int, now: int) -> bool:
    """Whether a growing count has reached 1, 10, 100 ..., at which it is reported."""
    return now > before and len(str(now)) > (len(str(before)) if before else 0)


def latency_ns(processing_ms: float, interval_ms: float) -> int:
    """The latency that the element adds to a live pipeline.

    If frames arrive faster than they are processed, each also waits for the frame before it. An `interval_ms` of 0, a
    variable frame rate, counts as faster.
    """
    return round(1e6 * processing_ms * (1 if processing_ms <= interval_ms else 2))


def is_significant_increase(reported_ns: int, now_ns: int) -> bool:
    """Whether the latency exceeds the reported one by so much that the pipeline must be informed."""
    return now_ns > _SIGNIFICANT_CHANGE * reported_ns


def earliest_after_qos(timestamp_ns: int, lateness_ns: int) -> int:
    """The running time before which frames are late according to a QoS event of a sink.

    A sink stays late if only its present lateness is made up, so twice the lateness is skipped, as other GStreamer
    filters do.
    """
    return timestamp_ns + (2 * lateness_ns if lateness_ns > 0 else lateness_ns)
