"""`sr-edge stream`: upscales a camera, stream or file live with a bundle."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

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
from sr_edge.cli.options import (
    DeviceOption,
    JsonOption,
    SettingsOption,
    ThreadsOption,
    read_settings,
)
from sr_edge.cli.run.stream_options import (
    CodecOption,
    DecoderOption,
    DeinterlaceOption,
    DurationOption,
    EncodeOption,
    EveryOption,
    FallbackOption,
    GiveUpOption,
    MaxLatencyMsOption,
    Nv12Option,
    OpenTimeoutOption,
    PaceOption,
    PixelFormatOption,
    PolicyOption,
    RateOption,
    RawOption,
    ReadOption,
    ReuseMemoryOption,
    ReuseOption,
    ReuseRefreshOption,
    RoiOption,
    SinkArgument,
    SlotsOption,
    SourceArgument,
    StatsJsonOption,
    TimecodeOption,
    VerboseOption,
    parse_pixel_format,
    read_pairs,
    read_reuse,
)
from sr_edge.cli.terminal import print_line, print_text
from sr_edge.errors import UsageError
from sr_edge.files.whole_file import require_output_file
from sr_edge.printable import without_secrets
from sr_edge.spec import FrameFormat

if TYPE_CHECKING:
    from sr_edge.bundle import Bundle
    from sr_edge.camera import (
        EventLog,
        FrameUpscaler,
        Loop,
        LoopOptions,
        Policy,
        Region,
        Sink,
        SinkOptions,
        StageTimeout,
        StreamReport,
        VideoFrame,
    )
    from sr_edge.cli.output import ShowResult
    from sr_edge.cli.run.stream_display import Display, StreamTitle
    from sr_edge.model_sources import EngineChoice
    from sr_edge.model_sources.engine_choice import ChosenEngine
    from sr_edge.runtimes import Session
    from sr_edge.upscaler.reuse_options import ReuseOptions


def stream(
    model: RunnableArgument,
    source: SourceArgument,
    sink: SinkArgument = "null",
    runtime: RunRuntimeOption = AUTO,
    precision: RunPrecisionOption = AUTO,
    float_precision: RunFloatPrecisionOption = None,
    policy: PolicyOption = None,
    roi: RoiOption = None,
    every: EveryOption = 1,
    fallback: FallbackOption = None,
    max_latency_ms: MaxLatencyMsOption = None,
    nv12: Nv12Option = False,
    reuse: ReuseOption = "exact",
    reuse_memory: ReuseMemoryOption = None,
    reuse_refresh_s: ReuseRefreshOption = None,
    duration: DurationOption = None,
    verbose: VerboseOption = False,
    stats_json: StatsJsonOption = None,
    raw: RawOption = None,
    rate: RateOption = None,
    pace: PaceOption = False,
    deinterlace: DeinterlaceOption = False,
    read: ReadOption = [],  # noqa: B006  # typer copies it; it wants a list here
    codec: CodecOption = None,
    encode: EncodeOption = [],  # noqa: B006
    decoder: DecoderOption = None,
    timecode: TimecodeOption = False,
    pixel_format: PixelFormatOption = "",
    open_timeout_s: OpenTimeoutOption = 10.0,
    give_up_s: GiveUpOption = None,
    slots: SlotsOption = None,
    threads: ThreadsOption = None,
    device: DeviceOption = None,
    settings: SettingsOption = [],  # noqa: B006
    tile: OnnxTileOption = None,
    input_range: OnnxInputRangeOption = AUTO,
    channel_order: ChannelOrderOption = "rgb",
    as_json: JsonOption = False,
) -> None:
    """Upscale a camera, a stream or a video live."""
    controls, reused = read_settings(settings), read_reuse(reuse, reuse_memory, reuse_refresh_s)
    _require_consistent_options(sink, fallback, max_latency_ms, as_json)
    _require_encoded(sink, {"--codec": codec, "--encode": encode, "--pixel-format": pixel_format})
    if stats_json is not None:
        require_output_file(stats_json)
    from sr_edge.camera import (
        EventLog,
        Loop,
        Policy,
        RawFormat,
        Region,
        SinkOptions,
        SourceOptions,
        StageTimeout,
        frame_upscaler_for,
        open_sink,
        open_source,
    )
    from sr_edge.camera.flow.drop_policy import policy_for
    from sr_edge.camera.sinks.open import require_sink
    from sr_edge.camera.sources.ffmpeg import frame_rate
    from sr_edge.camera.sources.open import require_source
    from sr_edge.camera.sources.wrappers import CheckedSource
    from sr_edge.cli.output import result_on_stdout, stage_on_stderr
    from sr_edge.cli.run.stream_display import Display, StreamTitle
    from sr_edge.model_sources import EngineChoice, tile_reporter

    requested_policy = Policy.parse(policy) if policy is not None else None
    routing = _Routing(Region.parse(roi) if roi is not None else None, every, fallback, max_latency_ms, reused)
    display = Display(stats_json, verbose)
    event_log = EventLog(display.show_event)
    source_options = SourceOptions(
        raw=RawFormat.parse(raw) if raw is not None else None,
        rate=frame_rate(rate) if rate is not None else None,
        is_paced=pace,
        ffmpeg=read_pairs(read),
        open_timeout_s=open_timeout_s,
        give_up_s=give_up_s,
        is_deinterlaced=deinterlace,
        on_event=event_log.record,
        decoder=decoder,
    )
    sink_options = SinkOptions(
        codec or SinkOptions.codec,
        read_pairs(encode),
        parse_pixel_format(pixel_format),
        give_up_s,
        on_event=event_log.record,
        has_timecode=timecode,
    )
    require_source(source, source_options)
    require_sink(sink, sink_options)
    with _duplicated_stdout() as stdout, result_on_stdout(as_json) as show, ExitStack() as resources:
        loading = resources.enter_context(ExitStack())
        loading.enter_context(stage_on_stderr(f"loading {model.name}"))
        engines = _Engines(resources, EngineChoice.read(runtime, precision, float_precision, device, threads, slots))
        bundle, session, nv12_session = engines.open_model(model, tile, input_range, channel_order, nv12)
        fallback_session = routing.fallback_session(engines)
        loading.close()
        loading.enter_context(stage_on_stderr(f"opening {without_secrets(source)}"))
        opened = interruptible(lambda: open_source(source, source_options))
        loading.close()
        resources.callback(opened.close)
        used_policy = requested_policy or policy_for(opened.is_live)
        upscaler = frame_upscaler_for(
            session,
            used_policy,
            controls,
            reused,
            tile_reporter(bundle, display.show_event),
            nv12_session=nv12_session,
            on_event=event_log.record,
        )
        title = StreamTitle(session.spec, used_policy)
        check_frame = partial(routing.check_frame, sink, sink_options, title, display)
        options = routing.options(used_policy, fallback_session, upscaler.scale, event_log)
        loop = Loop(CheckedSource(opened, check_frame), upscaler, options)
        show_end = partial(_show_end, None if sink == "-" else show, title, display)
        try:
            _run(loop, open_sink(sink, opened, sink_options, stdout), display, show_end, duration)
        except StageTimeout as error:
            _leave(error)


def _require_consistent_options(sink: str, fallback: str | None, max_latency_ms: float | None, as_json: bool) -> None:
    if fallback is None and max_latency_ms is not None:
        raise UsageError(
            "--max-latency-ms is the latency limit above which a fallback takes over, and no fallback was given",
            found=max_latency_ms,
            remedy="add --fallback bicubic or --fallback MODEL",
        )
    if sink == "-" and as_json:
        raise UsageError(
            "the sink - and --json cannot both write to standard output",
            found=("-", "--json"),
            wanted="one of them",
            remedy="write the statistics with --stats-json FILE",
        )


def _require_encoded(sink: str, options: Mapping[str, object]) -> None:
    """Raises UsageError for an option of the encoder if the sink has none."""
    given = [name for name, value in options.items() if value]
    if given and sink in ("null", "null:", "-"):
        raise UsageError(
            f"{', '.join(given)} has no effect on the sink {sink}, which has no encoder",
            found=sink,
            wanted="a video file or an address",
            remedy="leave it out, or name a file or an address as the sink",
        )


@dataclass(frozen=True)
class _Routing:
    """The options that decide how each frame is upscaled."""

    region: Region | None
    every: int
    fallback: str | None
    max_latency_ms: float | None
    reuse: ReuseOptions

    def fallback_session(self, engines: _Engines) -> Session | None:
        return None if self.fallback in (None, "bicubic") else engines.open_model(Path(str(self.fallback)))[1]

    def options(self, policy: Policy, fallback_session: Session | None, scale: int, event_log: EventLog) -> LoopOptions:
        from sr_edge.camera import LoopOptions
        from sr_edge.camera.pipeline.options import DEFAULT_MAX_LATENCY_MS

        usual_ms = DEFAULT_MAX_LATENCY_MS if self.fallback else None
        return LoopOptions(
            policy=policy,
            region=self.region,
            every=self.every,
            fallback=self._fallback_upscaler(policy, fallback_session, scale),
            max_latency_ms=usual_ms if self.max_latency_ms is None else self.max_latency_ms,
            event_log=event_log,
        )

    def check_frame(
        self, sink: str, sink_options: SinkOptions, title: StreamTitle, display: Display, frame: VideoFrame
    ) -> None:
        """Shows what runs; raises StreamError if the sink does not support the size or format of the upscaled frame."""
        from sr_edge.camera.sinks.open import require_encodable

        area, scale = self.region or frame, title.session.scale
        width, height = scale * area.width, scale * area.height
        require_encodable(sink, sink_options, frame.format, width, height, frame.colour)
        display.show_start(title, (area.width, area.height), (width, height))

    def _fallback_upscaler(self, policy: Policy, session: Session | None, scale: int) -> FrameUpscaler | None:
        from sr_edge.camera import BicubicFrameUpscaler, frame_upscaler_for

        if self.fallback is None:
            return None
        return BicubicFrameUpscaler(scale) if session is None else frame_upscaler_for(session, policy, reuse=self.reuse)


@dataclass(frozen=True)
class _Engines:
    """Opens the bundles of model and fallback with the same options."""

    resources: ExitStack
    choice: EngineChoice

    def open_model(
        self,
        model: Path,
        tile: str | None = None,
        input_range: str = AUTO,
        channel_order: str = "rgb",
        nv12: bool = False,
    ) -> tuple[Bundle, Session, Session | None]:
        """The bundle of a model, its session, and where `nv12` is true that of its NV12 graph."""
        bundle = self.resources.enter_context(opened_model(model, tile, input_range, channel_order))
        engine = chosen_engine(bundle, self.choice)
        session = self._open(bundle, engine)
        return bundle, session, self._open(bundle, engine, FrameFormat.NV12) if nv12 else None

    def _open(self, bundle: Bundle, engine: ChosenEngine, io: FrameFormat | None = None) -> Session:
        from sr_edge.model_sources import open_engine

        session = self.resources.enter_context(open_engine(bundle, engine, io=io))
        session.measure(runs=1, warm_up=0)  # the first tile is slow in most runtimes
        return session


def _run(
    loop: Loop,
    sink: Sink,
    display: Display,
    show_end: Callable[[StreamReport], None],
    duration_s: float | None,
) -> None:
    """Runs the loop and shows its report, also after an error unless the stream produced no frame.

    Ctrl-C and SIGTERM end the stream as the end of its source does.
    """
    failed = False
    with ending_on_signal() as is_end_requested, _stopped_after(duration_s, loop.stop):

        def on_report(report: StreamReport) -> None:
            display.tick(report)
            if is_end_requested():
                loop.stop()

        try:
            loop.run(sink, on_report)
        except Exception:
            failed = True
            raise
        finally:
            report = loop.report()
            display.end()
            if report.frames_out or not failed:
                show_end(report)
            display.write_file(report)


@contextmanager
def _stopped_after(duration_s: float | None, stop: Callable[[], None]) -> Iterator[None]:
    """Calls `stop` if the block takes longer than this; never for None."""
    if duration_s is None:
        yield
        return
    timer = threading.Timer(duration_s, stop)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _show_end(show: ShowResult | None, title: StreamTitle, display: Display, report: StreamReport) -> None:
    from sr_edge.cli.run.stream_display import summary

    if show is None:
        print_text(summary(report, title) + "\n")
    else:
        show({**title.document(), "stream": display.figures(report)}, summary(report, title))


@contextmanager
def _duplicated_stdout() -> Iterator[int]:
    """Yields a copy of the stdout descriptor, which `result_on_stdout` does not redirect to stderr."""
    descriptor = os.dup(1)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _leave(error: StageTimeout) -> None:
    """Exits without joining threads, because a thread that hangs in a library would block the exit forever."""
    sys.stdout.flush()
    print_line(f"sr-edge: {error}")
    os._exit(error.exit_code)
