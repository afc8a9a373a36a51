"""What a session keeps: one JSON document, one page and one log, written again after every step and every figure.

A disk that takes nothing more is remembered and told; the record itself lives on in memory.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from gpu_session.page import session_page
from gpu_session.process import Status
from gpu_session.telemetry import Reading

SCHEMA_VERSION = 1
_LOG_LINES = 4000
_TAIL_LINES = 15
_LONGEST_LINE = 500


@dataclass
class StepRecord:
    """One step: how it ended, when, and what it told. `before` and `after` are the GPU's clocks, power and heat."""

    name: str
    title: str
    status: Status = Status.SKIPPED
    reason: str = ""
    started_s: float = 0.0
    seconds: float = 0.0
    limit_s: float = 0.0
    exit_code: int | None = None
    before: Reading | None = None
    after: Reading | None = None
    figures: Any = None
    last_lines: deque[str] = field(default_factory=lambda: deque(maxlen=_TAIL_LINES))


@dataclass
class SessionRecord:
    """The whole session. `rehearsal` says that a stand-in took the device's place: nothing of it may be published."""

    started: str
    budget_s: float
    interpreter: str
    system: str
    rehearsal: bool = False
    interrupted: bool = False
    seconds: float = 0.0
    telemetry: str = ""
    steps: list[StepRecord] = field(default_factory=list)

    def document(self) -> dict[str, Any]:
        """As JSON has it."""
        steps = [
            {**asdict(step), "status": str(step.status), "last_lines": list(step.last_lines)} for step in self.steps
        ]
        return {**asdict(self), "schema_version": SCHEMA_VERSION, "steps": steps}

    def figures_of(self, name: str) -> Any:
        """The figures of a step; None where it told none."""
        return next((step.figures for step in self.steps if step.name == name), None)


class RecordFiles:
    """The files of a record in one folder; `obstacle` is the first reason why one could not be written."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.obstacle = ""
        self._lines_left = 0
        self._attempt(lambda: folder.mkdir(parents=True, exist_ok=True))

    @property
    def json_file(self) -> Path:
        return self.folder / "gpu.json"

    @property
    def page_file(self) -> Path:
        return self.folder / "gpu.md"

    @property
    def log_file(self) -> Path:
        return self.folder / "gpu.log"

    def save(self, record: SessionRecord) -> bool:
        """Writes document and page, each whole or not at all; returns whether both are on the disk."""
        document = record.document()
        texts = {self.json_file: json.dumps(document, indent=1) + "\n", self.page_file: session_page(document)}
        return all([self._attempt(partial(_replace, file, text)) for file, text in texts.items()])  # noqa: C419  # both

    def begin_step(self, step: StepRecord) -> None:
        """A heading in the log; each step has so many lines of it."""
        self._lines_left = _LOG_LINES
        self._append(f"== {step.name}: {step.title}")

    def log(self, line: str) -> None:
        """One line of a step's output."""
        self._lines_left -= 1
        if self._lines_left > 0:
            self._append(line[:_LONGEST_LINE])
        elif self._lines_left == 0:
            self._append("(more lines follow, which are left out)")

    def _append(self, line: str) -> None:
        def write() -> None:
            with self.log_file.open("a", encoding="utf-8") as file:
                file.write(line + "\n")

        self._attempt(write)

    def _attempt(self, write: Callable[[], object]) -> bool:
        try:
            write()
        except OSError as error:
            self.obstacle = self.obstacle or f"{self.folder}: {error.strerror or error}"
            return False
        return True


def _replace(file: Path, text: str) -> None:
    """Writes beside `file` and moves it into place."""
    unfinished = file.with_name(f".{file.name}.part")
    try:
        unfinished.write_text(text, encoding="utf-8")
        unfinished.replace(file)
    except OSError:
        with suppress(OSError):
            unfinished.unlink()
        raise
