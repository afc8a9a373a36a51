"""Opens the source of a stream for a command that Ctrl-C may end meanwhile; GStreamer pipelines too."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from sr_edge.errors import RuntimeUnavailable

if TYPE_CHECKING:
    from sr_edge.camera import Source, SourceOptions


def opened_source(text: str, options: SourceOptions) -> Source:
    """Opens a camera's source, GStreamer pipelines too; Ctrl-C is heard meanwhile."""
    return _interruptible(lambda: _opened_source(text, options))


def _opened_source(text: str, options: SourceOptions) -> Source:
    from sr_edge.camera import open_source

    if options.ffmpeg or not text.startswith("gst:"):
        return open_source(text, options)
    try:
        from sr_edge.gstreamer.source import open_gst_source
    except (ImportError, ValueError) as error:
        raise RuntimeUnavailable(
            "a GStreamer pipeline needs the system's Python with PyGObject and GStreamer's bindings, this one has "
            f"none ({error}); docs/camera.md says how, or give another source"
        ) from error
    return open_gst_source(
        text.removeprefix("gst:"), silence_s=options.silence_s, give_up_s=options.give_up_s, say=options.say
    )


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
