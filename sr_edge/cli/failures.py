"""Converts exceptions to one line on stderr, a document on stdout for `--json`, and an exit code."""

from __future__ import annotations

import errno
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import typer

from sr_edge.cli.error_document import CommandState, Failure, new_state, wants_json, without_secrets_of_command
from sr_edge.cli.interrupts import INTERRUPTED
from sr_edge.cli.standard_streams import flush_stdout
from sr_edge.cli.terminal import print_json, print_line, print_text
from sr_edge.errors import SrEdgeError, UsageError
from sr_edge.installation import how_to_install
from sr_edge.printable import one_line

FAILED, USAGE = 1, 2
DEBUG_VARIABLE = "SR_EDGE_DEBUG"
MAX_MESSAGE_CHARS = 1000
"""Longer messages are cut: the error of a library can contain a whole graph."""

_EXTRAS = {
    "av": "camera",
    "einops": "spandrel",
    "fsspec": "cluster",
    "matplotlib": "train",
    "onnxruntime": "onnxruntime",
    "ray": "cluster",
    "spandrel": "spandrel",
    "starlette": "preview",
    "uvicorn": "preview",
    "websockets": "preview",
}
"""The extra that installs a package; all other optional packages are in `export`."""

_INTERRUPTION = Failure(INTERRUPTED, "KeyboardInterrupt", "interrupted", "interrupted")

# Newer typer releases include their own copy of click, so its base class is taken from typer.
_ClickError = typer.BadParameter.__mro__[2]


def run_command(app: Callable[..., object], arguments: Sequence[str]) -> int:
    """Runs a typer app and returns the exit code: 0 done, 1 failed, 2 wrong usage, 130 interrupted. Never raises.

    A command that fails prints one line on stderr and, with `--json`, the error as a JSON document on stdout, unless
    its result is already there. Passwords in arguments are hidden in both, also if an address was parsed as a path.
    """
    with new_state(arguments) as state:
        try:
            outcome = _outcome_of(app, arguments)
            code = _report(outcome, arguments, state) if isinstance(outcome, Failure) else outcome
            flush_stdout(is_discarding=code != 0)  # of several errors the first one is reported
        except OSError as error:  # of stdout
            flush_stdout(is_discarding=True)
            return FAILED if _has_reader_ended(error) else _report(_os_failure(error), arguments, state)
    return code


def _outcome_of(app: Callable[..., object], arguments: Sequence[str]) -> int | Failure:
    """The exit code, or the failure that is to be reported."""
    debug = os.environ.get(DEBUG_VARIABLE, "") not in ("", "0")
    try:
        with warnings.catch_warnings():
            if not debug:
                warnings.simplefilter("ignore")
            _require_working_directory(arguments)
            code = app(args=list(arguments), prog_name="sr-edge", standalone_mode=False)
        return _INTERRUPTION if code == INTERRUPTED else code if isinstance(code, int) else 0
    except (KeyboardInterrupt, typer.Abort):
        return _INTERRUPTION
    except SystemExit as exit_request:
        return exit_request.code if isinstance(exit_request.code, int) else FAILED
    except Exception as error:
        if _has_reader_ended(error):
            raise
        if debug:
            print_text(traceback.format_exc())
        if _is_caused_by_interrupt(error):
            return _INTERRUPTION
        if type(error).__name__ == "NoArgsIsHelpError":  # its message is the help, of many lines
            print_text(f"{error}\n", sys.stdout)
            return 0
        return _failure_of(error)


def _has_reader_ended(error: Exception) -> bool:
    """Whether the program that reads stdout has ended, as `head` does, which needs no message."""
    return isinstance(error, BrokenPipeError) and error.filename is None


def _is_caused_by_interrupt(error: BaseException) -> bool:
    """Whether Ctrl-C caused the error: a module that is interrupted during its import can raise another error."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, KeyboardInterrupt):
        cause = cause.__cause__ or cause.__context__
    return cause is not None


def _failure_of(error: Exception) -> Failure:
    kind = type(error).__name__
    if isinstance(error, SrEdgeError):
        return Failure(error.exit_code, kind, str(error), error.problem, error.found, error.wanted, error.remedy)
    if isinstance(error, _ClickError):
        context = getattr(error, "ctx", None)
        command = context.command_path if context is not None else "sr-edge"
        problem, remedy = error.format_message(), f"see `{command} --help`"  # type: ignore[attr-defined]
        return Failure(USAGE, kind, f"{problem} ({remedy})", problem, remedy=remedy)
    if isinstance(error, OSError) and error.errno is not None:
        return _os_failure(error)
    if isinstance(error, MemoryError):
        return _failure(kind, "out of memory", "use a smaller tile or close other programs")
    if isinstance(error, ModuleNotFoundError):
        extra = _EXTRAS.get(error.name or "", "export")
        problem = f"this command needs the package {error.name}, which is not installed"
        return _failure(kind, problem, f"run: {how_to_install(extra)}", error.name)
    problem, remedy = f"unexpected {kind}: {error}", "this is a bug in sr-edge, please report it"
    message = f"{problem}; {remedy} ({DEBUG_VARIABLE}=1 shows where it happened)"
    return Failure(FAILED, kind, message, problem, remedy=remedy)


def _failure(kind: str, problem: str, remedy: str, found: object = None) -> Failure:
    return Failure(FAILED, kind, f"{problem}; {remedy}", problem, found, remedy=remedy)


def _require_working_directory(arguments: Sequence[str]) -> None:
    """Raises UsageError if the working directory was deleted: libraries that are loaded there end the process."""
    try:
        Path.cwd()
    except FileNotFoundError:
        if not {"--help", "--version"} & set(arguments):
            raise UsageError(
                "the working directory was deleted", wanted="an existing folder", remedy="change to another folder"
            ) from None


def _os_failure(error: OSError) -> Failure:
    kind = type(error).__name__
    if error.errno == errno.EBADF and not error.filename:
        return _failure(
            kind, "the result cannot be written: stdout is closed", "leave stdout open, or redirect it to a file"
        )
    where = f" at {error.filename}" if error.filename else ""
    advice = {
        errno.ENOSPC: "free some space or choose an output on another disk",
        errno.EDQUOT: "free some space or choose an output on another disk",
        errno.EFBIG: "raise the limit with `ulimit -f`, or choose another disk",
        errno.EACCES: "check the permissions or choose another path",
        errno.EPERM: "check the permissions or choose another path",
        errno.EROFS: "choose a path that can be written",
        errno.ENOENT: "check the path",
        errno.EISDIR: "give a file, not a folder",
        errno.ENOTDIR: "give a folder, not a file",
        errno.EMFILE: "raise the limit with `ulimit -n`",
    }.get(error.errno or 0, "check the path and the disk")
    return _failure(kind, f"{error.strerror}{where}", advice, error.filename)


def _report(failure: Failure, arguments: Sequence[str], state: CommandState) -> int:
    """Prints the line and, where it was asked for and stdout has no result, the document; returns the exit code."""
    line = one_line(without_secrets_of_command(failure.message))
    if len(line) > MAX_MESSAGE_CHARS:
        line = f"{line[:MAX_MESSAGE_CHARS]} ... ({len(line):,} characters; {DEBUG_VARIABLE}=1 shows all)"
    print_line(f"sr-edge: {line}")
    if wants_json([*arguments, *state.arguments]) and not state.printed:
        with suppress(OSError):  # stdout cannot be written; the failure is on stderr already
            print_json(failure.document(state.stage), sys.stdout)
    return failure.exit_code
