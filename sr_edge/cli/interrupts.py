"""Ctrl-C and SIGTERM, from the first moment on: one unwinding, never in the middle of an import."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import NoReturn, TypeVar

Result = TypeVar("Result")

INTERRUPTED = 130
TERMINATED = 143
LATER_S = 0.01


def exit_with_code_of(program: Callable[[], int]) -> NoReturn:
    """Runs a program, whatever it imports included, and exits with its code: 130 after Ctrl-C, 143 after SIGTERM."""
    unwind_if_waiting = interrupt_once()
    try:
        code = program()
        unwind_if_waiting()
        sys.exit(code)
    except KeyboardInterrupt:  # between two imports, or at the end; during a command `run_command` hears it
        sys.stderr.write("sr-edge: interrupted\n")
        sys.exit(INTERRUPTED)


def interrupt_once() -> Callable[[], None]:
    """Lets the first Ctrl-C or SIGTERM unwind the program; later ones may not disturb the cleaning up.

    While a module is being imported it waits for that: libraries written in C++ abort the process when an exception
    comes out of the Python that they run while they are loaded.

    Returns:
        To be called at the program's end: unwinds it then if a signal still waits for a moment between imports.
    """
    waiting: list[int] = []

    def interrupt(number: int, frame: FrameType | None) -> None:
        for name in (signal.SIGINT, signal.SIGTERM):
            signal.signal(name, signal.SIG_IGN)
        waiting[:] = [number]
        if _is_importing(frame):
            signal.signal(signal.SIGALRM, lambda _alarm, later: interrupt(number, later))
            signal.setitimer(signal.ITIMER_REAL, LATER_S)
        else:
            unwind()

    def unwind() -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        if waiting:
            number = waiting.pop()
            raise SystemExit(TERMINATED) if number == signal.SIGTERM else KeyboardInterrupt

    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, interrupt)
    return unwind


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
