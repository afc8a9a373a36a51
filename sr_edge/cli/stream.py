"""`sr-edge stream`: a camera, stream or file through a bundle, live."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sr_edge.cli.options import Device, Json, OnePrecision, Settings, Threads, read_settings
from sr_edge.errors import RuntimeUnavailable, UsageError
from sr_edge.spec import Precision
from sr_edge.whole_file import require_output_file

if TYPE_CHECKING:
    from sr_edge.camera import Enlarger, HungStage, Loop, Policy, Sink, Source, SourceOptions, StreamReport
    from sr_edge.cli.stream_display import Display
    from sr_edge.runtimes import Session

USUAL_LATENCY_MS = 100.0
Pairs = list[str]


def stream(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="/dev/video0, rtsp://, udp:// or http:// address, video file, folder of pictures, named pipe, - for "
            "standard input, test:320x180@30, lavfi:GRAPH, or gst:PIPELINE.",
            show_default=False,
        ),
    ],
    sink: Annotated[
        str,
        typer.Argument(
            metavar="SINK",
            help="Video file, rtsp:// or udp:// address, - for raw frames on standard output, or null.",
            show_default=False,
        ),
    ],
    model: Annotated[
        Path, typer.Option("--model", metavar="BUNDLE", help="A .sredge folder or its .zip.", show_default=False)
    ],
    runtime: Annotated[
        str | None, typer.Option(help="Left out: openvino, onnxruntime or torch, what works.", show_default=False)
    ] = None,
    precision: OnePrecision = Precision.FP32,
    policy: Annotated[
        str | None,
        typer.Option(
            metavar="latest|block|'drop-late MS'",
            help="When frames come too fast; latest for live sources, block for files.",
            show_default=False,
        ),
    ] = None,
    roi: Annotated[
        str | None, typer.Option(metavar="x,y,w,h", help="Enlarge this part only.", show_default=False)
    ] = None,
    every: Annotated[int, typer.Option(min=1, help="Every n-th frame by the model, bicubic between.")] = 1,
    fallback: Annotated[
        str | None,
        typer.Option(metavar="bicubic|BUNDLE", help="Go on with it while the model is too slow.", show_default=False),
    ] = None,
    max_latency_ms: Annotated[
        float | None,
        typer.Option(help=f"What the fallback is to hold; {USUAL_LATENCY_MS:g} where left out.", show_default=False),
    ] = None,
    stats_json: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the figures there every second.", show_default=False)
    ] = None,
    raw: Annotated[
        str | None,
        typer.Option(metavar="FORMAT:WxH@RATE", help="What a pipe sends: nv12:320x180@30.", show_default=False),
    ] = None,
    rate: Annotated[str, typer.Option(help="Frames a second of a folder of pictures.")] = "30",
    pace: Annotated[bool, typer.Option("--pace", help="Play a file by the clock, as a camera would.")] = False,
    read: Annotated[
        Pairs,
        typer.Option(metavar="NAME=VALUE", help="A setting of FFmpeg's reader; repeatable.", show_default=False),
    ] = [],  # noqa: B006  # typer copies it; it wants a list here
    codec: Annotated[str, typer.Option(help="FFmpeg's name of the encoder.")] = "libx264",
    encode: Annotated[
        Pairs, typer.Option(metavar="NAME=VALUE", help="A setting of the encoder; repeatable.", show_default=False)
    ] = [],  # noqa: B006
    give_up_s: Annotated[
        float | None,
        typer.Option(min=0, help="End when a lost source is not back after so long; never.", show_default=False),
    ] = None,
    slots: Annotated[int | None, typer.Option(min=1, help="Tiles in flight.", show_default=False)] = None,
    threads: Threads = None,
    device: Device = "cpu",
    settings: Settings = [],  # noqa: B006
    as_json: Json = False,
) -> None:
    """Upscale a camera, a stream or a video, live."""
    controls = read_settings(settings)
    if stats_json is not None:
        require_output_file(stats_json)
    if fallback is None and max_latency_ms is not None:
        raise UsageError("--max-latency-ms is what a fallback is to hold; add --fallback bicubic or a bundle")
    if sink == "-" and as_json:
        raise UsageError("standard output takes the frames, not --json too; write the figures with --stats-json FILE")
    from sr_edge.camera import (
        HungStage,
        Loop,
        LoopOptions,
        Policy,
        RawFormat,
        Region,
        SinkOptions,
        SourceOptions,
        enlarger_for,
        open_sink,
    )
    from sr_edge.camera.av_source import frame_rate
    from sr_edge.camera.policy import policy_for
    from sr_edge.cli.output import result_on_stdout
    from sr_edge.cli.stream_display import Display, summary

    display = Display(stats_json)
    chosen = Policy.parse(policy) if policy is not None else None
    region = Region.parse(roi) if roi is not None else None
    reading = SourceOptions(
        raw=RawFormat.parse(raw) if raw is not None else None,
        rate=frame_rate(rate),
        is_paced=pace,
        ffmpeg=read_pairs(read),
        give_up_s=give_up_s,
        say=display.say,
    )
    writing = SinkOptions(codec, read_pairs(encode), display.say)
    with _true_stdout() as stdout, result_on_stdout(as_json) as show, ExitStack() as owned:
        engines = _Engines(owned, runtime, precision, device, threads, slots)
        session = engines.open(model)
        cheaper = None if fallback in (None, "bicubic") else engines.open(Path(str(fallback)))
        opened = opened_source(source, reading)
        owned.callback(opened.close)
        chosen = chosen or policy_for(opened.is_live)
        enlarger = enlarger_for(session, chosen, controls)
        options = LoopOptions(
            policy=chosen,
            region=region,
            every=every,
            fallback=_fallback(fallback, cheaper, enlarger.scale, chosen),
            max_latency_ms=USUAL_LATENCY_MS if fallback and max_latency_ms is None else max_latency_ms,
            say=display.say,
        )
        loop = Loop(opened, enlarger, options)

        def finished(report: StreamReport) -> None:
            if sink == "-":
                sys.stderr.write(summary(report) + "\n")
            else:
                show({"session": session.spec, "policy": str(chosen), "stream": report}, summary(report))

        try:
            _run(loop, open_sink(sink, opened, writing, stdout), display, finished)
        except HungStage as error:
            _leave(error)


def _run(loop: Loop, sink: Sink, display: Display, finished: Callable[[StreamReport], None]) -> None:
    """However the stream ends, what it did is shown and written."""
    try:
        loop.run(sink, display.tick)
    finally:
        report = loop.report()
        display.end()
        finished(report)
        display.write_file(report)


@dataclass(frozen=True)
class _Engines:
    """How bundles are opened, the model's and the fallback's alike."""

    owned: ExitStack
    runtime: str | None
    precision: Precision
    device: str
    threads: int | None
    slots: int | None

    def open(self, bundle: Path) -> Session:
        from sr_edge.runtimes import open_session, preferred_runtime

        name = self.runtime or preferred_runtime()
        session = self.owned.enter_context(
            open_session(bundle, name, self.precision, self.device, threads=self.threads, slots=self.slots)
        )
        session.measure(runs=1, warm_up=0)  # the first tile of all is slow in most runtimes
        return session


def opened_source(text: str, options: SourceOptions) -> Source:
    """Opens a camera's source, GStreamer pipelines too; Ctrl-C is heard meanwhile."""
    return _interruptible(lambda: _opened_source(text, options))


def _opened_source(text: str, options: SourceOptions) -> Source:
    from sr_edge.camera import open_source

    if options.ffmpeg or not text.startswith("gst:"):
        return open_source(text, options)
    try:
        from sr_edge.gstreamer.source import open_gst_source
    except (ImportError, ValueError) as error:
        raise RuntimeUnavailable(
            "a GStreamer pipeline needs the system's Python with PyGObject and GStreamer's bindings, this one has "
            f"none ({error}); docs/camera.md says how, or give another source"
        ) from error
    return open_gst_source(
        text.removeprefix("gst:"), silence_s=options.silence_s, give_up_s=options.give_up_s, say=options.say
    )


def _fallback(name: str | None, session: Session | None, scale: int, policy: Policy) -> Enlarger | None:
    from sr_edge.camera import BicubicEnlarger, enlarger_for

    if name is None:
        return None
    return BicubicEnlarger(scale) if session is None else enlarger_for(session, policy)


def _interruptible(call: Callable[[], Source]) -> Source:
    """Makes a call in another thread: a connection that waits for an answer in C code would not hear Ctrl-C."""
    results: list[Source] = []
    errors: list[BaseException] = []
    done = threading.Event()

    def run() -> None:
        try:
            results.append(call())
        except BaseException as error:
            errors.append(error)
        finally:
            done.set()

    threading.Thread(target=run, name="sr-edge-opening", daemon=True).start()
    done.wait()
    if errors:
        raise errors[0]
    return results[0]


@contextmanager
def _true_stdout() -> Iterator[int]:
    """A descriptor of standard output that stays it while everything else that is printed goes to stderr."""
    kept = os.dup(1)
    try:
        yield kept
    finally:
        os.close(kept)


def _leave(error: HungStage) -> None:
    """Ends the process at once: a thread that hangs in a library would keep it for good."""
    sys.stdout.flush()
    sys.stderr.write(f"sr-edge: {error}\n")
    sys.stderr.flush()
    os._exit(error.exit_code)


def read_pairs(texts: Pairs) -> dict[str, str]:
    """Settings by name; raises UsageError where a text is not NAME=VALUE."""
    pairs = {}
    for text in texts:
        name, found, value = text.partition("=")
        if not found or not name:
            raise UsageError(f"cannot read {text!r} as a setting; write NAME=VALUE, for example framerate=30")
        pairs[name.strip()] = value
    return pairs
