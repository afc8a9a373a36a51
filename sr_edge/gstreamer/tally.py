"""What became of each frame in the element: counted, timed, and said aloud without flooding."""

from __future__ import annotations

import threading
from collections import deque

_SMOOTHING = 0.1
_NOTABLE_CHANGE = 1.25


class FrameCounters:
    """Counts of one stream, added to by the thread that brings frames and the one that enlarges them.

    A frame is known by its pts. Frames leave the inbox in order, so that one whose turn comes tells that all
    before it were displaced. The counts are those of whole frames at any moment.

    Attributes:
        entered: frames that came.
        displaced: those that newer ones pushed out of the inbox.
        late: those refused at their turn.
        failed: those that the runtime could not enlarge.
        delivered: those handed on.
        work_ms: what one takes, smoothed.
    """

    def __init__(self, most_waiting: int = 0) -> None:
        """Args:
        most_waiting: frames that the inbox holds; one more may be on its way in.
        """
        self._lock = threading.Lock()
        self._inside: deque[int] = deque()
        self._most_inside = most_waiting + 1
        self.entered = self.displaced = self.late = self.failed = self.delivered = 0
        self.failed_in_a_row = 0
        self.work_ms = 0.0

    @property
    def dropped(self) -> int:
        """Frames that the policy left out."""
        return self.displaced + self.late

    def enter(self, pts: int) -> None:
        with self._lock:
            self.entered += 1
            self._inside.append(pts)

    def arrive(self, pts: int) -> None:
        """The turn of this frame has come."""
        with self._lock:
            while self._inside and self._inside.popleft() != pts:
                self.displaced += 1
            while len(self._inside) > self._most_inside:  # frames without a time all look the same
                self._inside.popleft()
                self.displaced += 1

    def refuse(self) -> None:
        with self._lock:
            self.late += 1

    def flush(self) -> None:
        """What waited was discarded by a seek, not by the policy."""
        with self._lock:
            self.entered -= len(self._inside)
            self._inside.clear()

    def end(self) -> None:
        """No frame comes any more: those whose turn did not come were displaced."""
        with self._lock:
            self.displaced += len(self._inside)
            self._inside.clear()

    def take_work_ms(self, work_ms: float) -> None:
        """Measured before the first frame."""
        with self._lock:
            self.work_ms = work_ms

    def fail(self) -> None:
        with self._lock:
            self.failed += 1
            self.failed_in_a_row += 1

    def deliver(self, work_ms: float) -> None:
        """A frame was enlarged in `work_ms`, which `work_ms` of the tally follows smoothly."""
        with self._lock:
            self.delivered += 1
            self.failed_in_a_row = 0
            self.work_ms += (work_ms - self.work_ms) * _SMOOTHING

    def sentence(self, policy: str) -> str:
        """For people, about the frames that are missing downstream."""
        failed = f", {self.failed} failed" if self.failed else ""
        return (
            f"{self.dropped} of {self.entered} frames were dropped{failed}: one takes {self.work_ms:.0f} ms "
            f"(policy {policy}); a faster runtime, precision or model, or smaller frames would keep them"
        )


def reaches_round(before: int, now: int) -> bool:
    """Whether a growing count has passed 1, 10, 100 ...: then it is worth saying again."""
    return now > before and len(str(now)) > (len(str(before)) if before else 0)


def latency_ns(work_ms: float, interval_ms: float) -> int:
    """What the element adds to a live pipeline's latency.

    A frame waits for the one before it where frames come faster than they are enlarged; 0 of `interval_ms`, frames
    at no fixed rate, is taken for that too.
    """
    return round(1e6 * work_ms * (1 if work_ms <= interval_ms else 2))


def is_notable(told_ns: int, now_ns: int) -> bool:
    """Whether the latency has grown so much past what was told that the pipeline must hear of it."""
    return now_ns > _NOTABLE_CHANGE * told_ns


def earliest_after_qos(timestamp_ns: int, lateness_ns: int) -> int:
    """Running time before which frames are late by a sink's QoS event.

    A sink that is behind stays so when only the present gap is made up; as other GStreamer filters do, that much
    again is left out.
    """
    return timestamp_ns + (2 * lateness_ns if lateness_ns > 0 else lateness_ns)
