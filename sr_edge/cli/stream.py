"""`sr-edge stream`: a camera, stream or file through a bundle, live."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from sr_edge.cli.options import Device, FloatPrecisionOption, Json, OnePrecision, Settings, Threads, read_settings
from sr_edge.cli.stream_options import (
    Codec,
    Encode,
    Every,
    Fallback,
    GiveUpS,
    MaxLatencyMs,
    Model,
    Pace,
    PolicyWords,
    Rate,
    Raw,
    Read,
    Roi,
    Runtime,
    Slots,
    StatsJson,
    StreamSink,
    StreamSource,
    read_pairs,
)
from sr_edge.cli.stream_source import opened_source
from sr_edge.errors import UsageError
from sr_edge.spec import Precision
from sr_edge.whole_file import require_output_file

if TYPE_CHECKING:
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
    from sr_edge.cli.stream_display import Display
    from sr_edge.runtimes import Session, SessionSpec


def stream(
    model: Model,
    source: StreamSource,
    sink: StreamSink = "null",
    runtime: Runtime = None,
    precision: OnePrecision = Precision.FP32,
    float_precision: FloatPrecisionOption = Precision.FP32,
    policy: PolicyWords = None,
    roi: Roi = None,
    every: Every = 1,
    fallback: Fallback = None,
    max_latency_ms: MaxLatencyMs = None,
    stats_json: StatsJson = None,
    raw: Raw = None,
    rate: Rate = None,
    pace: Pace = False,
    read: Read = [],  # noqa: B006  # typer copies it; it wants a list here
    codec: Codec = "libx264",
    encode: Encode = [],  # noqa: B006
    give_up_s: GiveUpS = None,
    slots: Slots = None,
    threads: Threads = None,
    device: Device = "cpu",
    settings: Settings = [],  # noqa: B006
    as_json: Json = False,
) -> None:
    """Upscale a camera, a stream or a video, live."""
    controls = read_settings(settings)
    _require_sense(sink, fallback, max_latency_ms, as_json)
    if stats_json is not None:
        require_output_file(stats_json)
        _require_own_file(stats_json, {"source": source, "sink": sink, "model": model, "fallback": fallback})
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
    )
    from sr_edge.camera.av_source import frame_rate
    from sr_edge.camera.policy import policy_for
    from sr_edge.camera.wrappers import CheckedSource
    from sr_edge.cli.output import result_on_stdout
    from sr_edge.cli.stream_display import Display

    wanted = Policy.parse(policy) if policy is not None else None
    flow = _Flow(Region.parse(roi) if roi is not None else None, every, fallback, max_latency_ms)
    display = Display(stats_json)
    event_log = EventLog(display.show_event)
    reading = SourceOptions(
        raw=RawFormat.parse(raw) if raw is not None else None,
        rate=frame_rate(rate) if rate is not None else None,
        is_paced=pace,
        ffmpeg=read_pairs(read),
        give_up_s=give_up_s,
        on_event=event_log.record,
    )
    writing = SinkOptions(codec, read_pairs(encode), give_up_s, on_event=event_log.record)
    with _true_stdout() as stdout, result_on_stdout(as_json) as show, ExitStack() as owned:
        engines = _Engines(owned, runtime, precision, float_precision, device, threads, slots)
        session, cheaper = engines.open(model), flow.fallback_session(engines)
        opened = opened_source(source, reading)
        owned.callback(opened.close)
        chosen = wanted or policy_for(opened.is_live)
        upscaler = frame_upscaler_for(session, chosen, controls)
        fits = partial(flow.require_holdable, sink, writing, upscaler.scale)
        loop = Loop(CheckedSource(opened, fits), upscaler, flow.options(chosen, cheaper, upscaler.scale, event_log))
        finished = partial(_show_end, None if sink == "-" else show, session.spec, chosen)
        try:
            _run(loop, open_sink(sink, opened, writing, stdout), display, finished)
        except StageTimeout as error:
            _leave(error)


def _require_sense(sink: str, fallback: str | None, max_latency_ms: float | None, as_json: bool) -> None:
    if fallback is None and max_latency_ms is not None:
        raise UsageError(
            "--max-latency-ms is the latency limit above which a fallback takes over, and no fallback was given",
            found=max_latency_ms,
            remedy="add --fallback bicubic or --fallback BUNDLE",
        )
    if sink == "-" and as_json:
        raise UsageError(
            "the sink - and --json cannot both write to standard output",
            found=("-", "--json"),
            wanted="one of them",
            remedy="write the figures with --stats-json FILE",
        )


def _require_own_file(stats_json: Path, others: Mapping[str, str | Path | None]) -> None:
    for what, other in others.items():
        if other is not None and stats_json.resolve() == Path(other).resolve():
            raise UsageError(
                f"--stats-json {stats_json} would overwrite the {what}",
                found=stats_json,
                remedy="give another name for the figures",
            )


@dataclass(frozen=True)
class _Flow:
    """Which frames go which way, as asked for."""

    region: Region | None
    every: int
    fallback: str | None
    max_latency_ms: float | None

    def fallback_session(self, engines: _Engines) -> Session | None:
        return None if self.fallback in (None, "bicubic") else engines.open(Path(str(self.fallback)))

    def options(self, policy: Policy, cheaper: Session | None, scale: int, event_log: EventLog) -> LoopOptions:
        from sr_edge.camera import LoopOptions
        from sr_edge.camera.options import DEFAULT_MAX_LATENCY_MS

        usual_ms = DEFAULT_MAX_LATENCY_MS if self.fallback else None
        return LoopOptions(
            policy=policy,
            region=self.region,
            every=self.every,
            fallback=self._frame_upscaler(policy, cheaper, scale),
            max_latency_ms=usual_ms if self.max_latency_ms is None else self.max_latency_ms,
            event_log=event_log,
        )

    def require_holdable(self, sink: str, writing: SinkOptions, scale: int, frame: VideoFrame) -> None:
        """Raises StreamError where the sink cannot hold what becomes of the frame."""
        from sr_edge.camera.sinks_open import require_encodable

        part = self.region or frame
        require_encodable(sink, writing, frame.format, scale * part.width, scale * part.height)

    def _frame_upscaler(self, policy: Policy, cheaper: Session | None, scale: int) -> FrameUpscaler | None:
        from sr_edge.camera import BicubicFrameUpscaler, frame_upscaler_for

        if self.fallback is None:
            return None
        return BicubicFrameUpscaler(scale) if cheaper is None else frame_upscaler_for(cheaper, policy)


@dataclass(frozen=True)
class _Engines:
    """How bundles are opened, the model's and the fallback's alike."""

    owned: ExitStack
    runtime: str | None
    precision: Precision
    float_precision: Precision
    device: str
    threads: int | None
    slots: int | None

    def open(self, bundle: Path) -> Session:
        from sr_edge.runtimes import open_frame_session, preferred_runtime

        name = self.runtime or preferred_runtime()
        session = self.owned.enter_context(
            open_frame_session(
                bundle,
                name,
                self.precision,
                self.device,
                float_precision=self.float_precision,
                threads=self.threads,
                slots=self.slots,
            )
        )
        session.measure(runs=1, warm_up=0)  # the first tile of all is slow in most runtimes
        return session


def _run(loop: Loop, sink: Sink, display: Display, finished: Callable[[StreamReport], None]) -> None:
    """However the stream ends, what it did is written and shown; of one that did nothing the error alone is shown."""
    failed = False
    try:
        loop.run(sink, display.tick)
    except Exception:
        failed = True
        raise
    finally:
        report = loop.report()
        display.end()
        if report.frames_out or not failed:
            finished(report)
        display.write_file(report)


def _show_end(show: ShowResult | None, spec: SessionSpec, policy: Policy, report: StreamReport) -> None:
    from sr_edge.cli.stream_display import summary

    if show is None:
        sys.stderr.write(summary(report) + "\n")
    else:
        show({"session": spec, "policy": str(policy), "stream": report}, summary(report))


@contextmanager
def _true_stdout() -> Iterator[int]:
    """A descriptor of standard output that stays it while everything else that is printed goes to stderr."""
    kept = os.dup(1)
    try:
        yield kept
    finally:
        os.close(kept)


def _leave(error: StageTimeout) -> None:
    """Ends the process at once: a thread that hangs in a library would keep it for good."""
    sys.stdout.flush()
    sys.stderr.write(f"sr-edge: {error}\n")
    sys.stderr.flush()
    os._exit(error.exit_code)
