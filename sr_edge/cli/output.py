"""Output of the commands: one result on stdout, everything else on stderr."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from typing import TYPE_CHECKING, Protocol, TextIO

from sr_edge.cli.error_document import current_state, without_secrets_of_command
from sr_edge.cli.tables import fitted
from sr_edge.cli.terminal import console_on, is_live_terminal, print_json, print_line
from sr_edge.spec import StageProgress

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.progress import ProgressColumn

PIPE_WIDTH = 200
SHOWN_WARNINGS = 4
SILENT_S = 2.0
"""How long a command may work before it says at what."""
BAR_FROM_WIDTH = 76
"""The width of a terminal on which a line of progress has room for a bar."""


class ShowResult(Protocol):
    """Prints the result of a command."""

    def __call__(self, document: object, readable: RenderableType, least_important: Sequence[str] = ()) -> None:
        """Prints one of two forms of the result.

        Args:
            document: The result, for JSON.
            readable: The result for a terminal.
            least_important: Headings of the columns that tables leave out on a narrow terminal, in this order.
        """
        ...


@contextmanager
def result_on_stdout(as_json: bool) -> Iterator[ShowResult]:
    """Yields a function that prints the result of a command, as JSON or in readable form.

    Within the block, everything else that is written to stdout, also by C code of a library, goes to stderr, so that
    the output can be piped to another program.
    """
    state = current_state()
    with _stdout_reserved_for_result() as stdout:

        def show(document: object, readable: RenderableType, least_important: Sequence[str] = ()) -> None:
            state.printed = True
            if as_json:
                print_json(document, stdout)
            else:
                _print_readable(readable, stdout, least_important)

        yield show


def warning_lines(warnings: Iterable[str]) -> list[str]:
    """Formats warnings for the terminal: without duplicates, and at most SHOWN_WARNINGS of them."""
    distinct = list(dict.fromkeys(warnings))
    lines = [f"warning: {warning}" for warning in distinct[:SHOWN_WARNINGS]]
    hidden = len(distinct) - len(lines)
    return [*lines, f"{hidden} more warning{'s' if hidden > 1 else ''}; --json lists all"] if hidden else lines


def _print_readable(readable: RenderableType, stdout: TextIO, least_important: Sequence[str]) -> None:
    """Prints for the width of the terminal or of COLUMNS; in a pipe lines are PIPE_WIDTH long."""
    width = None if stdout.isatty() or os.environ.get("COLUMNS") else PIPE_WIDTH
    if isinstance(readable, str):
        readable = without_secrets_of_command(readable)
    console = console_on(stdout, width, soft_wrap=isinstance(readable, str))
    console.print(fitted(readable, console.width, least_important), crop=False)


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


class ShowProgress(Protocol):
    """Shows the progress of a stage; a `StageProgress` that can also say more."""

    def __call__(self, stage: str, done: int, total: int, detail: str = "", has_time_left: bool = True) -> None:
        """Shows how far a stage is.

        Args:
            stage: Name of the stage.
            done: Number of steps that are done.
            total: Number of all steps; a stage of one step is shown as a moving bar without numbers.
            detail: What is shown below the bar, for example a rate.
            has_time_left: Whether the time left is estimated; it is wrong where steps take very different times.
        """
        ...


@contextmanager
def progress_on_stderr() -> Iterator[ShowProgress]:
    """Yields `report(stage, done, total, detail)`: on a terminal each stage has a bar until it is done, else a line."""
    from rich.progress import Progress, TaskID
    from rich.text import Text

    class Bars(Progress):
        """Bars, and below them what else is to be said, which no column has room for."""

        detail = ""

        def get_renderables(self) -> Iterable[RenderableType]:
            yield from super().get_renderables()
            if self.detail:
                yield Text(self.detail)

    console = console_on(sys.stderr)
    is_live = is_live_terminal(sys.stderr)
    tasks: dict[str, TaskID] = {}
    state = current_state()
    bars = Bars(*_columns(console.width), console=console, disable=not is_live, transient=True)

    def report(stage: str, done: int, total: int, detail: str = "", has_time_left: bool = True) -> None:
        stage = without_secrets_of_command(stage)
        state.stage = stage
        steps = total if total > 1 else None
        if stage not in tasks:
            tasks[stage] = bars.add_task(
                stage, total=steps, completed=done, visible=done < total, has_time_left=has_time_left
            )
            if not is_live:
                print_line(f"{stage} ...")
        bars.update(tasks[stage], completed=done, total=steps, visible=done < total, has_time_left=has_time_left)
        bars.detail = detail if done < total else ""

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
            if task.time_remaining is None or not task.fields["has_time_left"]:
                return Text(count)
            return Text.assemble(count, " ", left.render(task), " left")

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
    stage = without_secrets_of_command(stage)
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
