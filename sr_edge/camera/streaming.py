"""The whole camera pipeline in one call, for programs: as an iteration, a callback, or with asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Generator
from contextlib import ExitStack, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import TracebackType

from sr_edge.bundle import Bundle
from sr_edge.camera.enlarger import BicubicFrameUpscaler, FrameUpscaler, frame_upscaler_for
from sr_edge.camera.events import EventLog, ignore_event
from sr_edge.camera.frame import VideoFrame
from sr_edge.camera.loop import Loop
from sr_edge.camera.options import DEFAULT_MAX_LATENCY_MS, LoopOptions, Region
from sr_edge.camera.policy import Policy, policy_for
from sr_edge.camera.ports import Sink, Source
from sr_edge.camera.simple_sinks import CallbackSink
from sr_edge.camera.sources_open import SourceOptions, open_source
from sr_edge.camera.statistics import StreamReport
from sr_edge.camera.watch import StageTimeout
from sr_edge.controls import Controls
from sr_edge.runtimes import open_frame_session, preferred_runtime
from sr_edge.spec import Precision

Model = Bundle | Path | str | FrameUpscaler
"""A bundle, its path, or an enlarger that several streams may share."""


class Stream:
    """Enlarged frames of one source. Iterate over it, with `for` or `async for`, or hand it a sink; once.

    It ends with its source, when it is closed, and when the iteration is left.
    """

    def __init__(self, loop: Loop, owned: ExitStack) -> None:
        """Args:
        owned: what is closed with the stream.
        """
        self._loop = loop
        self._owned = owned

    @property
    def options(self) -> LoopOptions:
        """How the stream is run, with what was chosen for arguments that were left out."""
        return self._loop.options

    def report(self) -> StreamReport:
        """Frames, drops, latencies and times so far; also after the end."""
        return self._loop.report()

    def into(self, sink: Sink | Callable[[VideoFrame], object]) -> StreamReport:
        """Writes all frames to a sink, or calls a function with each, until the stream ends; closes the sink.

        Raises:
            StreamError: the source is lost, the sink failed, a stage hangs, or many frames in a row failed.
        """
        with self:
            return self._loop.run(CallbackSink(sink) if callable(sink) else sink)

    def stop(self) -> None:
        """Ends the stream as if its source had ended; what is under way still comes. From any thread."""
        self._loop.stop()

    def close(self) -> None:
        """Ends the stream and frees what it opened; any number of times."""
        self._loop.stop()
        self._owned.close()

    def __iter__(self) -> Generator[VideoFrame, None, None]:
        with self:
            yield from self._loop.frames()

    async def __aiter__(self) -> AsyncIterator[VideoFrame]:
        frames = iter(self)
        waiting: asyncio.Future[VideoFrame | None] | None = None
        try:
            while True:
                waiting = asyncio.ensure_future(asyncio.to_thread(next, frames, None))
                frame = await asyncio.shield(waiting)
                if frame is None:
                    return
                yield frame
        finally:
            self.stop()
            if waiting is not None and not waiting.done():  # cancelled: its thread is still in `next`
                with suppress(Exception):
                    await waiting
            await asyncio.to_thread(frames.close)

    def __enter__(self) -> Stream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is StageTimeout:  # its session would wait for it for good
            self.stop()
            self._owned.pop_all()
            return
        self.close()


def stream(
    source: Source | Path | str,
    model: Model,
    *,
    policy: Policy | str | None = None,
    runtime: str | None = None,
    precision: Precision = Precision.FP32,
    float_precision: Precision = Precision.FP32,
    device: str = "cpu",
    roi: Region | str | None = None,
    every: int = 1,
    fallback: Model | None = None,
    max_latency_ms: float | None = None,
    controls: Controls | None = None,
    source_options: SourceOptions | None = None,
    on_event: Callable[[str], None] = ignore_event,
) -> Stream:
    """Opens a source and a model, and joins them; frames flow once the stream is iterated.

        for frame in sr_edge.camera.stream("rtsp://camera/main", "tiny-x2.sredge", policy="latest"):
            show(rgb_from_frame(frame))

    Args:
        source: see `sr_edge.camera.SOURCES`, or an open source, which is closed at the end.
        model: a bundle or its path, opened for this stream alone; or an enlarger over a session of yours, which
            several streams may share: each then gets its turns.
        policy: "latest", "block" or "drop-late MS"; None takes latest for live sources, block for others.
        runtime, precision, float_precision, device, controls: of a bundle, as `open_frame_session` takes them; no
            runtime means openvino, onnxruntime or torch, what works.
        roi: the part "x,y,width,height" that is enlarged.
        every: every n-th frame goes through the model, those between are bicubic.
        fallback: "bicubic" or a model of the same scale, used while the model cannot hold `max_latency_ms`,
            100 where left out.
        on_event: is told of losses, returns and fallbacks, from the stream's threads.

    Raises:
        UsageError: an argument does not fit.
        StreamError, FrameError: the source cannot be opened.
        BundleError, RuntimeUnavailable, EngineError: as `open_session`; RuntimeUnavailable, too, for a GStreamer
            pipeline where its bindings are absent.
    """
    event_log = EventLog(on_event)
    with ExitStack() as owned:
        load = partial(
            _loaded, owned=owned, runtime=runtime, precision=precision, float_precision=float_precision, device=device
        )
        model_for = load(model, controls=controls)
        spare_for = None if fallback is None or fallback == "bicubic" else load(fallback, controls=None)
        # The source comes last: what a camera sends while a model is loaded would be old when it is read.
        if isinstance(source, (str, Path)):
            source = open_source(str(source), replace(source_options or SourceOptions(), on_event=event_log.record))
        owned.callback(source.close)
        chosen = Policy.parse(policy) if isinstance(policy, str) else policy or policy_for(source.is_live)
        upscaler = model_for(chosen)
        cheaper = spare_for(chosen) if spare_for else BicubicFrameUpscaler(upscaler.scale) if fallback else None
        options = LoopOptions(
            policy=chosen,
            region=Region.parse(roi) if isinstance(roi, str) else roi,
            every=every,
            fallback=cheaper,
            max_latency_ms=DEFAULT_MAX_LATENCY_MS if fallback and max_latency_ms is None else max_latency_ms,
            event_log=event_log,
        )
        return Stream(Loop(source, upscaler, options), owned.pop_all())


def _loaded(
    model: Model,
    *,
    owned: ExitStack,
    runtime: str | None,
    precision: Precision,
    float_precision: Precision,
    device: str,
    controls: Controls | None,
) -> Callable[[Policy], FrameUpscaler]:
    """What gives the enlarger once the policy is known, for which the source must be open."""
    if not isinstance(model, (Bundle, Path, str)):
        return lambda policy: model
    session = owned.enter_context(
        open_frame_session(model, runtime or preferred_runtime(), precision, device, float_precision=float_precision)
    )
    session.measure(runs=1, warm_up=0)  # the first tile of all is slow in most runtimes
    return lambda policy: frame_upscaler_for(session, policy, controls)
