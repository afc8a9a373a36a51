"""The Python API: iteration, callback, asyncio; several streams on one engine; what is closed when."""

from __future__ import annotations

import asyncio
import gc
import itertools
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast, get_args

import numpy as np
import onnxruntime  # type: ignore[import-untyped]  # ships no types
import pytest

import sr_edge.camera
from sr_edge.bundle import TileTime
from sr_edge.camera import (
    EngineChoice,
    NetworkFrameUpscaler,
    PixelFormat,
    Stream,
    VideoFrame,
    open_sink,
    rgb_from_frame,
    stream,
)
from sr_edge.camera.media.frame import Colour
from sr_edge.camera.pipeline.options import DEFAULT_MAX_LATENCY_MS
from sr_edge.cli.run.stream_options import MaxLatencyMsOption
from sr_edge.errors import BundleError, PrecisionUnavailable, StreamError, UsageError
from sr_edge.export import export_onnx
from sr_edge.models import load_model
from sr_edge.runtimes import Session
from sr_edge.spec import Precision, TileSpec
from sr_edge.upscaler import Upscaler
from tests.camera.clips import flat_frame, number_of, read_clip, write_clip
from tests.camera.fakes import TIMEOUT_S, ListSource, RepeatingFrameUpscaler
from tests.expected_errors import raises

COUNT = 6


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", range(0, 3000 * COUNT, 3000))


def numbered(count: int) -> list[VideoFrame]:
    return [flat_frame(number, pts=number) for number in range(count)]


def test_the_simple_case(clip: Path, bundle: Path) -> None:
    frames = list(stream(clip, bundle, engine=EngineChoice("onnxruntime")))
    assert [frame.sequence for frame in frames] == list(range(COUNT))
    assert [number_of(frame) for frame in frames] == list(range(COUNT))
    assert {(frame.width, frame.height, frame.format) for frame in frames} == {(128, 96, PixelFormat.I420)}


def test_a_frame_is_what_the_upscaler_makes_of_its_pixels(clip: Path, session: Session) -> None:
    for source, upscaled in zip(
        sr_edge.camera.open_source(str(clip)).frames(), stream(clip, NetworkFrameUpscaler(session)), strict=True
    ):
        expected = Upscaler(session).upscale(rgb_from_frame(source))
        again = sr_edge.camera.frame_from_rgb(expected, source)
        assert all(np.array_equal(mine, other) for mine, other in zip(upscaled.planes, again.planes, strict=True))


def test_nv12_frames_run_in_their_own_graph(clip: Path, bundle: Path, session: Session, nv12_session: Session) -> None:
    events: list[str] = []
    usual = list(stream(clip, bundle, engine=EngineChoice("onnxruntime")))
    engine = EngineChoice("onnxruntime", nv12=True)
    converted = list(stream(clip, bundle, engine=engine, fallback=bundle, max_latency_ms=1e6, on_event=events.append))
    assert not any("RGB before the graph" in event for event in events)
    for one, other in zip(converted, usual, strict=True):
        assert (one.pts, one.colour, one.format) == (other.pts, other.colour, other.format)
        for mine, plane in zip(one.planes, other.planes, strict=True):
            assert np.abs(mine.astype(int) - plane).max() <= 1
    upscaler = NetworkFrameUpscaler(session, nv12_session=nv12_session)
    for pixel_format in (PixelFormat.I420, PixelFormat.NV12):
        prepared = upscaler.prepare(flat_frame(3, pixel_format=pixel_format))
        assert prepared.format is PixelFormat.NV12
        assert upscaler.infer(prepared).format is PixelFormat.RGB


@pytest.mark.parametrize("nv12", [False, True])
def test_the_tiles_and_what_others_would_gain_are_an_event(clip: Path, bundle: Path, nv12: bool) -> None:
    events: list[str] = []
    engine = EngineChoice("onnxruntime", nv12=nv12)
    report = stream(clip, bundle, engine=engine, fallback=bundle, on_event=events.append).into(lambda frame: None)
    assert report.events == tuple(events)
    (event,) = events
    assert "tile 32x40: 4 per frame of 64x48" in event and "`sr-edge deploy --frame 64x48`" in event
    assert ("--tile 48x64" in event) is nv12


def test_frames_that_the_nv12_graph_does_not_take_run_in_the_other_one(session: Session, nv12_session: Session) -> None:
    events: list[str] = []
    upscaler = NetworkFrameUpscaler(session, nv12_session=nv12_session, on_event=events.append)
    tagged = flat_frame(3)
    untagged = tagged.with_planes(tagged.planes, colour=Colour())
    ten_bits, wide = flat_frame(3, pixel_format=PixelFormat.I420_10), flat_frame(3, pixel_format=PixelFormat.I422)
    for frame in (untagged, untagged, ten_bits, wide, tagged):
        upscaled = upscaler.finish(upscaler.infer(upscaler.prepare(frame)), frame)
        assert (upscaled.format, upscaled.width) == (frame.format, 2 * frame.width)
    assert len(events) == 3
    assert ["bt601-limited" in events[0], "yuv420p10le" in events[1], "yuv422p" in events[2]] == [True] * 3


@pytest.mark.parametrize("runs_in_main_tile", [False, True])
def test_nv12_frames_say_once_that_only_the_main_tile_has_their_graph(
    session: Session, nv12_session: Session, runs_in_main_tile: bool
) -> None:
    events: list[str] = []
    frame = flat_frame(3)
    main = session.spec.tile
    fitted = TileSpec(frame.height, frame.width)
    times = (TileTime(main, 0.001), TileTime(fitted, 1000.0)) if runs_in_main_tile else ()
    tiled = cast(Session, SimpleNamespace(spec=replace(session.spec, tiles=(main, fitted), tile_times=times)))
    upscaler = NetworkFrameUpscaler(tiled, nv12_session=nv12_session, on_event=events.append)
    for _ in range(2):
        prepared = upscaler.prepare(frame)
        assert prepared.format is PixelFormat.NV12
        assert upscaler.infer(prepared).width == 2 * frame.width
    assert len(events) == (0 if runs_in_main_tile else 1)
    assert all(str(main) in event and str(fitted) in event for event in events)


def test_an_engine_in_bf16_does_not_convert_frames(session: Session, nv12_session: Session) -> None:
    """OpenVINO computes the conversion in bf16, too, with 8 bits of precision."""
    frame = flat_frame(3)
    events: list[str] = []
    for spec in (
        replace(nv12_session.spec, ran=Precision.BF16),
        replace(nv12_session.spec, ran=Precision.INT8, float_precision_ran=Precision.BF16),
    ):
        engine = cast(Session, SimpleNamespace(spec=spec))
        upscaler = NetworkFrameUpscaler(session, nv12_session=engine, on_event=events.append)
        assert upscaler.prepare(frame).format is PixelFormat.RGB
    assert ["bf16" in event for event in events] == [True, True]


def test_a_bundle_without_nv12_graphs_is_refused(clip: Path, bundle: Path, tmp_path: Path) -> None:
    graph = export_onnx(load_model("convnet-tiny", 2), "32x40", tmp_path / "tiny.onnx").path
    with raises(PrecisionUnavailable) as caught:
        stream(clip, graph, engine=EngineChoice("onnxruntime", nv12=True))
    assert "nv12" in str(caught.value)


def test_ten_bits_go_through_the_network(tmp_path: Path, session: Session) -> None:
    clip = write_clip(tmp_path / "clip.mkv", [0, 40], codec="ffv1", pixel_format="yuv420p10le")
    first, second = stream(clip, NetworkFrameUpscaler(session))
    assert first.format is second.format is PixelFormat.I420_10
    assert number_of(second.with_planes((second.planes[0] // 4,), PixelFormat.GRAY_10)) == 1


def test_a_callback_gets_every_frame_in_another_thread(clip: Path) -> None:
    threads = set()
    sequences = []

    def take(frame: VideoFrame) -> None:
        threads.add(threading.current_thread())
        sequences.append(frame.sequence)

    report = stream(clip, RepeatingFrameUpscaler()).into(take)
    assert sequences == list(range(COUNT))
    assert threading.current_thread() not in threads
    assert report.frames_out == COUNT


def test_what_a_callback_raises_ends_the_stream(clip: Path) -> None:
    def fail(frame: VideoFrame) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        stream(clip, RepeatingFrameUpscaler()).into(fail)


def test_into_a_file(clip: Path, tmp_path: Path) -> None:
    source = sr_edge.camera.open_source(str(clip))
    stream(source, RepeatingFrameUpscaler()).into(open_sink(str(tmp_path / "out.mp4"), source))
    assert len(read_clip(tmp_path / "out.mp4")) == COUNT


def test_asyncio(clip: Path) -> None:
    async def collect() -> list[int]:
        return [frame.sequence async for frame in stream(clip, RepeatingFrameUpscaler())]

    assert asyncio.run(collect()) == list(range(COUNT))


def test_asyncio_left_early_ends_the_stream() -> None:
    source = ListSource(numbered(1000))

    async def first_two() -> list[int]:
        sequences = []
        async with aclosing(aiter(stream(source, RepeatingFrameUpscaler()))) as frames:  # type: ignore[type-var]
            async for frame in frames:
                sequences.append(frame.sequence)
                if len(sequences) == 2:
                    break
        return sequences

    assert asyncio.run(first_two()) == [0, 1]
    assert source.closed.is_set()


def test_asyncio_cancelled_while_it_waits_ends_the_stream() -> None:
    source = ListSource([])

    def silent() -> Iterator[VideoFrame]:
        yield flat_frame(0, pts=0)
        source.closed.wait(TIMEOUT_S)

    source.content = silent()

    async def cancelled() -> None:
        seen = asyncio.Event()

        async def read() -> None:
            async for _ in stream(source, RepeatingFrameUpscaler()):
                seen.set()

        task = asyncio.create_task(read())
        await asyncio.wait_for(seen.wait(), TIMEOUT_S)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancelled())
    assert source.closed.is_set()


def test_leaving_the_iteration_closes_the_session(clip: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine is freed though the stream itself is still in use."""
    engines: list[weakref.ref[object]] = []

    class Remembered(onnxruntime.InferenceSession):  # type: ignore[misc]
        def __init__(self, *arguments: Any, **settings: Any) -> None:
            super().__init__(*arguments, **settings)
            engines.append(weakref.ref(self))

    monkeypatch.setattr(onnxruntime, "InferenceSession", Remembered)
    opened = stream(clip, bundle, engine=EngineChoice("onnxruntime"))
    for _ in opened:
        assert engines[-1]() is not None
        break
    gc.collect()
    assert [engine() for engine in engines] == [None] * len(engines)
    assert opened.report().frames_out == 1


def test_four_streams_of_320x180_share_one_engine_in_fair_turns(session: Session) -> None:
    """Each is live and has always a newer frame: whoever is served, all are served alike, and memory is bounded."""
    lock = 4
    engine = NetworkFrameUpscaler(session)
    pixel_format = PixelFormat.I420
    planes = tuple(np.full(layout.shape(180, 320), 100, np.uint8) for layout in pixel_format.layout)
    outs: list[list[VideoFrame]] = [[] for _ in range(4)]
    all_there = threading.Barrier(4, timeout=TIMEOUT_S)

    def camera(stopped: threading.Event) -> Iterator[VideoFrame]:
        all_there.wait()
        for number in itertools.count():
            if stopped.wait(0.001):
                return
            yield VideoFrame(planes, pixel_format, pts=number, sequence=number)

    streams: list[Stream] = []

    def take(index: int, frame: VideoFrame) -> None:
        outs[index].append(frame)
        if min(len(out) for out in outs) >= lock:
            for one in streams:
                one.stop()

    for _ in range(4):
        source = ListSource([], is_live=True)
        source.content = camera(source.closed)
        streams.append(stream(source, engine))
    threads = [
        threading.Thread(target=one.into, args=(lambda frame, index=index: take(index, frame),))
        for index, one in enumerate(streams)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(TIMEOUT_S)
    counts = [len(out) for out in outs]
    assert min(counts) >= lock
    assert max(counts) - min(counts) <= 3
    for one, out in zip(streams, outs, strict=True):
        assert {(frame.width, frame.height) for frame in out} == {(640, 360)}
        assert [frame.sequence for frame in out] == sorted(frame.sequence for frame in out)
        assert one.report().dropped > 0
        assert one.report().queued <= 1


def test_a_fallback_holds_the_same_latency_as_on_the_command_line(clip: Path) -> None:
    with (
        stream(clip, RepeatingFrameUpscaler(), fallback="bicubic") as usual,
        stream(clip, RepeatingFrameUpscaler(), fallback="bicubic", max_latency_ms=1e6) as patient,
        stream(clip, RepeatingFrameUpscaler()) as alone,
    ):
        limits_ms = [one.options.max_latency_ms for one in (usual, patient, alone)]
    assert limits_ms == [DEFAULT_MAX_LATENCY_MS, 1e6, None]
    assert f"Default: {DEFAULT_MAX_LATENCY_MS:g}." in get_args(MaxLatencyMsOption)[1].help


def test_a_latency_without_a_fallback_is_refused(clip: Path) -> None:
    with raises(UsageError, found=(None, 50.0)):
        stream(clip, RepeatingFrameUpscaler(), max_latency_ms=50.0)
    frames = list(stream(clip, RepeatingFrameUpscaler(), fallback="bicubic"))
    assert len(frames) == COUNT


@pytest.mark.parametrize(
    ("name", "found"),
    [("policy", "newest"), ("roi", "1,2"), ("every", 0), ("reuse", "often")],
)
def test_wrong_arguments(clip: Path, name: str, found: object) -> None:
    with raises(UsageError, found=found):
        stream(clip, RepeatingFrameUpscaler(), **{name: found})  # type: ignore[arg-type]


def test_no_bundle_and_no_source(clip: Path, bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError):
        stream(clip, tmp_path / "absent.sredge", engine=EngineChoice("onnxruntime"))
    with raises(StreamError, found=tmp_path / "absent.mp4"):
        stream(tmp_path / "absent.mp4", bundle, engine=EngineChoice("onnxruntime"))


def test_importing_the_package_opens_no_runtime() -> None:
    code = "import sys, sr_edge.camera; print(*(m for m in ('torch', 'openvino', 'onnxruntime') if m in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
