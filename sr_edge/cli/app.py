"""The typer application with all commands."""

from __future__ import annotations

from typing import Annotated

import typer

from sr_edge.cli.checks import CheckedCommand, checking_values
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
from sr_edge.cli.run.gst_install import gst_install
from sr_edge.cli.run.preview import preview
from sr_edge.cli.run.stream import stream
from sr_edge.cli.run.upscale import upscale

COMMANDS = (
    models,
    doctor,
    export,
    calibrate,
    deploy,
    compile_engine,
    inspect,
    selftest,
    upscale,
    stream,
    preview,
    gst_install,
    bench,
    evaluate,
    compare,
    train,
    export_triton,
    export_trtexec,
)

app = typer.Typer(
    name="sr-edge",
    help="Take super-resolution models from a PyTorch checkpoint to a verified INT8 deployment.",
    no_args_is_help=True,
    rich_markup_mode=None,
    add_completion=False,
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
    name = command.__name__.replace("_", "-")
    app.command(name, cls=CheckedCommand)(checking_values(refusing_addresses(command)))
