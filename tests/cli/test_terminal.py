"""Foreign text on the terminal, and standard streams that are closed, full or of a simple terminal."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.table import Table

from sr_edge.cli.app import app
from sr_edge.cli.failures import run_command
from sr_edge.cli.output import result_on_stdout
from sr_edge.cli.terminal import console_on, is_live_terminal
from sr_edge.errors import BundleError
from tests.command_line import SrEdge

HOSTILE = "net\x1b[2J\x1b]0;owned\x07\u202egnp.\x9b31m"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def is_harmless(text: str) -> bool:
    return all(character.isprintable() or character in "\n\t" for character in text)


def test_a_hostile_name_in_an_error_is_harmless(sr_edge: SrEdge, tmp_path: Path) -> None:
    outcome = sr_edge("inspect", tmp_path / HOSTILE)
    assert outcome.code == 1
    assert is_harmless(outcome.stderr) and "net?[2J" in outcome.error


@pytest.mark.parametrize("as_json", [True, False])
def test_a_hostile_name_in_a_result_is_harmless(as_json: bool, capsys: pytest.CaptureFixture[str]) -> None:
    table = Table("file")
    table.add_row(HOSTILE)
    for readable in (table, HOSTILE):
        with result_on_stdout(as_json) as show:
            show({"file": HOSTILE}, readable)
        printed = capsys.readouterr().out
        assert is_harmless(printed)
        assert "owned" in printed
        if as_json:
            assert json.loads(printed) == {"file": HOSTILE}


def test_styles_are_kept_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    stream = Terminal()
    console_on(stream).print(HOSTILE, style="bold")
    assert stream.getvalue().startswith("\x1b[1m")
    assert is_harmless(stream.getvalue().replace("\x1b[1m", "").replace("\x1b[0m", ""))


def test_a_traceback_for_debugging_is_harmless(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SR_EDGE_DEBUG", "1")

    def command(**_arguments: Any) -> None:
        raise BundleError(HOSTILE)

    assert run_command(command, []) == 1
    printed = capsys.readouterr().err
    assert "Traceback" in printed and is_harmless(printed)


def without(descriptor: int) -> Callable[[], None]:
    return lambda: os.close(descriptor)


@pytest.mark.parametrize(
    ("arguments", "closed", "code", "is_explained"),
    [
        (["--version"], 1, 1, True),
        ([], 1, 1, True),
        (["models-that-are-none"], 2, 2, False),
        (["--version"], 0, 0, False),
    ],
)
def test_closed_streams(arguments: list[str], closed: int, code: int, is_explained: bool) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "sr_edge", *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=without(closed),
    )
    assert done.returncode == code, done.stderr
    assert sum(line.startswith("sr-edge: ") for line in done.stderr.splitlines()) == is_explained
    assert "unexpected" not in done.stderr and "Traceback" not in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_a_full_disk_behind_stdout_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with open("/dev/full", "w") as full:  # noqa: PTH123
        monkeypatch.setattr(sys, "stdout", full)
        assert run_command(app, ["--version"]) == 1
    assert capsys.readouterr().err.count("sr-edge: ") == 1


def test_a_deleted_working_directory_is_named(sr_edge: SrEdge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()
    outcome = sr_edge("models")
    assert outcome.code == 2
    assert "working directory" in outcome.error
    assert sr_edge("--version").code == 0


@pytest.mark.parametrize("source", ["test:64x48@30", "rtsp://127.0.0.1/x", "clip.mp4"])
@pytest.mark.parametrize("command", ["stream", "preview"])
def test_model_and_source_in_the_wrong_order_are_noticed(sr_edge: SrEdge, command: str, source: str) -> None:
    outcome = sr_edge(command, source, "net.sredge")
    assert outcome.code == 2
    assert "MODEL SOURCE" in outcome.error


@pytest.mark.parametrize(("kind", "is_live"), [("xterm-256color", True), ("dumb", False), ("", True)])
def test_lines_are_replaced_on_capable_terminals_only(
    kind: str, is_live: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", kind)
    assert is_live_terminal(Terminal()) is is_live
    assert not is_live_terminal(io.StringIO())
