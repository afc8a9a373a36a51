"""When to leave the model for something cheaper and when to try it again, with hysteresis so that it does not flap."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from sr_edge.errors import UsageError


@dataclass(frozen=True)
class FallbackTiming:
    """When the fallback takes over, and when the model is tried again.

    Attributes:
        late_for_s: the model is left when most of its frames of so long were late.
        first_rest_s: how long the fallback runs before the model is tried again; doubles with each failure soon after.
        longest_rest_s: the limit of that doubling.
        settled_s: a model that kept the limit for so long after a return starts again with the first rest.
    """

    late_for_s: float = 1.0
    first_rest_s: float = 5.0
    longest_rest_s: float = 60.0
    settled_s: float = 30.0


class Governor:
    """Decides between the model and its fallback from the latencies of their frames.

    Each time the model fails again soon after a return, the next return comes twice as late.
    """

    def __init__(
        self, max_latency_ms: float, on_event: Callable[[str], None], timing: FallbackTiming | None = None
    ) -> None:
        if not max_latency_ms > 0:
            raise UsageError(
                f"the latency limit of {max_latency_ms:g} ms is not positive",
                found=max_latency_ms,
                wanted="more than 0 ms",
                remedy="give more than 0",
            )
        self._max_latency_ms = max_latency_ms
        self._on_event = on_event
        self._timing = timing or FallbackTiming()
        self._pause_s = self._timing.first_rest_s
        self._switched_s = float("-inf")
        self._recent: deque[tuple[float, bool]] = deque()
        """When frames of the model went out, and whether late: the last `late_for_s` and the one before."""
        self.uses_fallback = False
        self.switches = 0

    def observe(self, latency_ms: float, by_fallback: bool, now_s: float) -> None:
        """Takes note of a frame that went out at `now_s`, by any clock that only rises."""
        if by_fallback is not self.uses_fallback:
            return  # begun before the last switch
        if self.uses_fallback:
            if now_s - self._switched_s >= self._pause_s:
                self._return(now_s)
            return
        self._recent.append((now_s, latency_ms > self._max_latency_ms))
        if self._is_mostly_late(now_s - self._timing.late_for_s):
            self._leave(latency_ms, now_s)

    def observe_waiting(self, waits_ms: float, now_s: float) -> None:
        """Takes note of a frame that is in the model for `waits_ms` already: alone it may be late for a second."""
        if not self.uses_fallback and waits_ms >= self._max_latency_ms + 1e3 * self._timing.late_for_s:
            self._leave(waits_ms, now_s)

    def _is_mostly_late(self, since_s: float) -> bool:
        """Never before frames were seen since then."""
        while len(self._recent) > 1 and self._recent[1][0] <= since_s:
            self._recent.popleft()
        late = sum(is_late for _, is_late in self._recent)
        return self._recent[0][0] <= since_s and 2 * late > len(self._recent)

    def _leave(self, latency_ms: float, now_s: float) -> None:
        held_s = now_s - self._switched_s
        timing = self._timing
        again = self.switches > 0 and held_s < timing.settled_s
        self._pause_s = min(2 * self._pause_s, timing.longest_rest_s) if again else timing.first_rest_s
        self._switch(True, now_s)
        self._on_event(
            f"the model took {latency_ms:.0f} ms, for a second mostly over the {self._max_latency_ms:.0f} ms allowed: "
            f"going on with the fallback, trying the model again in {self._pause_s:.0f} s"
        )

    def _return(self, now_s: float) -> None:
        self._switch(False, now_s)
        self._on_event("trying the model again")

    def _switch(self, to_fallback: bool, now_s: float) -> None:
        self.uses_fallback = to_fallback
        self.switches += 1
        self._switched_s = now_s
        self._recent.clear()
