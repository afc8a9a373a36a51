"""Ctrl-C and SIGTERM as requests: a step is never broken off half-way, where it could not be gone on from."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def deferred_signals() -> Iterator[list[int]]:
    """Gives a list that gets the first SIGINT or SIGTERM of the block; a second one acts as it did before.

    Outside the main thread, where Python lets nobody catch signals, the list stays empty.
    """
    noted: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield noted
        return
    before = {number: signal.getsignal(number) or signal.SIG_DFL for number in STOP_SIGNALS}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def note(number: int, _frame: FrameType | None) -> None:
        noted.append(number)
        restore()

    for number in STOP_SIGNALS:
        signal.signal(number, note)
    try:
        yield noted
    finally:
        restore()
