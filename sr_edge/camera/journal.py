"""What a person should hear of a stream: losses and returns, frames that failed, fallbacks."""

from __future__ import annotations

import threading
from collections.abc import Callable

from sr_edge.camera.ports import say_nothing

_MOST_EVENTS = 100


class Journal:
    """Tells it at once, and keeps it for the report. One for a stream's source, model and sink alike."""

    def __init__(self, say: Callable[[str], None] = say_nothing) -> None:
        """Args:
        say: is called from the stream's threads.
        """
        self._say = say
        self._events: list[str] = []
        self._lock = threading.Lock()

    def say(self, text: str) -> None:
        """Tells `text`; of very many the first ones are kept."""
        with self._lock:
            if len(self._events) < _MOST_EVENTS:
                self._events.append(text)
        self._say(text)

    @property
    def events(self) -> tuple[str, ...]:
        """What was told, in its order."""
        with self._lock:
            return tuple(self._events)
