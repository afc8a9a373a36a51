"""The error of a command as a JSON document, which `--json` prints on stdout where there is no result."""

from __future__ import annotations

import numbers
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

JSON_OPTION = "--json"


@dataclass
class CommandState:
    """How far a running command has come.

    Attributes:
        stage: the last stage that reported progress; None before the first one.
        printed: whether the result is already on stdout.
        arguments: the words of the command, those of its `--config` included; empty before they were parsed.
    """

    stage: str | None = None
    printed: bool = False
    arguments: tuple[str, ...] = ()


_STATE: ContextVar[CommandState | None] = ContextVar("state of the running command", default=None)


@contextmanager
def new_state() -> Iterator[CommandState]:
    """Yields the state of a command that is about to start; `current_state` returns it within the block."""
    state = CommandState()
    token = _STATE.set(state)
    try:
        yield state
    finally:
        _STATE.reset(token)


def current_state() -> CommandState:
    """The state of the running command; a new one outside of commands."""
    return _STATE.get() or CommandState()


@dataclass(frozen=True)
class Failure:
    """Why a command failed: the exit code, the line for people, and the same as fields for programs.

    Attributes:
        exit_code: exit code of the process.
        type: name of the exception's class.
        message: the line that is printed on stderr.
        problem: what is wrong.
        found: the value that was refused.
        wanted: what would have been accepted.
        remedy: what to do about it.
    """

    exit_code: int
    type: str
    message: str
    problem: str
    found: object = None
    wanted: object = None
    remedy: str | None = None

    def document(self, stage: str | None, hide: Callable[[str], str]) -> Mapping[str, object]:
        """The document, of plain JSON values.

        Args:
            stage: the stage that was running.
            hide: removes secrets from a text; applied to every text of the document.
        """
        fields = {
            "type": self.type,
            "problem": self.problem,
            "found": self.found,
            "wanted": self.wanted,
            "remedy": self.remedy,
            "stage": stage,
        }
        return {"error": {name: _plain(value, hide) for name, value in fields.items()}}


def wants_json(arguments: Sequence[str]) -> bool:
    """Whether a command line asks for JSON on stdout."""
    options = arguments[: arguments.index("--")] if "--" in arguments else arguments
    return JSON_OPTION in options


def _plain(value: object, hide: Callable[[str], str]) -> object:
    """A value of any type as JSON: numbers, collections and None as they are, everything else as text."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        return float(value)
    if isinstance(value, Mapping):
        return {hide(str(key)): _plain(item, hide) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, hide) for item in value]
    if isinstance(value, set | frozenset):
        return sorted(hide(str(item)) for item in value)
    return hide(str(value))
