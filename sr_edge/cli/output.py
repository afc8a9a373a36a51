"""What the commands print: one result on stdout, everything else on stderr."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from typing import TYPE_CHECKING, TextIO

from sr_edge.bundle.plain import json_text

if TYPE_CHECKING:
    from rich.console import RenderableType

PIPE_WIDTH = 200
SHOWN_WARNINGS = 4

ShowResult = Callable[[object, "RenderableType"], None]
StageProgress = Callable[[str, int, int], None]


@contextmanager
def result_on_stdout(as_json: bool) -> Iterator[ShowResult]:
    """Gives a function that prints a command's one result: as JSON, or as what people read.

    Until the end of the block whatever else writes to stdout, a library's C code included, goes to stderr,
    so that the output can be piped into another program.
    """
    with _stdout_kept_for_result() as stdout:

        def show(document: object, readable: RenderableType) -> None:
            if as_json:
                stdout.write(json_text(document))
            else:
                _print_readable(readable, stdout)

        yield show


def warning_lines(warnings: Iterable[str]) -> list[str]:
    """What people read of warnings: each once, and of many only the first."""
    distinct = list(dict.fromkeys(warnings))
    lines = [f"warning: {warning}" for warning in distinct[:SHOWN_WARNINGS]]
    left = len(distinct) - len(lines)
    return [*lines, f"{left} more warning{'s' if left > 1 else ''}; --json lists all"] if left else lines


def _print_readable(readable: RenderableType, stdout: TextIO) -> None:
    from rich.console import Console

    width = None if stdout.isatty() else PIPE_WIDTH
    console = Console(file=stdout, width=width, markup=False, highlight=False, soft_wrap=isinstance(readable, str))
    console.print(readable, crop=False)


@contextmanager
def _stdout_kept_for_result() -> Iterator[TextIO]:
    """Points Python's stdout and, where it is a real one, file descriptor 1 at stderr; yields the true stdout."""
    stdout = sys.stdout
    if not _is_descriptor(stdout, 1) or not _is_descriptor(sys.stderr, 2):
        with redirect_stdout(sys.stderr):
            yield stdout
        return
    stdout.flush()
    kept = os.dup(1)
    try:
        os.dup2(2, 1)
        text = os.fdopen(kept, "w", encoding=stdout.encoding, errors=stdout.errors, closefd=False)
        with text as result, redirect_stdout(sys.stderr):
            yield result
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def _is_descriptor(stream: TextIO, descriptor: int) -> bool:
    with suppress(OSError, ValueError, AttributeError):
        return stream.fileno() == descriptor
    return False


@contextmanager
def progress_on_stderr() -> Iterator[StageProgress]:
    """Gives `report(stage, done, total)`: one bar a stage where stderr is a terminal, else one line a stage."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TaskID,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = Console(file=sys.stderr, markup=False)
    name, left = TextColumn("{task.description}", markup=False), TextColumn("left", markup=False)
    columns = (name, BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn(), left)
    tasks: dict[str, TaskID] = {}
    bars = Progress(*columns, console=console, disable=not console.is_terminal)

    def report(stage: str, done: int, total: int) -> None:
        if stage not in tasks:
            tasks[stage] = bars.add_task(stage, total=total, completed=done)
            if not console.is_terminal:
                console.print(f"{stage} ...")
        bars.update(tasks[stage], completed=done, total=total)

    with bars:
        yield report
