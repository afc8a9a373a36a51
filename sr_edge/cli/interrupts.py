"""Handling of Ctrl-C and SIGTERM: the program unwinds once, and never in the middle of an import."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import NoReturn, TypeVar

Result = TypeVar("Result")

INTERRUPTED = 130
TERMINATED = 143
IMPORT_RETRY_S = 0.01
"""Interval at which a signal that arrived during an import is tried again."""


def exit_with_code_of(program: Callable[[], int]) -> NoReturn:
    """Runs a program, including its imports, and exits with its code; with 130 after Ctrl-C and 143 after SIGTERM."""
    unwind_if_pending = interrupt_once()
    try:
        code = program()
        unwind_if_pending()
    except KeyboardInterrupt:  # before or after the command; during it `run_command` catches this
        sys.stderr.write("sr-edge: interrupted\n")
        code = INTERRUPTED
    except SystemExit as terminated:
        code = terminated.code if isinstance(terminated.code, int) else TERMINATED
    if code in (INTERRUPTED, TERMINATED):
        _exit_at_once(code)
    sys.exit(code)


def _exit_at_once(code: int) -> NoReturn:
    """Ends the process without Python's own end, which takes seconds with large libraries and waits for threads.

    All `with` blocks of the command have ended by now, so its files are closed and its temporary files are removed.
    """
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


def interrupt_once() -> Callable[[], None]:
    """Installs handlers with which the first Ctrl-C or SIGTERM unwinds the program; later ones are ignored.

    A signal that arrives during an import is deferred until the import is complete, because C++ libraries abort the
    process if the Python code that they call while they are loaded raises an exception.

    Returns:
        A function to call at the end of the program, which unwinds it if a deferred signal is still pending.
    """
    pending: list[int] = []

    def interrupt(number: int, frame: FrameType | None) -> None:
        # Python runs handlers in the main thread between bytecodes, so nothing here needs a lock. Ignoring both signals
        # first keeps a second Ctrl-C from interrupting the cleanup that the first one starts.
        for name in (signal.SIGINT, signal.SIGTERM):
            signal.signal(name, signal.SIG_IGN)
        pending[:] = [number]
        if _is_importing(frame):
            # A timer instead of a wait: the import needs this thread to finish.
            signal.signal(signal.SIGALRM, lambda _alarm, later: interrupt(number, later))
            signal.setitimer(signal.ITIMER_REAL, IMPORT_RETRY_S)
        else:
            unwind()

    def unwind() -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        if pending:
            number = pending.pop()
            raise SystemExit(TERMINATED) if number == signal.SIGTERM else KeyboardInterrupt

    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, interrupt)
    return unwind


@contextmanager
def ending_on_signal() -> Iterator[Callable[[], bool]]:
    """Within the block, Ctrl-C or SIGTERM asks for the end of the work; a second one ends the process at once.

    Yields:
        A function that tells whether the end was asked for, to call again and again during the work.
    """
    received: list[int] = []

    def on_signal(number: int, frame: FrameType | None) -> None:
        # Only a list is changed: the work may hold any lock at this moment, in this very thread.
        if received:
            os._exit(TERMINATED if number == signal.SIGTERM else INTERRUPTED)
        received.append(number)

    previous = {name: signal.signal(name, on_signal) for name in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(received)
    finally:
        for name, handler in previous.items():
            signal.signal(name, handler)


@contextmanager
def finishing_on_signal(on_first: Callable[[], object]) -> Iterator[Callable[[], int]]:
    """Within the block, the first Ctrl-C or SIGTERM asks for the end of the work; the second one is handled as before.

    Args:
        on_first: Called once the end was asked for.

    Yields:
        A function to call again and again during the work, which returns the exit code for the signal, 130 or 143,
        once the end was asked for, and 0 before.
    """
    received: list[int] = []
    is_told: list[bool] = []

    def on_signal(number: int, frame: FrameType | None) -> None:
        # Only a list and handlers are changed: the work may hold any lock at this moment, in this very thread.
        received.append(number)
        for name, handler in previous.items():
            signal.signal(name, handler)

    def requested_code() -> int:
        if not received:
            return 0
        if not is_told:
            is_told.append(True)
            on_first()
        return TERMINATED if received[0] == signal.SIGTERM else INTERRUPTED

    previous = {name: signal.signal(name, on_signal) for name in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield requested_code
    finally:
        for name, handler in previous.items():
            signal.signal(name, handler)


def _is_importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            return True
        frame = frame.f_back
    return False


def interruptible(call: Callable[[], Result]) -> Result:
    """Makes a blocking call in another thread, so that Ctrl-C is not delayed by C code that waits for the network."""
    results: list[Result] = []
    errors: list[BaseException] = []
    done = threading.Event()

    def run() -> None:
        try:
            results.append(call())
        except BaseException as error:
            errors.append(error)
        finally:
            done.set()

    # A daemon, since a call that never returns must not keep the process alive after Ctrl-C.
    threading.Thread(target=run, name="sr-edge-opening", daemon=True).start()
    done.wait()  # in Python code, so the signal handler runs here and raises KeyboardInterrupt
    if errors:
        raise errors[0]
    return results[0]
