"""Opens the source of a stream for a command that Ctrl-C may end meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sr_edge.camera import Source, SourceOptions


def opened_source(text: str, options: SourceOptions) -> Source:
    """Opens a camera's source; Ctrl-C is heard meanwhile."""
    from sr_edge.camera import open_source

    return _interruptible(lambda: open_source(text, options))


def _interruptible(call: Callable[[], Source]) -> Source:
    """Makes a call in another thread: a connection that waits for an answer in C code would not hear Ctrl-C."""
    results: list[Source] = []
    errors: list[BaseException] = []
    done = threading.Event()

    def run() -> None:
        try:
            results.append(call())
        except BaseException as error:
            errors.append(error)
        finally:
            done.set()

    threading.Thread(target=run, name="sr-edge-opening", daemon=True).start()
    done.wait()
    if errors:
        raise errors[0]
    return results[0]
