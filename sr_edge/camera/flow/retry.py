"""Reconnection with exponential backoff: when to try again, when to give up, and which events to report."""

from __future__ import annotations

import time
from collections.abc import Callable

from sr_edge.errors import StreamError

FIRST_WAIT_S = 0.5
MAX_WAIT_S = 8.0


class Reconnection:
    """The attempts to reconnect after one loss of a source or sink.

    `wait_s` is the time to wait before the next attempt; it doubles with each failed attempt, up to 8 seconds.
    """

    def __init__(
        self,
        name: str,
        reason: str,
        on_event: Callable[[str], None],
        give_up_s: float | None = None,
        first_wait_s: float = FIRST_WAIT_S,
    ) -> None:
        """Reports the loss.

        Args:
            name: the name of the source or sink.
            reason: the reason of the loss, which may begin with the name.
            on_event: called with each change of state.
            give_up_s: the time after which a failed attempt is the last one; None never gives up.
            first_wait_s: the wait before the first attempt.
        """
        self.wait_s = first_wait_s
        self._name = name
        self._reason = reason.removeprefix(f"{name}: ")
        self._on_event = on_event
        self._give_up_s = give_up_s
        self._lost_s = time.monotonic()
        on_event(f"{name} was lost: {self._reason}; reconnecting")

    @property
    def _elapsed_s(self) -> float:
        return time.monotonic() - self._lost_s

    def record_failure(self, error: StreamError) -> None:
        """Records a failed attempt, and reports its reason if that has changed.

        Raises:
            StreamError: the time to give up has come.
        """
        if self._give_up_s is not None and self._elapsed_s >= self._give_up_s:
            raise StreamError(
                f"{error.problem}, given up after {self._elapsed_s:.0f} s",
                found=error.found,
                wanted=error.wanted,
                remedy=error.remedy,
            ) from None
        self.wait_s = min(2 * self.wait_s, MAX_WAIT_S)
        reason = str(error).removeprefix(f"{self._name}: ")
        if reason != self._reason:
            self._reason = reason
            self._on_event(f"{self._name} is still unavailable: {reason}")

    def record_success(self) -> None:
        """Reports that the connection works again."""
        self._on_event(f"{self._name} is available again after {self._elapsed_s:.1f} s")
