"""Every exception is converted to one line on stderr and an exit code."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer

from sr_edge.cli.app import app
from sr_edge.cli.failures import MAX_MESSAGE_CHARS, run_command
from sr_edge.cli.output import progress_on_stderr, result_on_stdout
from sr_edge.errors import BundleError, ExportError, TileError
from sr_edge.installation import how_to_install


def raising(error: BaseException) -> Callable[..., object]:
    def command(**_arguments: Any) -> object:
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "code", "expected"),
    [
        (BundleError("the bundle is\n damaged"), 1, ("sr-edge: the bundle is damaged\n",)),
        (TileError("tile 7", remedy="use 8"), 2, ("sr-edge: tile 7; use 8\n",)),
        (KeyboardInterrupt(), 130, ("sr-edge: interrupted\n",)),
        (typer.Abort(), 130, ("sr-edge: interrupted\n",)),
        (typer.BadParameter("no"), 2, ("no", "`sr-edge --help`")),
        (OSError(errno.ENOSPC, "No space left on device"), 1, ("No space left on device", "free")),
        (OSError(errno.EFBIG, "File too large"), 1, ("File too large", "`ulimit -f`")),
        (PermissionError(errno.EACCES, "Permission denied", "/x"), 1, ("Permission denied", "/x", "permissions")),
        (MemoryError(), 1, ("memory", "tile")),
        (ModuleNotFoundError("no", name="torch"), 1, ("torch", how_to_install("export"))),
        (ModuleNotFoundError("no", name="onnxruntime"), 1, (how_to_install("onnxruntime"),)),
        (ModuleNotFoundError("no", name="av"), 1, ("av", how_to_install("camera"))),
        (ValueError("odd"), 1, ("ValueError: odd", "report", "SR_EDGE_DEBUG=1")),
    ],
)
def test_each_error_is_one_line(
    error: BaseException,
    code: int,
    expected: tuple[str, ...],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("SR_EDGE_DEBUG", raising=False)
    assert run_command(raising(error), []) == code
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("sr-edge: ")
    assert [value for value in expected if value not in printed.err] == [], printed.err
    assert printed.err.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "fields"),
    [
        (
            TileError("tile 7 is odd", found=7, wanted=(6, 8), remedy="use 8"),
            {"type": "TileError", "problem": "tile 7 is odd", "found": 7, "wanted": [6, 8], "remedy": "use 8"},
        ),
        (
            BundleError("it is damaged", found=Path("x.sredge"), wanted={"b", "a"}),
            {"type": "BundleError", "found": "x.sredge", "wanted": ["a", "b"], "remedy": None},
        ),
        (ExportError("it overflows", found=float("inf")), {"type": "ExportError", "found": None}),
        (PermissionError(errno.EACCES, "Permission denied", "/x"), {"type": "PermissionError", "found": "/x"}),
        (ModuleNotFoundError("no", name="av"), {"type": "ModuleNotFoundError", "found": "av"}),
        (typer.BadParameter("no"), {"type": "BadParameter", "problem": "Invalid value: no"}),
        (ValueError("odd"), {"type": "ValueError", "found": None}),
        (KeyboardInterrupt(), {"type": "KeyboardInterrupt", "problem": "interrupted"}),
    ],
)
def test_json_has_the_fields_of_the_error(
    error: BaseException, fields: dict[str, object], capsys: pytest.CaptureFixture[str]
) -> None:
    code = run_command(raising(error), ["work", "--json"])
    printed = capsys.readouterr()
    document = json.loads(printed.out)["error"]
    assert set(document) == {"type", "problem", "found", "wanted", "remedy", "stage"}
    assert {name: document[name] for name in fields} == fields
    assert printed.err.count("\n") == 1
    assert code == run_command(raising(error), ["work"])
    assert capsys.readouterr().out == ""


def test_json_names_the_stage_that_failed(capsys: pytest.CaptureFixture[str]) -> None:
    def command(**_arguments: Any) -> object:
        with result_on_stdout(True), progress_on_stderr() as progress:
            progress("exporting", 0, 1)
            progress("calibrating", 0, 1)
            raise ExportError("it failed")

    assert run_command(command, ["--json"]) == 1
    assert json.loads(capsys.readouterr().out)["error"]["stage"] == "calibrating"


def test_a_result_on_stdout_is_not_followed_by_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    def command(**_arguments: Any) -> object:
        with result_on_stdout(True) as show:
            show({"answer": 42}, "")
        raise ExportError("it does not reproduce")

    assert run_command(command, ["--json"]) == 1
    assert json.loads(capsys.readouterr().out) == {"answer": 42}


def test_json_hides_passwords_in_every_field(capsys: pytest.CaptureFixture[str]) -> None:
    address = "rtsp://user:secret@camera/stream"
    error = BundleError(f"no file {address}", found={"path": [Path(address)]}, wanted=address, remedy=f"not {address}")
    assert run_command(raising(error), [address, "--json"]) == 1
    printed = capsys.readouterr()
    assert "secret" not in printed.out + printed.err
    assert json.loads(printed.out)["error"]["type"] == "BundleError"


def test_what_follows_two_dashes_is_no_option(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(raising(ExportError("no")), ["inspect", "--", "--json"]) == 1
    assert capsys.readouterr().out == ""


def test_a_message_that_holds_a_graph_is_cut(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SR_EDGE_DEBUG", raising=False)
    assert run_command(raising(ExportError("%1 = Add(%2) " * 10_000)), []) == 1
    printed = capsys.readouterr().err
    assert len(printed) < MAX_MESSAGE_CHARS + 100
    assert "SR_EDGE_DEBUG=1" in printed and printed.count("\n") == 1


def test_an_interrupted_import_is_an_interruption(capsys: pytest.CaptureFixture[str]) -> None:
    error = ImportError("initialization failed")
    error.__cause__ = KeyboardInterrupt()
    assert run_command(raising(error), []) == 130
    assert capsys.readouterr().err == "sr-edge: interrupted\n"


def test_debug_shows_where_it_happened(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SR_EDGE_DEBUG", "1")
    assert run_command(raising(ValueError("odd")), []) == 1
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments", [["nonsense"], ["export"], ["bench", "x", "--runs", "0"], ["bench", "x", "--runs", "two"], ["--wrong"]]
)
def test_wrong_usage_is_one_line_and_exit_code_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(app, arguments) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "--help" in error


def test_a_reader_that_stops_early_is_no_failure_to_explain() -> None:
    command = f"{sys.executable} -m sr_edge models --json | head -c 10"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=True)
    assert done.stdout == '{\n  "model'
    assert done.stderr in ("", "loading PyTorch ...\n")


def program_with(tmp_path: Path, *work: str) -> tuple[Path, dict[str, str]]:
    """A program with one command, which runs `work` as `sr-edge` runs its commands; and its environment."""
    lines = (
        "import sys, time, typer",
        "from sr_edge.cli.failures import run_command",
        "from sr_edge.cli.interrupts import interrupt_once",
        "app = typer.Typer()",
        "@app.command()",
        "def work():",
        *(f"    {line}" for line in work),
        "interrupt_once()",
        "sys.exit(run_command(app, []))",
    )
    program = tmp_path / "program.py"
    program.write_text("\n".join(lines) + "\n")
    return program, {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_unwinds_the_program_and_later_ones_do_not_disturb_it(
    number: signal.Signals, code: int, tmp_path: Path
) -> None:
    program, environment = program_with(
        tmp_path,
        "try:",
        "    print('started', flush=True)",
        "    time.sleep(60)",
        "finally:",
        "    print('cleaning', flush=True)",
        "    time.sleep(0.5)",
        "    print('clean', flush=True)",
    )
    with subprocess.Popen([sys.executable, program], stdout=subprocess.PIPE, env=environment, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"
        process.send_signal(number)
        assert process.stdout.readline() == "cleaning\n"
        process.send_signal(signal.SIGINT)
        time.sleep(0.05)
        assert process.stdout.read() == "clean\n"
    assert process.returncode == code


def test_an_interrupt_waits_for_the_import_under_way(tmp_path: Path) -> None:
    """An exception in Python code that a C++ library calls while it is loaded would abort the process."""
    loaded = tmp_path / "loaded"
    module = f"import pathlib, signal\nsignal.raise_signal(signal.SIGINT)\npathlib.Path({str(loaded)!r}).touch()\n"
    (tmp_path / "slow.py").write_text(module)
    program, environment = program_with(tmp_path, "import slow", "time.sleep(60)")
    done = subprocess.run([sys.executable, program], capture_output=True, env=environment, text=True, check=False)
    assert (done.returncode, done.stderr) == (130, "sr-edge: interrupted\n")
    assert loaded.exists()


def test_an_interrupt_before_the_first_command_is_loaded(tmp_path: Path) -> None:
    """The signal arrives at the earliest moment that can be handled: the first import of the command line."""
    (tmp_path / "typer.py").write_text(
        "import signal, sys\nsignal.raise_signal(signal.SIGINT)\nsys.path.pop(0)\n"
        "del sys.modules['typer']\nfrom importlib import import_module\nimport_module('typer')\n"
    )
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{Path(__file__).parents[2]}"}
    program = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); sys.argv = ['sr-edge', 'doctor']; "
    program += "from sr_edge.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, env=environment, text=True, check=False)
    assert done.returncode == 130
    assert done.stderr == "sr-edge: interrupted\n"


@pytest.mark.parametrize(
    ("number", "code", "stderr"), [(signal.SIGINT, 130, "sr-edge: interrupted\n"), (signal.SIGTERM, 143, "")]
)
@pytest.mark.parametrize("work", ["signal.raise_signal({})", "__import__('slow')"])
def test_an_interrupt_outside_of_a_command(
    number: signal.Signals, code: int, stderr: str, work: str, tmp_path: Path
) -> None:
    """The signal arrives between two imports, or during an import that is the last step of the program."""
    (tmp_path / "slow.py").write_text(f"import signal\nsignal.raise_signal({number.value})\n")
    program = (
        "import signal; from sr_edge.cli.interrupts import exit_with_code_of\n"
        f"exit_with_code_of(lambda: {work.format(number.value)} and 0 or 0)"
    )
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{Path(__file__).parents[2]}"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, env=environment, text=True, check=False)
    assert (done.returncode, done.stderr) == (code, stderr)


FINISHING = """
import signal
from sr_edge.cli.interrupts import finishing_on_signal

number, code, told = signal.Signals({number}), {code}, []
before = signal.getsignal(number)
with finishing_on_signal(lambda: told.append(number)) as requested_code:
    assert requested_code() == 0
    signal.raise_signal(number)
    assert [requested_code(), requested_code()] == [code, code]
    assert signal.getsignal(number) == before, "a second signal is handled as outside of the block"
assert told == [number]
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_work_that_is_finished_after_a_signal_ends_with_its_code(number: signal.Signals, code: int) -> None:
    program = FINISHING.format(number=number.value, code=code)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
