"""The help of every command: sentences that are complete, uniform option names, and the model as first argument."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from sr_edge.cli.app import COMMANDS, GROUPS, app
from tests.command_line import SrEdge

NAMES = [command.__name__.replace("_", "-") for command in COMMANDS]
SR_EDGE = Path(sys.executable).with_name("sr-edge")
WITHOUT_MODEL = {"models", "doctor", "gst-install"}
GROUP: Any = typer.main.get_command(app)  # typer's own copy of click, or click itself: it depends on the release


def parameters(command: str) -> dict[str, Any]:
    """The parameters of a command by their Python name."""
    return {parameter.name: parameter for parameter in GROUP.commands[command].params}


@pytest.mark.parametrize("arguments", [(), ("--help",)])
@pytest.mark.parametrize("columns", [60, 80])
def test_the_commands_are_grouped_and_no_summary_is_cut(
    sr_edge: SrEdge, monkeypatch: pytest.MonkeyPatch, columns: int, arguments: tuple[str, ...]
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    outcome = sr_edge(*arguments)
    shown = outcome.stdout
    assert (outcome.code, outcome.stderr) == (0, "")
    assert max(map(len, shown.splitlines())) <= columns
    places = [shown.index(f"\n{title}:\n") for title in GROUPS]
    assert places == sorted(places)
    listed = " ".join(shown[places[0] :].split())
    for name in NAMES:
        summary = " ".join(GROUP.commands[name].help.partition("\n\n")[0].split())
        assert summary.endswith(".")
        assert f"{name} {summary}" in listed


def completed(shell: str, words: str) -> str:
    """What the shell is offered for the last word."""
    environment = {**os.environ, "_SR_EDGE_COMPLETE": f"complete_{shell}", "_TYPER_COMPLETE_ARGS": words}
    environment |= {"COMP_WORDS": words, "COMP_CWORD": str(words.count(" ")), "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    done = subprocess.run(["sr-edge"], executable=SR_EDGE, env=environment, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    return done.stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_complete_commands_options_and_values(shell: str) -> None:
    assert "calibrate" in completed(shell, "sr-edge cali")
    assert "--max-drop-db" in completed(shell, "sr-edge deploy --max")
    precisions = completed(shell, "sr-edge stream --precision f")
    assert "fp16" in precisions and "int8" not in precisions


def test_bash_completes_by_the_script_that_is_shown(tmp_path: Path) -> None:
    """Bash runs the script as it would at a prompt; without an offer of ours it completes names of files."""
    environment = {**os.environ, "PATH": f"{SR_EDGE.parent}:{os.environ['PATH']}"}
    shown = subprocess.run(
        [SR_EDGE], env={**environment, "_SR_EDGE_COMPLETE": "source_bash"}, capture_output=True, text=True, check=True
    )
    script = tmp_path / "completion.bash"
    script.write_text(shown.stdout, encoding="utf-8")
    commands = f"""
source {script}
complete -p sr-edge
COMP_WORDS=(sr-edge str) COMP_CWORD=1
$(complete -p sr-edge | sed 's/.*-F \\([^ ]*\\).*/\\1/') sr-edge str sr-edge
echo "${{COMPREPLY[@]}}"
"""
    done = subprocess.run(["bash", "-c", commands], env=environment, capture_output=True, text=True, check=True)
    declared, *offered = done.stdout.splitlines()
    assert "-o default" in declared
    assert offered == ["stream"]


@pytest.mark.parametrize("command", NAMES)
def test_every_argument_and_option_has_a_description_that_ends_as_a_sentence(command: str) -> None:
    described = {name: parameter.help for name, parameter in parameters(command).items() if name != "help"}
    assert [name for name, text in described.items() if not (text and text.endswith("."))] == []


@pytest.mark.parametrize("command", [name for name in NAMES if name not in WITHOUT_MODEL])
def test_the_model_is_the_first_argument(command: str) -> None:
    arguments = [one for one in parameters(command).values() if one.param_type_name == "argument"]
    assert arguments[0].metavar in ("MODEL", "A")


@pytest.mark.parametrize("command", NAMES)
def test_output_and_precisions_are_named_alike_everywhere(command: str) -> None:
    flags = {flag for parameter in parameters(command).values() for flag in parameter.opts}
    assert flags.isdisjoint({"--out", "--rest", "--spelling"})
    assert ("-o" in flags) == ("--output" in flags)


def test_the_refusal_of_an_address_names_the_argument_as_the_help_does(sr_edge: SrEdge) -> None:
    address = "rtsp://host/x"
    assert "MODEL of `sr-edge bench` is an address" in sr_edge("bench", address).error
    assert "--output of `sr-edge export` is an address" in sr_edge("export", "convnet-tiny", "-o", address).error


@pytest.mark.parametrize("command", [name for name in NAMES if "float_precision" in parameters(name)])
def test_the_precision_of_float_operators_is_never_int8(sr_edge: SrEdge, command: str) -> None:
    assert "int8" not in parameters(command)["float_precision"].metavar
    outcome = sr_edge(command, "--float-precision", "int8")
    assert (outcome.code, "fp32, bf16, fp16" in outcome.error) == (2, True)
