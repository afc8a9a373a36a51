"""`sr-edge gst-install`: makes the GStreamer element `sredge` known to GStreamer."""

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
            help="Folder to install into, for GST_PLUGIN_PATH. Default: the plugin folder of your user account.",
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

        done = install_element(folder)
        show(done, _readable(done))


def _readable(done: Installation) -> str:
    version = ".".join(map(str, done.loader.python))
    lines = [f"sredge is installed: {done.plugin_file}, GStreamer's Python {version} with {done.environment}"]
    if done.search_path is not None:
        lines.append(f"GStreamer finds it with: export GST_PLUGIN_PATH={done.search_path}")
    if done.hides_bindings:
        lines.append(
            "while this environment is first on the PATH, GStreamer's Python looks into it and misses its bindings: "
            "run pipelines after `deactivate`, or as PATH=/usr/bin:$PATH gst-launch-1.0 ..."
        )
    return "\n".join([*lines, "its properties: gst-inspect-1.0 sredge"])
