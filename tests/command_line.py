"""Runs of the command line in this process: the output and exit code of a command, and its interruption."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from rich.progress import Progress


@dataclass(frozen=True)
class Outcome:
    """Exit code and output of one command."""

    code: int
    stdout: str
    stderr: str

    @property
    def error(self) -> str:
        """The line of the error; fails the test if there are several, or a traceback."""
        lines = [line for line in self.stderr.splitlines() if line.startswith("sr-edge: ")]
        assert len(lines) == 1, self.stderr
        assert "Traceback" not in self.stderr
        return lines[0]


SrEdge = Callable[..., Outcome]
"""The fixture `sr_edge`: takes a command and its arguments, text or paths."""


def interrupt_at(stage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Raises KeyboardInterrupt as soon as the progress of this stage is shown."""
    add_task = Progress.add_task

    def added(bars: Progress, description: str, **fields: Any) -> object:
        if description == stage:
            raise KeyboardInterrupt
        return add_task(bars, description, **fields)

    monkeypatch.setattr(Progress, "add_task", added)
