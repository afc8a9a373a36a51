"""When a stream switches from the model to a cheaper fallback and back, with hysteresis against rapid changes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from sr_edge.errors import UsageError

_SMOOTHING = 0.2


@dataclass(frozen=True)
class FallbackTiming:
    """When the fallback takes over, and when the model is tried again.

    Attributes:
        late_window_s: the fallback takes over if most of the model's frames within this time were late.
        first_retry_s: how long the fallback runs before the model is tried again; doubles if the model fails soon
            after its return.
        max_retry_s: the limit of that doubling.
        stable_s: a model that met the limit for this long after its return starts again with the first retry time.
    """

    late_window_s: float = 1.0
    first_retry_s: float = 5.0
    max_retry_s: float = 60.0
    stable_s: float = 30.0


class FrameCost:
    """What a frame costs in the model: a part for each frame and one for each tile that is computed, both measured.

    Threads replace its two values by single assignments: at worst one observation is lost.
    """

    def __init__(self) -> None:
        self._frame_ms = 0.0
        self._tile_ms: float | None = None

    def observe(self, computed: int, infer_ms: float) -> None:
        """Records a frame of which `computed` tiles were computed."""
        if computed == 0:
            self._frame_ms += _SMOOTHING * (infer_ms - self._frame_ms)
            return
        tile_ms = max(0.0, infer_ms - self._frame_ms) / computed
        self._tile_ms = tile_ms if self._tile_ms is None else self._tile_ms + _SMOOTHING * (tile_ms - self._tile_ms)

    def predict_ms(self, computed: int) -> float | None:
        """The duration of `infer` for a frame with so many tiles to compute; None before the first observation."""
        return None if self._tile_ms is None else self._frame_ms + computed * self._tile_ms


class FallbackController:
    """Chooses between the model and its fallback by the latencies of their frames.

    One thread calls the methods. Others may read `uses_fallback`, a plain attribute, without a lock.
    Each time the model is too slow again soon after its return, the time until the next attempt doubles; it ends early
    once the model would be in time because few tiles of the frames have changed.

    A single expensive frame, such as the first one after a scene cut, does not lead to the fallback: it is what makes
    the frames after it cheap.
    """

    def __init__(
        self, max_latency_ms: float, on_event: Callable[[str], None], timing: FallbackTiming | None = None
    ) -> None:
        """Starts with the model.

        Args:
            max_latency_ms: frames with a longer latency are late.
            on_event: called with a message after each switch.
            timing: when to switch.

        Raises:
            UsageError: the latency limit is not positive.
        """
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
        self._retry_s = self._timing.first_retry_s
        self._switched_s = float("-inf")
        self._recent: deque[tuple[float, bool]] = deque()
        """When frames of the model were written, and whether late: the last `late_window_s` and the frame before."""
        self.uses_fallback = False
        self.switches = 0

    def observe(self, latency_ms: float, by_fallback: bool, now_s: float, model_ms: float | None = None) -> None:
        """Records a frame that was written.

        Args:
            latency_ms: its latency.
            by_fallback: whether the fallback upscaled it.
            now_s: when it was written, by any clock that only increases.
            model_ms: for a frame of the fallback, how long the model would have taken; None if that is not known.
        """
        if by_fallback is not self.uses_fallback:
            return  # the frame was started before the last switch
        if self.uses_fallback:
            waited_s = now_s - self._switched_s
            is_in_time = model_ms is not None and latency_ms + model_ms <= self._max_latency_ms
            if waited_s >= self._retry_s or (is_in_time and waited_s >= self._timing.first_retry_s):
                self._switch_to_model(now_s)
            return
        self._recent.append((now_s, latency_ms > self._max_latency_ms))
        if self._is_mostly_late(now_s - self._timing.late_window_s):
            self._switch_to_fallback(latency_ms, now_s)

    def observe_waiting(self, elapsed_ms: float, now_s: float) -> None:
        """Records a frame that has been in the model for `elapsed_ms`: one frame alone may be late for a second."""
        if not self.uses_fallback and elapsed_ms >= self._max_latency_ms + 1e3 * self._timing.late_window_s:
            self._switch_to_fallback(elapsed_ms, now_s)

    def _is_mostly_late(self, since_s: float) -> bool:
        """Whether most frames since `since_s` were late; false until frames cover that whole time."""
        while len(self._recent) > 1 and self._recent[1][0] <= since_s:
            self._recent.popleft()
        late = sum(is_late for _, is_late in self._recent)
        return self._recent[0][0] <= since_s and 2 * late > len(self._recent)

    def _switch_to_fallback(self, latency_ms: float, now_s: float) -> None:
        model_ran_s = now_s - self._switched_s
        timing = self._timing
        has_failed_again = self.switches > 0 and model_ran_s < timing.stable_s
        self._retry_s = min(2 * self._retry_s, timing.max_retry_s) if has_failed_again else timing.first_retry_s
        self._switch(True, now_s)
        self._on_event(
            f"the model took {latency_ms:.0f} ms and was mostly above the latency limit of "
            f"{self._max_latency_ms:.0f} ms for {timing.late_window_s:g} s: switching to the fallback, trying the "
            f"model again in {self._retry_s:.0f} s"
        )

    def _switch_to_model(self, now_s: float) -> None:
        self._switch(False, now_s)
        self._on_event("trying the model again")

    def _switch(self, to_fallback: bool, now_s: float) -> None:
        self.uses_fallback = to_fallback
        self.switches += 1
        self._switched_s = now_s
        self._recent.clear()
