"""No command prints a password or token, in whichever argument an address is given, and whatever comes of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
from typer.core import TyperArgument

from sr_edge.cli.app import COMMANDS as COMMAND_FUNCTIONS
from sr_edge.cli.app import command_name
from sr_edge.cli.error_document import current_state, new_state
from sr_edge.cli.output import result_on_stdout
from sr_edge.cli.terminal import print_line, print_text, replace_line
from sr_edge.errors import UsageError
from tests.cli.test_checks import COMMANDS, COMPLETE, flag
from tests.command_line import SrEdge

PASSWORD, TOKEN = "hunter2", "s3cr3t"
ADDRESS = f"rtsp://me:{PASSWORD}@127.0.0.1:1/x?token={TOKEN}"
PIPELINE = f"gst:rtspsrc location=rtsp://127.0.0.1:1/x user-id=me user-pw={PASSWORD} ! fakesink"
FUNCTIONS = {command_name(command): command for command in COMMAND_FUNCTIONS}
ENDING = {
    "stream": ("--duration", "0.1"),
    "preview": ("--host", "192.0.2.1"),  # which no machine has
    "batch": ("--ray", "127.0.0.1:1"),  # where no cluster is
    "bench": ("--runs", "1", "--warm-up", "0", "--no-memory"),
    "deploy": ("--runs", "1", "--no-memory", "--no-tile-needs", "--runtimes", "onnxruntime", "--tile", "24"),
}
"""Options with which a command ends soon where the address is accepted."""
LONG = frozenset(("bench", "deploy", "calibrate", "stream"))
"""Commands that work for seconds before they look at some of their values."""


def texts_of(command: str) -> Iterator[Any]:
    """The parameters of a command whose value is any text or path."""
    hints = get_type_hints(FUNCTIONS[command])
    for parameter in COMMANDS[command].params:
        hint = hints.get(parameter.name, Path)  # `--config` is none of the function's own
        if {str, Path, list[str]} & {hint, *get_args(hint)} and parameter.name != "help":
            yield parameter


def with_address(command: str, parameter: Any, address: str, words: list[str]) -> list[str]:
    """A complete command line in which one parameter is the address."""
    if not isinstance(parameter, TyperArgument):
        return [command, *words, flag(parameter), address]
    arguments = [each.name for each in COMMANDS[command].params if isinstance(each, TyperArgument)]
    words[arguments.index(parameter.name)] = address
    return [command, *words]


@pytest.mark.parametrize(
    "command", [pytest.param(name, marks=[pytest.mark.services] if name in LONG else []) for name in COMPLETE]
)
def test_an_address_is_never_printed_with_its_secrets(
    command: str,
    sr_edge: SrEdge,
    places: Callable[[tuple[str, ...]], list[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    as_json = [each for each in COMMANDS[command].params if each.name == "as_json"]
    for parameter in texts_of(command):
        words = [*places(COMPLETE[command]), *ENDING.get(command, ())]
        line = with_address(command, parameter, ADDRESS, words)
        outcome = sr_edge(*line, *(["--json"] if as_json else []))
        printed = outcome.stdout + outcome.stderr
        assert PASSWORD not in printed and TOKEN not in printed, (parameter.name, printed)


@pytest.mark.parametrize("address", [ADDRESS, PIPELINE])
def test_everything_that_is_printed_is_without_secrets(address: str, capsys: pytest.CaptureFixture[str]) -> None:
    pieces = [address, f"cannot read {address!r}", f"no folder {Path(address)}"]
    with new_state(["stream", "tiny.sredge", address]):
        for text in pieces:
            print_line(text)
            print_text(text)
            replace_line(text)
            with result_on_stdout(as_json=False) as show:
                show({}, text)
            with result_on_stdout(as_json=True) as show:
                show({"source": text, text: [text]}, "")
    printed = "".join(capsys.readouterr())
    assert printed.count("***") >= 7 * len(pieces)
    assert PASSWORD not in printed and TOKEN not in printed


def test_the_text_of_an_error_is_without_secrets_and_its_fields_are_for_programs() -> None:
    error = UsageError(f"{ADDRESS} is no model", found=ADDRESS, remedy=f"use `sr-edge stream tiny.sredge {ADDRESS}`")
    for text in (str(error), error.problem, error.remedy or ""):
        assert PASSWORD not in text and TOKEN not in text and "127.0.0.1" in text
    assert error.found == ADDRESS


def test_other_threads_of_a_command_know_its_arguments() -> None:
    with new_state(["stream", ADDRESS]), ThreadPoolExecutor(1) as pool:
        assert pool.submit(current_state).result().arguments == ("stream", ADDRESS)
    assert current_state().arguments == ()


def test_a_json_document_of_an_error_is_without_secrets(sr_edge: SrEdge) -> None:
    outcome = sr_edge("inspect", ADDRESS, "--json")
    assert outcome.code == 2
    error = json.loads(outcome.stdout)["error"]
    assert error["problem"] and error["remedy"]
    assert PASSWORD not in outcome.stdout and TOKEN not in outcome.stdout
