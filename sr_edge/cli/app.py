"""The typer application with all commands."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from sr_edge.cli.checks import CheckedCommand, checking_values
from sr_edge.cli.config_file import configurable
from sr_edge.cli.measure.bench import bench
from sr_edge.cli.measure.compare import compare
from sr_edge.cli.measure.doctor import doctor
from sr_edge.cli.measure.evaluate import evaluate
from sr_edge.cli.measure.selftest import selftest
from sr_edge.cli.options import refusing_addresses
from sr_edge.cli.prepare.calibrate import calibrate
from sr_edge.cli.prepare.compile import compile as compile_engine
from sr_edge.cli.prepare.deploy import deploy
from sr_edge.cli.prepare.export import export
from sr_edge.cli.prepare.inspect import inspect
from sr_edge.cli.prepare.models import models
from sr_edge.cli.prepare.serving import export_triton, export_trtexec
from sr_edge.cli.prepare.train import train
from sr_edge.cli.run.batch import batch
from sr_edge.cli.run.gst_install import gst_install
from sr_edge.cli.run.preview import preview
from sr_edge.cli.run.stream import stream
from sr_edge.cli.run.upscale import upscale

GROUPS: dict[str, tuple[Callable[..., None], ...]] = {
    "Prepare": (models, inspect, deploy, export, calibrate, train),
    "Run": (upscale, batch, stream, preview),
    "Measure": (doctor, selftest, bench, evaluate, compare),
    "Integrate": (compile_engine, export_triton, export_trtexec, gst_install),
}
"""The commands as the help groups them."""
COMMANDS = tuple(command for commands in GROUPS.values() for command in commands)
CONFIGURABLE = (deploy, export, calibrate, train, upscale, batch, stream, preview, bench, evaluate)
"""The commands with many options, which `--config` can read from a file."""


class GroupedCommands(TyperGroup):
    """A list of commands in groups, with whole summaries; click cuts them at the end of a line."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        for title, commands in GROUPS.items():
            names = map(command_name, commands)
            with formatter.section(title):
                formatter.write_dl([(name, str(self.commands[name].help).partition("\n\n")[0]) for name in names])


def command_name(command: Callable[..., None]) -> str:
    """The name of a command on the command line."""
    return command.__name__.replace("_", "-")


app = typer.Typer(
    name="sr-edge",
    cls=GroupedCommands,
    help="Take super-resolution models from a PyTorch checkpoint to a verified INT8 deployment.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _print_version(is_requested: bool) -> None:
    if is_requested:
        from importlib.metadata import version

        typer.echo(f"sr-edge {version('sr-edge')}")
        raise typer.Exit


@app.callback()
def _global_options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None: ...


for command in COMMANDS:
    function = configurable(command) if command in CONFIGURABLE else command
    app.command(command_name(command), cls=CheckedCommand)(checking_values(refusing_addresses(function)))
