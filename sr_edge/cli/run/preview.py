"""`sr-edge preview`: a web page that shows a stream live before and after upscaling."""

from __future__ import annotations

import os
import socket
import sys
from contextlib import ExitStack
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sr_edge.cli.interrupts import ending_on_signal, interruptible
from sr_edge.cli.model_argument import (
    AUTO,
    ChannelOrderOption,
    OnnxInputRangeOption,
    OnnxTileOption,
    RunFloatPrecisionOption,
    RunnableArgument,
    RunPrecisionOption,
    RunRuntimeOption,
    chosen_engine,
    opened_model,
)
from sr_edge.cli.options import SettingsOption, ThreadsOption, read_settings
from sr_edge.cli.run.stream_options import (
    DecoderOption,
    DeinterlaceOption,
    OpenTimeoutOption,
    RateOption,
    ReadOption,
    ReuseMemoryOption,
    ReuseOption,
    ReuseRefreshOption,
    read_pairs,
    read_reuse,
)
from sr_edge.cli.terminal import print_line

if TYPE_CHECKING:
    from sr_edge.camera import Source, SourceOptions, StreamReport
    from sr_edge.camera.preview.stream import PreviewStream

DEFAULT_PORT = 8770
_ALL_INTERFACES = ("0.0.0.0", "::")


SourceArgument = Annotated[
    str,
    typer.Argument(
        metavar="SOURCE",
        help="Camera (/dev/video0), rtsp://, udp:// or http:// address, video file, folder of images, or "
        "test:320x180@30. Files are played in real time.",
        show_default=False,
    ),
]
PolicyOption = Annotated[
    str,
    typer.Option(
        metavar="latest|block|'drop-late MS'",
        help="Frames to drop when they arrive too fast: all but the latest, none (block the source), or those older "
        "than MS milliseconds.",
    ),
]
OnceOption = Annotated[bool, typer.Option("--once", help="Stop at the end of a file instead of playing it again.")]
HostOption = Annotated[
    str, typer.Option(help="Address to listen on. If other machines can reach it, the page requires a token.")
]
PortOption = Annotated[int, typer.Option(min=0, max=65535, help="TCP port to listen on; 0 selects a free one.")]


def preview(
    model: RunnableArgument,
    source: SourceArgument,
    runtime: RunRuntimeOption = AUTO,
    precision: RunPrecisionOption = AUTO,
    float_precision: RunFloatPrecisionOption = None,
    policy: PolicyOption = "latest",
    once: OnceOption = False,
    host: HostOption = "127.0.0.1",
    port: PortOption = DEFAULT_PORT,
    read: ReadOption = [],  # noqa: B006  # typer copies it; it wants a list here
    rate: RateOption = None,
    deinterlace: DeinterlaceOption = False,
    decoder: DecoderOption = None,
    open_timeout_s: OpenTimeoutOption = 10.0,
    reuse: ReuseOption = "exact",
    reuse_memory: ReuseMemoryOption = None,
    reuse_refresh_s: ReuseRefreshOption = None,
    threads: ThreadsOption = None,
    settings: SettingsOption = [],  # noqa: B006
    tile: OnnxTileOption = None,
    input_range: OnnxInputRangeOption = AUTO,
    channel_order: ChannelOrderOption = "rgb",
) -> None:
    """Show a stream before and after upscaling in a browser."""
    controls, reused = read_settings(settings), read_reuse(reuse, reuse_memory, reuse_refresh_s)
    from sr_edge.camera import Policy, SourceOptions
    from sr_edge.camera.preview.access import access_for
    from sr_edge.camera.preview.engines import EngineOption, engine_options, recommended_engine
    from sr_edge.camera.preview.server import StreamInfo, listening_socket, preview_app, server_for
    from sr_edge.camera.preview.stream import PreviewStream
    from sr_edge.camera.preview.switching import SwitchableFrameUpscaler
    from sr_edge.camera.sources.ffmpeg import frame_rate
    from sr_edge.camera.sources.open import require_source
    from sr_edge.cli.output import stage_on_stderr
    from sr_edge.model_sources import EngineChoice, open_frame_session, tile_reporter

    drop_policy = Policy.parse(policy)
    requested = EngineChoice.read(runtime, precision, float_precision, threads=threads)
    options = SourceOptions(
        rate=frame_rate(rate) if rate is not None else None,
        ffmpeg=read_pairs(read),
        is_deinterlaced=deinterlace,
        open_timeout_s=open_timeout_s,
        decoder=decoder,
    )
    require_source(source, options)
    with ExitStack() as resources:
        server_socket = resources.enter_context(listening_socket(host, port))
        loading = resources.enter_context(ExitStack())
        loading.enter_context(stage_on_stderr(f"loading {model.name}"))
        bundle = resources.enter_context(opened_model(model, tile, input_range, channel_order))
        engine = chosen_engine(bundle, requested)
        initial = EngineOption(engine.runtime, engine.precision, engine.float_precision)
        upscaler = SwitchableFrameUpscaler(
            lambda choice: open_frame_session(
                bundle,
                choice.runtime,
                choice.precision,
                choice.device,
                float_precision=choice.float_precision,
                threads=requested.threads,
            ),
            initial,
            controls,
            reused,
            tile_reporter(bundle, print_line),
        )
        resources.callback(upscaler.close)
        loading.close()
        frame_source = _preview_source(source, options, once)
        stream = PreviewStream(frame_source, upscaler, drop_policy, print_line)
        resources.callback(_close, stream)
        choices = engine_options(bundle)
        choices = choices if initial in choices else (initial, *choices)
        stream_info = StreamInfo(
            source=frame_source.name,
            model=model.name,
            scale=upscaler.scale,
            policy=str(drop_policy),
            engines=choices,
            recommended=recommended_engine(bundle, choices),
            controls=bundle.manifest.card.controls,
        )
        access = access_for(host)
        stream.start()
        name = socket.gethostname() if host in _ALL_INTERFACES else host
        print_line(f"preview: {access.address(name, server_socket.getsockname()[1])} (Ctrl-C to stop)", sys.stdout)
        with ending_on_signal():  # the server ends by Ctrl-C and SIGTERM, and sends itself the signal once more then
            server_for(preview_app(stream, stream_info, access)).run(sockets=[server_socket])
            resources.close()
            print_line(_end_line(stream.report()), sys.stdout)


def _end_line(report: StreamReport) -> str:
    """The sizes and the numbers of frames of a preview that has ended."""
    sizes = " -> ".join(f"{width}x{height}" for width, height in filter(None, (report.input_size, report.output_size)))
    frames = f"{report.frames_in} frames in, {report.frames_out} out, {report.dropped} dropped, {report.failed} failed"
    return ", ".join(filter(None, (sizes, f"{frames} in {report.seconds:.0f} s")))


def _preview_source(text: str, options: SourceOptions, once: bool) -> Source:
    """Opens a source; files are played in real time, and repeated unless `once`."""
    from sr_edge.camera import open_source
    from sr_edge.camera.preview.repeating_source import RepeatingSource
    from sr_edge.camera.sources.wrappers import PacedSource

    is_repeated = not once and (Path(text).is_file() or Path(text).is_dir())
    # A repeated source is opened again and again, and has the same to say each time.
    options = replace(options, on_event=lru_cache(maxsize=None)(print_line) if is_repeated else print_line)
    opened = (
        RepeatingSource(lambda: open_source(text, options))
        if is_repeated
        else interruptible(lambda: open_source(text, options))
    )
    return opened if opened.is_live else PacedSource(opened)


def _close(stream: PreviewStream) -> None:
    """Closes the stream; exits immediately if a stage hangs or an engine is loaded, which can take minutes."""
    if not stream.close():
        print_line("sr-edge: a stage hangs, or an engine is still being loaded; exiting without waiting for it")
        os._exit(1)
