"""`sr-edge gst-install`: installs the GStreamer element `sredge`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sr_edge.cli.options import JsonOption

if TYPE_CHECKING:
    from sr_edge.gstreamer.installation import Installation


def gst_install(
    folder: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Folder to install into, for GST_PLUGIN_PATH. Default: the plugin folder of the current user.",
            show_default=False,
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Install the GStreamer element sredge.

    Its pipelines run sr-edge in this Python environment.
    """
    from sr_edge.cli.output import result_on_stdout

    with result_on_stdout(as_json) as show:
        from sr_edge.gstreamer.installation import install_element

        installation = install_element(folder)
        show(installation, _readable(installation))


def _readable(installation: Installation) -> str:
    version = ".".join(map(str, installation.loader.python))
    lines = [
        f"sredge is installed: {installation.plugin_file}, GStreamer's Python {version} with {installation.environment}"
    ]
    if installation.search_path is not None:
        lines.append(f"to let GStreamer find it, run: export GST_PLUGIN_PATH={installation.search_path}")
    if installation.hides_bindings:
        lines.append(
            "while this environment is first on the PATH, GStreamer's Python searches it and does not find its own "
            "bindings: run pipelines after `deactivate`, or with PATH=/usr/bin:$PATH gst-launch-1.0 ..."
        )
    return "\n".join([*lines, "to list its properties, run: gst-inspect-1.0 sredge"])
