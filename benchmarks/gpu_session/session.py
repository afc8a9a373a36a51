"""Runs the steps one after the other within a budget of time and keeps what each of them tells."""

from __future__ import annotations

import json
import os
import platform
import shutil
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from types import FrameType

from gpu_session.plan import Step, libraries_step
from gpu_session.process import Status, run_process
from gpu_session.record import RecordFiles, SessionRecord, StepRecord
from gpu_session.reporting import Context
from gpu_session.search_paths import REHEARSAL_MARK, SearchPaths, step_environment
from gpu_session.telemetry import Telemetry

ROOT = Path(__file__).resolve().parents[2]
RESERVE_S = 25.0
"""Kept for ending a step that hangs, for the page and for publishing, of a whole session's budget."""
RESERVE_SHARE = 0.1
SHORTEST_STEP_S = 0.5
CONTEXT_STEPS = ("doctor", "roofline")
"""Steps whose figures later steps are given."""


@dataclass(frozen=True)
class SessionPlan:
    """What to run and within which bounds.

    Attributes:
        python: the interpreter of all steps.
        results: the folder for document, page and log.
        steps: in the order in which they run.
        budget_s: the time for everything.
        libraries: wheels, unpacked packages or folders of them that steps may import.
        material: the folder with prepared bundles and graphs.
    """

    python: str
    results: Path
    steps: Sequence[Step]
    budget_s: float
    libraries: tuple[Path, ...] = ()
    material: Path = ROOT / "gpu-material"
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))

    @property
    def scratch(self) -> Path:
        """Engines and unpacked libraries; removed at the end."""
        return self.results / "scratch"


class Session:
    """One run of a plan. `record` and `files` are what is kept of it."""

    def __init__(self, plan: SessionPlan) -> None:
        self._plan = plan
        self._started = time.monotonic()
        self._paths = SearchPaths()
        self._telemetry = Telemetry(plan.environment.get("PATH", os.defpath))
        self.files = RecordFiles(plan.results)
        self.record = SessionRecord(
            started=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            budget_s=plan.budget_s,
            interpreter=plan.python,
            system=f"{platform.system()} {platform.release()} {platform.machine()}",
            rehearsal=any((folder / REHEARSAL_MARK).is_file() for folder in plan.libraries),
        )

    def run(self) -> SessionRecord:
        """Runs everything; Ctrl-C and requests to end (SIGTERM, SIGHUP) end the step at hand and skip the others."""
        steps = list(self._plan.steps)
        if self._plan.libraries:
            folders = tuple(str(folder.resolve()) for folder in self._plan.libraries)
            steps.insert(0, libraries_step(folders, str(self._plan.scratch.resolve() / "libraries")))
        self.record.steps = [StepRecord(step.name, step.title, reason="not begun") for step in steps]
        previous = {number: signal.signal(number, _interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
        try:
            for step, kept in zip(steps, self.record.steps, strict=True):
                self._run_step(step, kept)
        except KeyboardInterrupt:
            self._note_interruption()
        finally:
            self._finish()
            for number, handler in previous.items():
                signal.signal(number, handler)
        return self.record

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self._started

    def _run_step(self, step: Step, kept: StepRecord) -> None:
        limit_s = self._limit_s(step)
        if limit_s < SHORTEST_STEP_S:
            kept.reason = f"no time was left: {self.elapsed_s:.0f} of {self._plan.budget_s:.0f} s had passed"
            return
        kept.started_s, kept.limit_s, kept.before = self.elapsed_s, limit_s, self._telemetry.read()
        kept.status, kept.reason = Status.INTERRUPTED, "Ctrl-C"  # unless it comes to its end
        self.files.begin_step(kept)
        _tell(f"{kept.started_s:5.0f} s  {step.title} (at most {limit_s:.0f} s) ...")
        ending = run_process(
            (self._plan.python, *step.arguments),
            self._environment(),
            ROOT,
            limit_s,
            on_output=lambda line: self._hear(kept, line),
            on_figures=lambda line: self._keep(kept, line),
        )
        kept.status, kept.reason, kept.exit_code = ending.status, ending.reason, ending.exit_code
        kept.seconds, kept.after = ending.seconds, self._telemetry.read()
        self._save()
        _tell(f"         {ending.status} after {ending.seconds:.1f} s{f': {ending.reason}' if ending.reason else ''}")
        if step.name == "libraries":
            self._use_libraries(kept)

    def _limit_s(self, step: Step) -> float:
        usable_s = self._plan.budget_s - min(RESERVE_S, RESERVE_SHARE * self._plan.budget_s)
        return min(step.limit_s, step.until * usable_s - self.elapsed_s)

    def _environment(self) -> dict[str, str]:
        figures = {name: self.record.figures_of(name) for name in CONTEXT_STEPS}
        context = Context(
            material=str(self._plan.material.resolve()),
            rehearsal=self.record.rehearsal,
            figures={name: told for name, told in figures.items() if told is not None},
        )
        cache = self._plan.scratch.resolve() / "engines"
        return step_environment(self._plan.environment, self._paths, ROOT, cache, context)

    def _use_libraries(self, kept: StepRecord) -> None:
        """From now on every step finds what was unpacked, as does the reading of clocks."""
        if kept.figures:
            self._paths = SearchPaths(**{name: tuple(folders) for name, folders in kept.figures["paths"].items()})
        folders = [*self._paths.programs, self._plan.environment.get("PATH", os.defpath)]
        self._telemetry = Telemetry(os.pathsep.join(folders))

    def _hear(self, kept: StepRecord, line: str) -> None:
        kept.last_lines.append(line)
        self.files.log(line)

    def _keep(self, kept: StepRecord, line: str) -> None:
        try:
            kept.figures = json.loads(line)
        except ValueError:
            self._hear(kept, f"(figures that are no JSON: {line[:80]})")
            return
        self._save()

    def _note_interruption(self) -> None:
        self.record.interrupted = True
        for kept in self.record.steps:
            if kept.status is Status.SKIPPED and kept.reason == "not begun":
                kept.reason = "the session was interrupted before it"

    def _finish(self) -> None:
        """Nothing may keep the page from being written: a second Ctrl-C is not heard any more."""
        previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            shutil.rmtree(self._plan.scratch, ignore_errors=True)
            self._save()
        finally:
            signal.signal(signal.SIGINT, previous)

    def _save(self) -> bool:
        self.record.seconds, self.record.telemetry = self.elapsed_s, self._telemetry.obstacle
        return self.files.save(self.record)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _tell(line: str) -> None:
    with suppress(OSError):  # a terminal that is gone costs nothing but its lines
        print(line, file=sys.stderr, flush=True)
