"""What a person should hear of a stream: losses and returns, frames that failed, fallbacks."""

from __future__ import annotations

import threading
from collections.abc import Callable

from sr_edge.camera.ports import ignore_event

_MOST_EVENTS = 100


class EventLog:
    """Tells it at once, and keeps it for the report. One for a stream's source, model and sink alike."""

    def __init__(self, on_event: Callable[[str], None] = ignore_event) -> None:
        """Args:
        on_event: is called from the stream's threads.
        """
        self._on_event = on_event
        self._events: list[str] = []
        self._lock = threading.Lock()

    def record(self, text: str) -> None:
        """Tells `text`; of very many the first ones are kept."""
        with self._lock:
            if len(self._events) < _MOST_EVENTS:
                self._events.append(text)
        self._on_event(text)

    @property
    def events(self) -> tuple[str, ...]:
        """What was told, in its order."""
        with self._lock:
            return tuple(self._events)
