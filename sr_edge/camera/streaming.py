"""The whole pipeline in one call, for programs: with `for`, with `async for`, or with a callback."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Generator
from contextlib import ExitStack, suppress
from dataclasses import astuple, replace
from functools import partial
from pathlib import Path
from types import TracebackType

from sr_edge.bundle import Bundle
from sr_edge.camera.flow.drop_policy import Policy, policy_for
from sr_edge.camera.flow.events import EventLog, ignore_event
from sr_edge.camera.media.frame import VideoFrame
from sr_edge.camera.pipeline.frame_upscaler import BicubicFrameUpscaler, FrameUpscaler, frame_upscaler_for
from sr_edge.camera.pipeline.loop import Loop
from sr_edge.camera.pipeline.options import DEFAULT_MAX_LATENCY_MS, LoopOptions
from sr_edge.camera.pipeline.statistics import StreamReport
from sr_edge.camera.pipeline.watchdog import StageTimeout
from sr_edge.camera.protocols import Sink, Source
from sr_edge.camera.sinks.simple import CallbackSink
from sr_edge.camera.sources.open import SourceOptions, open_source, require_source
from sr_edge.controls import Controls
from sr_edge.frames import Region
from sr_edge.model_sources import EngineChoice, choose_engine, open_engine, open_model, tile_reporter
from sr_edge.runtimes.session import Session
from sr_edge.spec import FrameFormat
from sr_edge.upscaler.reuse_options import EXACT, ReuseOptions

Model = Bundle | Path | str | FrameUpscaler
"""A bundle, its path, or an upscaler that several streams may share."""


class Stream:
    """The upscaled frames of one source. Iterate over it with `for` or `async for`, or pass a sink to `into`.

    A stream can be consumed only once. It ends with its source, when it is closed, and when the iteration is left.
    """

    def __init__(self, loop: Loop, resources: ExitStack) -> None:
        """Wraps a loop that has not started.

        Args:
            loop: the pipeline.
            resources: an exit stack that is closed together with the stream.
        """
        self._loop = loop
        self._resources = resources

    @property
    def options(self) -> LoopOptions:
        """The options of the stream, including the defaults that were chosen."""
        return self._loop.options

    def report(self) -> StreamReport:
        """Returns the statistics up to now. May also be called after the stream has ended."""
        return self._loop.report()

    def into(self, sink: Sink | Callable[[VideoFrame], object]) -> StreamReport:
        """Writes all frames to a sink until the stream ends, and closes the sink.

        Args:
            sink: a sink, or a function that is called with each frame.

        Returns:
            The report at the end of the stream.

        Raises:
            StreamError: the source is lost, the sink failed, a stage hangs, or too many frames in a row failed.
        """
        with self:
            return self._loop.run(CallbackSink(sink) if callable(sink) else sink)

    def stop(self) -> None:
        """Ends the stream as if its source had ended; frames under way are finished. May be called from any thread."""
        self._loop.stop()

    def close(self) -> None:
        """Ends the stream and closes what it opened. May be called any number of times."""
        self._loop.stop()
        self._resources.close()

    def __iter__(self) -> Generator[VideoFrame, None, None]:
        with self:
            yield from self._loop.frames()

    async def __aiter__(self) -> AsyncIterator[VideoFrame]:
        frames = iter(self)
        next_frame: asyncio.Future[VideoFrame | None] | None = None
        try:
            while True:
                next_frame = asyncio.ensure_future(asyncio.to_thread(next, frames, None))
                # Shielded: a task that is cancelled must not abandon the thread, which is inside the generator.
                frame = await asyncio.shield(next_frame)
                if frame is None:
                    return
                yield frame
        finally:
            # After a cancellation the thread is still in `next`. `stop` makes that return, and only then can the
            # generator be closed: closing it while it runs raises ValueError.
            self.stop()
            if next_frame is not None and not next_frame.done():
                with suppress(Exception):
                    await next_frame
            await asyncio.to_thread(frames.close)

    def __enter__(self) -> Stream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is StageTimeout:  # closing the session would wait for the hung stage for ever
            self.stop()
            self._resources.pop_all()
            return
        self.close()


def stream(
    source: Source | Path | str,
    model: Model,
    *,
    policy: Policy | str | None = None,
    engine: EngineChoice | None = None,
    roi: Region | tuple[int, int, int, int] | str | None = None,
    every: int = 1,
    fallback: Model | None = None,
    max_latency_ms: float | None = None,
    controls: Controls | None = None,
    reuse: ReuseOptions | str | float = EXACT,
    source_options: SourceOptions | None = None,
    on_event: Callable[[str], None] = ignore_event,
) -> Stream:
    """Opens a source and a model. The stream starts when it is iterated or given a sink.

        for frame in sr_edge.camera.stream("rtsp://camera/main", "tiny-x2.sredge", policy="latest"):
            show(rgb_from_frame(frame))

    Args:
        source: one of `sr_edge.camera.SOURCES`, or an open source, which is closed at the end.
        model: a bundle, or the path of one or of an ONNX file, which is opened for this stream alone; or an upscaler
            with a session of the caller, which several streams may share fairly.
        policy: "latest", "block" or "drop-late MS"; None means latest for live sources and block for others.
        engine: runtime, precision and device, for example `EngineChoice("openvino", "int8")`; None takes what was
            measured to be the best on this machine, see `open_frame_session`. With `EngineChoice(nv12=True)`, the
            8-bit 4:2:0 frames with the matrix and range of the bundle's NV12 graph run in that graph, which converts
            them itself; why others do not is an event. `fallback` gets all frames as RGB. Ignored if `model` is an
            upscaler.
        roi: the region (x, y, width, height) of each frame that is upscaled, or the same as text: "0,0,320,180".
        every: the model upscales every n-th frame, bicubic interpolation the others.
        fallback: "bicubic" or a model of the same scale, used while the model exceeds `max_latency_ms`.
        max_latency_ms: the latency limit for the fallback; None means 100.
        controls: settings of the network, as for `Upscaler`.
        reuse: "exact" does not compute tiles again that did not change since the last frame; the output is the same to
            the bit. "off" computes all tiles. `ReuseOptions` also sets the memory. Ignored if `model` is an upscaler.
        source_options: options for a source that is opened here; their `on_event` is replaced.
        on_event: called with lost and restored connections, failed frames and fallbacks, from the stream's threads;
            also with the tiles that the frames are cut into, where the model has tiles of several sizes, and with what
            `deploy --frame` would gain, where none fits. The report has these events, too.

    Raises:
        UsageError: an argument is wrong.
        PrecisionUnavailable: the bundle has no NV12 graph that can run here.
        StreamError: the source cannot be opened.
        FrameError: the folder of images cannot be read.
        BundleError: see `open_session`.
        ExportError: see `open_session`.
        EngineError: see `open_session`.
        RuntimeUnavailable: see `open_session`; also for a GStreamer pipeline without GStreamer's bindings.
    """
    event_log = EventLog(on_event)
    opening = replace(source_options or SourceOptions(), on_event=event_log.record)
    if isinstance(source, (str, Path)):
        require_source(str(source), opening)  # before a model is loaded, which takes long
    with ExitStack() as resources:
        choice, parsed_reuse = EngineChoice.read(*astuple(engine or EngineChoice())), ReuseOptions.parse(reuse)
        load = partial(_open_model, resources=resources, reuse=parsed_reuse, on_event=event_log.record)
        upscaler_for = load(model, choice=choice, controls=controls, on_tiles=event_log.record)
        fallback_for = (
            None
            if fallback is None or fallback == "bicubic"
            else load(fallback, choice=replace(choice, nv12=False), controls=None)
        )
        # The source is opened last: frames that a camera sends while a model is loaded would be old when they are read.
        if isinstance(source, (str, Path)):
            source = open_source(str(source), opening)
        resources.callback(source.close)
        drop_policy = Policy.parse(policy) if isinstance(policy, str) else policy or policy_for(source.is_live)
        upscaler = upscaler_for(drop_policy)
        fallback_upscaler = (
            fallback_for(drop_policy) if fallback_for else BicubicFrameUpscaler(upscaler.scale) if fallback else None
        )
        options = LoopOptions(
            policy=drop_policy,
            region=None if roi is None else Region.of(roi),
            every=every,
            fallback=fallback_upscaler,
            max_latency_ms=DEFAULT_MAX_LATENCY_MS if fallback and max_latency_ms is None else max_latency_ms,
            event_log=event_log,
        )
        return Stream(Loop(source, upscaler, options), resources.pop_all())


def _open_model(
    model: Model,
    *,
    resources: ExitStack,
    choice: EngineChoice,
    controls: Controls | None,
    reuse: ReuseOptions,
    on_event: Callable[[str], None],
    on_tiles: Callable[[str], None] = ignore_event,
) -> Callable[[Policy], FrameUpscaler]:
    """Opens a model, and returns a function that creates its upscaler for a drop policy.

    The default policy depends on the source, which is opened after the model.
    """
    if not isinstance(model, (Bundle, Path, str)):
        return lambda policy: model
    bundle = model if isinstance(model, Bundle) else resources.enter_context(open_model(model))
    engine = choose_engine(bundle, choice)

    def warm(io: FrameFormat | None = None) -> Session:
        session = resources.enter_context(open_engine(bundle, engine, io=io))
        session.measure(runs=1, warm_up=0)  # in most runtimes the first tile is slow
        return session

    session, nv12_session = warm(), warm(FrameFormat.NV12) if choice.nv12 else None
    return lambda policy: frame_upscaler_for(
        session, policy, controls, reuse, tile_reporter(bundle, on_tiles), nv12_session=nv12_session, on_event=on_event
    )
