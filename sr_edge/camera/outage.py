"""One loss of a source or sink: when to try again, when to give up, and what is said of it."""

from __future__ import annotations

import time
from collections.abc import Callable

from sr_edge.errors import StreamError

FIRST_WAIT_S = 0.5
LONGEST_WAIT_S = 8.0


class Outage:
    """From the loss to the return. `wait_s` is to pass before the next try; it doubles with each, up to 8 seconds."""

    def __init__(
        self,
        name: str,
        reason: str,
        on_event: Callable[[str], None],
        give_up_s: float | None = None,
        first_wait_s: float = FIRST_WAIT_S,
    ) -> None:
        """Args:
        reason: of the loss; may begin with the name.
        give_up_s: how long to try; None tries for good.
        """
        self.wait_s = first_wait_s
        self._name = name
        self._reason = reason.removeprefix(f"{name}: ")
        self._on_event = on_event
        self._give_up_s = give_up_s
        self._lost_s = time.monotonic()
        on_event(f"{name} is lost: {self._reason}; opening it again")

    @property
    def _away_s(self) -> float:
        return time.monotonic() - self._lost_s

    def failed(self, error: StreamError) -> None:
        """Takes note of a try in vain, and says why where that is news.

        Raises:
            StreamError: it is time to give up.
        """
        if self._give_up_s is not None and self._away_s >= self._give_up_s:
            raise StreamError(
                f"{error.problem}, given up after {self._away_s:.0f} s",
                found=error.found,
                wanted=error.wanted,
                remedy=error.remedy,
            ) from None
        self.wait_s = min(2 * self.wait_s, LONGEST_WAIT_S)
        reason = str(error).removeprefix(f"{self._name}: ")
        if reason != self._reason:
            self._reason = reason
            self._on_event(f"{self._name} is still away: {reason}")

    def over(self) -> None:
        """It is back."""
        self._on_event(f"{self._name} is back after {self._away_s:.1f} s")
