"""Output of the commands: one result on stdout, everything else on stderr."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from typing import TYPE_CHECKING, TextIO

from sr_edge.bundle.plain import json_text
from sr_edge.cli.error_document import current_state
from sr_edge.cli.terminal import console_on, is_live_terminal, print_line
from sr_edge.spec import StageProgress

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.progress import ProgressColumn
    from rich.table import Table

PIPE_WIDTH = 200
FOLDED_COLUMN = 20
"""Least width of a column that breaks long words, such as names of layers."""

SHOWN_WARNINGS = 4
SILENT_S = 2.0
"""How long a command may work before it says at what."""
BAR_FROM_WIDTH = 76
"""The width of a terminal on which a line of progress has room for a bar."""

ShowResult = Callable[[object, "RenderableType"], None]


@contextmanager
def result_on_stdout(as_json: bool) -> Iterator[ShowResult]:
    """Yields a function that prints the result of a command, as JSON or in readable form.

    Within the block, everything else that is written to stdout, also by C code of a library, goes to stderr, so that
    the output can be piped to another program.
    """
    state = current_state()
    with _stdout_reserved_for_result() as stdout:

        def show(document: object, readable: RenderableType) -> None:
            state.printed = True
            if as_json:
                stdout.write(json_text(document))
            else:
                _print_readable(readable, stdout)

        yield show


def warning_lines(warnings: Iterable[str]) -> list[str]:
    """Formats warnings for the terminal: without duplicates, and at most SHOWN_WARNINGS of them."""
    distinct = list(dict.fromkeys(warnings))
    lines = [f"warning: {warning}" for warning in distinct[:SHOWN_WARNINGS]]
    hidden = len(distinct) - len(lines)
    return [*lines, f"{hidden} more warning{'s' if hidden > 1 else ''}; --json lists all"] if hidden else lines


def _print_readable(readable: RenderableType, stdout: TextIO) -> None:
    width = None if stdout.isatty() or os.environ.get("COLUMNS") else PIPE_WIDTH
    console = console_on(stdout, width, soft_wrap=isinstance(readable, str))
    for table in _tables(readable):
        keep_words_whole(table, console.width)
    console.print(readable, crop=False)


def _tables(readable: RenderableType) -> list[Table]:
    from rich.console import Group
    from rich.table import Table

    parts = readable.renderables if isinstance(readable, Group) else [readable]
    return [part for part in parts if isinstance(part, Table)]


def keep_words_whole(table: Table, width: int) -> None:
    """Sets the widths of the columns of a table so that numbers and names are not cut, as rich would do.

    A table that is too wide for the terminal loses its vertical lines. If it still does not fit, its lines are longer
    than those of the terminal, because a cut number would be wrong. Only columns that fold break within a word.

    Args:
        table: the table, with cells of plain text.
        width: number of characters in a line of the terminal.
    """
    from rich.box import SIMPLE_HEAD

    texts = [[str(column.header), *map(str, column.cells)] for column in table.columns]
    wanted = [max(map(len, cells)) for cells in texts]
    needed = [
        min(
            max(map(len, " ".join(cells).split()), default=1),
            FOLDED_COLUMN if column.overflow == "fold" else PIPE_WIDTH,
        )
        for column, cells in zip(table.columns, texts, strict=True)
    ]
    borders = 3 * len(wanted) + 1
    if sum(wanted) + borders <= width:
        return
    if sum(needed) + borders > width:
        table.box, table.show_edge, table.padding = SIMPLE_HEAD, False, 0
        borders = len(wanted) - 1
        table.width = max(width, sum(needed) + borders)
    spare = max(width - borders - sum(needed), 0)
    for index in sorted(range(len(wanted)), key=lambda index: wanted[index] - needed[index]):
        widened = min(spare, max(wanted[index] - needed[index], 0))
        table.columns[index].width = needed[index] + widened
        spare -= widened


@contextmanager
def _stdout_reserved_for_result() -> Iterator[TextIO]:
    """Redirects Python's stdout and, if it is a real file, descriptor 1 to stderr; yields the original stdout."""
    stdout = sys.stdout
    if not _is_descriptor(stdout, 1) or not _is_descriptor(sys.stderr, 2):
        with redirect_stdout(sys.stderr):
            yield stdout
        return
    stdout.flush()
    original = os.dup(1)
    try:
        os.dup2(2, 1)
        text = os.fdopen(original, "w", encoding=stdout.encoding, errors=stdout.errors, closefd=False)
        with text as result, redirect_stdout(sys.stderr):
            yield result
    finally:
        os.dup2(original, 1)
        os.close(original)


def _is_descriptor(stream: TextIO, descriptor: int) -> bool:
    with suppress(OSError, ValueError, AttributeError):
        return stream.fileno() == descriptor
    return False


@contextmanager
def progress_on_stderr() -> Iterator[StageProgress]:
    """Yields `report(stage, done, total)`: on a terminal each stage has a bar until it is done, else a line.

    A stage of one step is shown as a moving bar without numbers.
    """
    from rich.progress import Progress, TaskID

    console = console_on(sys.stderr)
    is_live = is_live_terminal(sys.stderr)
    tasks: dict[str, TaskID] = {}
    state = current_state()
    bars = Progress(*_columns(console.width), console=console, disable=not is_live, transient=True)

    def report(stage: str, done: int, total: int) -> None:
        state.stage = stage
        steps = total if total > 1 else None
        if stage not in tasks:
            tasks[stage] = bars.add_task(stage, total=steps, completed=done, visible=done < total)
            if not is_live:
                print_line(f"{stage} ...")
        bars.update(tasks[stage], completed=done, total=steps, visible=done < total)

    with bars:
        yield report


def _columns(width: int) -> list[ProgressColumn]:
    """The columns of a bar; a narrow terminal has no room for the bar itself."""
    from rich.progress import (
        BarColumn,
        ProgressColumn,
        SpinnerColumn,
        Task,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.table import Column
    from rich.text import Text

    class Count(ProgressColumn):
        """Steps done of all, and the time left; empty for a stage of one step."""

        def render(self, task: Task) -> Text:
            if task.total is None:
                return Text()
            count = f"{task.completed:.0f}/{task.total:.0f}"
            return Text(count) if task.time_remaining is None else Text.assemble(count, " ", left.render(task), " left")

    left = TimeRemainingColumn()
    name = TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True, overflow="ellipsis"))
    bar = [BarColumn(bar_width=16)] if width >= BAR_FROM_WIDTH else []
    return [SpinnerColumn(), name, *bar, TimeElapsedColumn(), Count()]


@contextmanager
def during(progress: StageProgress, stage: str) -> Iterator[None]:
    """Shows a stage of one step while the block runs."""
    progress(stage, 0, 1)
    yield
    progress(stage, 1, 1)


@contextmanager
def stage_on_stderr(stage: str) -> Iterator[None]:
    """Shows a stage of one step while the block runs, for work without other progress.

    Without a terminal it is a line, and only if the block takes so long that a user would wonder.
    """
    if is_live_terminal(sys.stderr):
        with progress_on_stderr() as progress, during(progress, stage):
            yield
        return
    current_state().stage = stage
    line = threading.Timer(SILENT_S, print_line, [f"{stage} ..."])
    line.daemon = True
    line.start()
    try:
        yield
    finally:
        line.cancel()


@contextmanager
def named_steps(progress: StageProgress) -> Iterator[Callable[[str], None]]:
    """Yields a callback for work that names each of its steps as it begins; a step lasts until the next one."""
    current: list[str] = []

    def begin(step: str) -> None:
        if current:
            progress(current.pop(), 1, 1)
        progress(step, 0, 1)
        current.append(step)

    yield begin
    if current:
        progress(current[0], 1, 1)
