"""Deferred handling of Ctrl-C and SIGTERM, so that a training stops between two steps and can be continued."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def deferred_signals() -> Iterator[list[int]]:
    """Records the first SIGINT or SIGTERM of the block in a list, as a context manager.

    The previous handlers are restored at once, so that a second signal stops the process. Python allows signal handlers
    in the main thread only; in another thread the list stays empty.
    """
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield received
        return
    before = {number: signal.getsignal(number) or signal.SIG_DFL for number in STOP_SIGNALS}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def record(number: int, _frame: FrameType | None) -> None:
        # Runs between two bytecodes of the main thread, which polls the list after each step: no lock is needed.
        received.append(number)
        restore()

    for number in STOP_SIGNALS:
        signal.signal(number, record)
    try:
        yield received
    finally:
        restore()
