"""Runs one step as a process of its own: with a time limit, and without trust in its disk, its output or its end."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

FIGURES_VARIABLE = "SR_EDGE_GPU_SESSION_FIGURES"
"""Names the file descriptor to which a step writes its figures, one JSON document a line."""

NOT_POSSIBLE = 3
"""Exit code of a step that finds that it cannot be done here."""

_LOOK_S = 0.1
_TERMINATE_S = 1.0
_KILL_S = 4.0
_DRAIN_S = 1.0
_CHUNK_BYTES = 1 << 16
_LONGEST_LINE_BYTES = 1 << 24

OnLine = Callable[[str], None]


class Status(str, Enum):
    """How a step ended."""

    DONE = "done"
    NOT_POSSIBLE = "not possible here"
    FAILED = "failed"
    CRASHED = "crashed"
    TIMED_OUT = "timed out"
    INTERRUPTED = "interrupted"
    SKIPPED = "skipped"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class Ending:
    """How a process ended; `reason` is empty where it succeeded, else its last words or what was done to it."""

    status: Status
    reason: str
    exit_code: int | None
    seconds: float


def run_process(
    command: Sequence[str],
    environment: Mapping[str, str],
    folder: Path,
    limit_s: float,
    on_output: OnLine,
    on_figures: OnLine,
) -> Ending:
    """Runs `command` in a process group of its own and ends the whole group when the time is up.

    Output and figures come through pipes, so that a disk that is full costs the step nothing.

    Args:
        command: the program and its arguments.
        environment: the process's environment; `FIGURES_VARIABLE` is added.
        folder: the working directory.
        limit_s: how long it may run.
        on_output: hears each line of standard output and standard error.
        on_figures: hears each line of figures.

    Raises:
        KeyboardInterrupt: Ctrl-C; the group has been ended.
    """
    started = time.monotonic()
    last_words = _LastLine(on_output)
    figures_in, figures_out = os.pipe()
    try:
        process = subprocess.Popen(
            command,
            env={**environment, FIGURES_VARIABLE: str(figures_out)},
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=(figures_out,),
            start_new_session=True,
        )
    except OSError as error:
        os.close(figures_in)
        return Ending(Status.FAILED, f"cannot start {command[0]}: {error.strerror}", None, 0.0)
    finally:
        os.close(figures_out)
    assert process.stdout is not None  # a pipe was asked for
    pipes = {process.stdout.fileno(): _Lines(last_words), figures_in: _Lines(on_figures)}
    try:
        ended = _listen(process, pipes, started + limit_s)
    finally:
        _end_group(process)
        process.stdout.close()
        os.close(figures_in)
    return _ending(process.returncode, ended, limit_s, last_words.text, time.monotonic() - started)


def _listen(process: subprocess.Popen[bytes], pipes: Mapping[int, _Lines], deadline: float) -> bool:
    """Hands on what comes through the pipes; returns whether the process ended by itself before `deadline`."""
    with selectors.DefaultSelector() as selector:
        for descriptor in pipes:
            selector.register(descriptor, selectors.EVENT_READ)
        # A grandchild can keep the pipes open after the process itself has ended: it is not waited for long.
        drained_by: float | None = None
        while selector.get_map():
            now = time.monotonic()
            if drained_by is None and process.poll() is not None:
                drained_by = now + _DRAIN_S
            if now >= (deadline if drained_by is None else drained_by):
                break
            for key, _ in selector.select(_LOOK_S):
                chunk = os.read(key.fd, _CHUNK_BYTES)
                if not chunk:
                    selector.unregister(key.fd)
                pipes[key.fd].feed(chunk)
    with suppress(subprocess.TimeoutExpired):
        process.wait(max(0.0, deadline - time.monotonic()))
    return process.poll() is not None


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """Ends the process and all that it started; what the kernel does not let go of is left behind."""
    try:
        _signal_group(process, signal.SIGTERM, _TERMINATE_S)
    finally:  # a second Ctrl-C must not leave a process behind that holds the GPU
        _signal_group(process, signal.SIGKILL, _KILL_S)


def _signal_group(process: subprocess.Popen[bytes], number: signal.Signals, patience_s: float) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)
    with suppress(subprocess.TimeoutExpired):
        process.wait(patience_s)


def _ending(exit_code: int | None, ended: bool, limit_s: float, last_words: str, seconds: float) -> Ending:
    if not ended:
        lost = "" if exit_code is not None else "; it could not be killed and may still hold the GPU"
        return Ending(Status.TIMED_OUT, f"ended after its limit of {limit_s:.0f} s{lost}", exit_code, seconds)
    if exit_code == 0:
        return Ending(Status.DONE, "", 0, seconds)
    if exit_code is not None and exit_code < 0:
        words = f"; its last line: {last_words}" if last_words else ""
        return Ending(Status.CRASHED, f"killed by {_signal_name(-exit_code)}{words}", exit_code, seconds)
    status = Status.NOT_POSSIBLE if exit_code == NOT_POSSIBLE else Status.FAILED
    return Ending(status, last_words or f"exit code {exit_code} without a word", exit_code, seconds)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


class _LastLine:
    """Hands lines on and remembers the last that says something."""

    def __init__(self, on_line: OnLine) -> None:
        self.text = ""
        self._on_line = on_line

    def __call__(self, line: str) -> None:
        self.text = line.strip() or self.text
        self._on_line(line)


class _Lines:
    """Cuts a stream of bytes into lines."""

    def __init__(self, on_line: OnLine) -> None:
        self._on_line = on_line
        self._pending = b""

    def feed(self, chunk: bytes) -> None:
        """Takes the next bytes; an empty chunk is the end of the stream."""
        *lines, self._pending = (self._pending + chunk).split(b"\n")
        if self._pending and (not chunk or len(self._pending) > _LONGEST_LINE_BYTES):
            lines, self._pending = [*lines, self._pending], b""
        for line in lines:
            self._on_line(line.decode("utf-8", "replace").rstrip("\r"))
