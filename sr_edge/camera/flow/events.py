"""Events of a stream that a person should know about: lost and restored connections, failed frames, fallbacks."""

from __future__ import annotations

import threading
from collections.abc import Callable

_MAX_EVENTS = 100


def ignore_event(text: str) -> None:
    """The default `on_event` callback, which does nothing."""


class EventLog:
    """Passes every event to a callback and keeps the first 100 for the report.

    One log serves the source, the model and the sink of a stream. Safe for use from any thread.
    """

    def __init__(self, on_event: Callable[[str], None] = ignore_event) -> None:
        """Creates an empty log.

        Args:
            on_event: called with each event, from the thread in which it happened.
        """
        self._on_event = on_event
        self._events: list[str] = []
        self._lock = threading.Lock()

    def record(self, text: str) -> None:
        """Records an event and calls `on_event` with it."""
        with self._lock:
            if len(self._events) < _MAX_EVENTS:
                self._events.append(text)
        # Outside the lock: the callback is the caller's code and may record or read events itself.
        self._on_event(text)

    @property
    def events(self) -> tuple[str, ...]:
        """The recorded events, oldest first."""
        with self._lock:
            return tuple(self._events)
