"""The help of every command: sentences that are complete, uniform option names, and the model as first argument."""

from __future__ import annotations

from typing import Any

import pytest
import typer

from sr_edge.cli.app import COMMANDS, app
from tests.command_line import SrEdge

NAMES = [command.__name__.replace("_", "-") for command in COMMANDS]
WITHOUT_MODEL = {"models", "doctor", "gst-install"}
GROUP: Any = typer.main.get_command(app)  # typer's own copy of click, or click itself: it depends on the release


def parameters(command: str) -> dict[str, Any]:
    """The parameters of a command by their Python name."""
    return {parameter.name: parameter for parameter in GROUP.commands[command].params}


def test_the_list_of_commands_cuts_no_description(sr_edge: SrEdge, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    listed = sr_edge("--help").stdout
    assert all(f"  {name} " in listed for name in NAMES)
    assert "..." not in listed.partition("Commands:")[2]


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
