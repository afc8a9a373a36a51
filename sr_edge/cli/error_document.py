"""The error of a command as a JSON document, which `--json` prints on stdout where there is no result."""

from __future__ import annotations

import numbers
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from sr_edge.printable import message_without_secrets

JSON_OPTION = "--json"


@dataclass
class CommandState:
    """How far a running command has come.

    Attributes:
        stage: the last stage that reported progress; None before the first one.
        printed: whether the result is already on stdout.
        arguments: the words of the command; those of its `--config` are among them once they were parsed.
    """

    stage: str | None = None
    printed: bool = False
    arguments: tuple[str, ...] = ()


_RUNNING: list[CommandState] = []
"""The states of running commands, the innermost last. No ContextVar, whose value other threads do not see: they print,
too."""


@contextmanager
def new_state(arguments: Sequence[str]) -> Iterator[CommandState]:
    """Yields the state of a command that is about to start; `current_state` returns it within the block.

    Args:
        arguments: The words of the command line.
    """
    state = CommandState(arguments=tuple(arguments))
    _RUNNING.append(state)
    try:
        yield state
    finally:
        _RUNNING.pop()


def current_state() -> CommandState:
    """The state of the running command; a new one outside of commands."""
    return _RUNNING[-1] if _RUNNING else CommandState()


def without_secrets_of_command(text: str) -> str:
    """Hides passwords in a text that is printed: of addresses in it, and of the arguments of the running command."""
    return message_without_secrets(text, current_state().arguments)


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

    def document(self, stage: str | None) -> Mapping[str, object]:
        """The document, of plain JSON values.

        Args:
            stage: the stage that was running.
        """
        fields = {
            "type": self.type,
            "problem": self.problem,
            "found": self.found,
            "wanted": self.wanted,
            "remedy": self.remedy,
            "stage": stage,
        }
        return {"error": {name: _plain(value) for name, value in fields.items()}}


def wants_json(arguments: Sequence[str]) -> bool:
    """Whether a command line asks for JSON on stdout."""
    options = arguments[: arguments.index("--")] if "--" in arguments else arguments
    return JSON_OPTION in options


def _plain(value: object) -> object:
    """A value of any type as JSON: numbers, collections and None as they are, everything else as text."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        return float(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, set | frozenset):
        return sorted(str(item) for item in value)
    return str(value)
