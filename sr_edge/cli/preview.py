"""`sr-edge preview`: a page that shows a stream before and after, live."""

from __future__ import annotations

import os
import socket
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sr_edge.cli.options import FloatPrecisionOption, Settings, Threads, read_settings
from sr_edge.cli.stream_options import Model, Read, read_pairs
from sr_edge.cli.stream_source import opened_source
from sr_edge.spec import Precision

if TYPE_CHECKING:
    from sr_edge.camera import Source
    from sr_edge.camera.preview.show import PreviewStream

USUAL_PORT = 8770
_EVERY_ADDRESS = ("0.0.0.0", "::")


SourceText = Annotated[
    str,
    typer.Argument(
        metavar="SOURCE",
        help="/dev/video0, rtsp://, udp:// or http:// address, video file, folder of pictures, test:320x180@30; "
        "files are played by the clock.",
        show_default=False,
    ),
]
FirstRuntime = Annotated[str | None, typer.Option(help="To begin with; left out, what works best.", show_default=False)]
FirstPrecision = Annotated[Precision, typer.Option(help="To begin with.")]
PolicyWords = Annotated[str, typer.Option(metavar="latest|block|'drop-late MS'", help="When frames come too fast.")]
Once = Annotated[bool, typer.Option("--once", help="Do not begin a file again when it ends.")]
Host = Annotated[str, typer.Option(help="Where to listen; anything but this machine needs a token.")]
Port = Annotated[int, typer.Option(min=0, max=65535, help="0 takes one that is free.")]


def preview(
    model: Model,
    source: SourceText,
    runtime: FirstRuntime = None,
    precision: FirstPrecision = Precision.FP32,
    float_precision: FloatPrecisionOption = Precision.FP32,
    policy: PolicyWords = "latest",
    once: Once = False,
    host: Host = "127.0.0.1",
    port: Port = USUAL_PORT,
    read: Read = [],  # noqa: B006  # typer copies it; it wants a list here
    threads: Threads = None,
    settings: Settings = [],  # noqa: B006
) -> None:
    """Show a camera, stream or video before and after, on a page in the browser."""
    controls = read_settings(settings)
    from sr_edge.bundle import open_bundle
    from sr_edge.camera import Policy
    from sr_edge.camera.preview.access import access_for
    from sr_edge.camera.preview.engines import EngineOption, SwitchableFrameUpscaler, engine_options
    from sr_edge.camera.preview.server import StreamInfo, listening_socket, preview_app, server_for
    from sr_edge.camera.preview.show import PreviewStream
    from sr_edge.runtimes import open_frame_session, preferred_runtime

    chosen = Policy.parse(policy)
    with ExitStack() as owned:
        listening = owned.enter_context(listening_socket(host, port))
        bundle = owned.enter_context(open_bundle(model))
        first = EngineOption(runtime or preferred_runtime(), precision, float_precision)
        upscaler = SwitchableFrameUpscaler(
            lambda choice: open_frame_session(
                bundle,
                choice.runtime,
                choice.precision,
                choice.device,
                float_precision=choice.float_precision,
                threads=threads,
            ),
            first,
            controls,
        )
        owned.callback(upscaler.close)
        shown = _shown_source(source, read_pairs(read), once)
        stream = PreviewStream(shown, upscaler, chosen, _print_line)
        owned.callback(_close, stream)
        choices = engine_options(bundle)
        stream_info = StreamInfo(
            source=shown.name,
            model=model.name,
            scale=upscaler.scale,
            policy=str(chosen),
            engines=choices if first in choices else (first, *choices),
        )
        access = access_for(host)
        stream.start()
        name = socket.gethostname() if host in _EVERY_ADDRESS else host
        typer.echo(f"preview: {access.address(name, listening.getsockname()[1])} (Ctrl-C ends it)")
        server_for(preview_app(stream, stream_info, access)).run(sockets=[listening])


def _shown_source(text: str, ffmpeg: dict[str, str], once: bool) -> Source:
    """Opens it; a file is played by the clock, and again when it ends."""
    from sr_edge.camera import SourceOptions, open_source
    from sr_edge.camera.preview.repeated import RepeatingSource
    from sr_edge.camera.wrappers import PacedSource

    options = SourceOptions(ffmpeg=ffmpeg, on_event=_print_line)
    again = not once and (Path(text).is_file() or Path(text).is_dir())
    opened = RepeatingSource(lambda: open_source(text, options)) if again else opened_source(text, options)
    return opened if opened.is_live else PacedSource(opened)


def _close(stream: PreviewStream) -> None:
    """Ends the process at once where a stage hangs: waiting for its engine would have no end."""
    if not stream.close():
        _print_line("sr-edge: a stage hangs; leaving it")
        os._exit(1)


def _print_line(line: str) -> None:
    sys.stderr.write(f"{line}\n")
