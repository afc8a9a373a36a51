"""Prints everything that the commands show, without characters that act on the terminal and without passwords."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from functools import lru_cache
from typing import TYPE_CHECKING, TextIO

from sr_edge.cli.error_document import without_secrets_of_command
from sr_edge.printable import one_line, printable

if TYPE_CHECKING:
    from rich.console import Console

CLEAR_LINE = "\r\x1b[K"


def print_line(text: str, stream: TextIO | None = None) -> None:
    """Prints a message as one line, by default to stderr."""
    _write(f"{one_line(without_secrets_of_command(text))}\n", stream)


def print_text(text: str, stream: TextIO | None = None) -> None:
    """Prints several lines, by default to stderr."""
    _write(printable(without_secrets_of_command(text)), stream)


def print_json(document: object, stream: TextIO) -> None:
    """Prints a dataclass or plain values as one JSON document."""
    from sr_edge.bundle.plain import json_text

    _write(json_text(document, without_secrets_of_command), stream)


def replace_line(text: str) -> None:
    """Writes a line to the terminal behind stderr in place of the last one."""
    _write(CLEAR_LINE + one_line(without_secrets_of_command(text)))


def _write(text: str, stream: TextIO | None = None) -> None:
    stream = sys.stderr if stream is None else stream
    stream.write(text)
    stream.flush()


def is_live_terminal(stream: TextIO) -> bool:
    """Whether a line on it can be replaced: not on a pipe, in a file, or on a terminal without escape sequences."""
    console = console_on(stream)
    return console.is_terminal and not console.is_dumb_terminal


def console_on(stream: TextIO, width: int | None = None, soft_wrap: bool = False) -> Console:
    """A console of rich that prints foreign text safely."""
    return _console_class()(file=stream, width=width, markup=False, highlight=False, soft_wrap=soft_wrap)


@lru_cache(maxsize=1)
def _console_class() -> type[Console]:
    """The class is created on demand, because the import of rich takes longer than most commands' help."""
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.segment import Segment

    class PrintableConsole(Console):
        """Replaces acting characters in the text; the escape sequences of styles are added after this."""

        def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
            for segment in super().render(renderable, options):
                is_text = segment.control is None
                yield Segment(printable(segment.text), segment.style) if is_text else segment

    return PrintableConsole
