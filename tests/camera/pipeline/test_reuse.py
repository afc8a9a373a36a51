"""Reuse of tiles in streams: the frames are the same to the bit, and each stream reuses its own tiles."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain, groupby
from typing import Any

import numpy as np
import pytest

from sr_edge.camera.flow.drop_policy import Dropping, Policy
from sr_edge.camera.flow.events import EventLog
from sr_edge.camera.media.conversion import frame_from_rgb
from sr_edge.camera.media.frame import Colour, PixelFormat, VideoFrame
from sr_edge.camera.pipeline.fallback import FallbackTiming
from sr_edge.camera.pipeline.frame_upscaler import BicubicFrameUpscaler, NetworkFrameUpscaler
from sr_edge.camera.pipeline.loop import Loop
from sr_edge.camera.pipeline.options import LoopOptions
from sr_edge.camera.pipeline.statistics import StreamReport
from sr_edge.camera.preview.engines import EngineOption
from sr_edge.camera.preview.switching import SwitchableFrameUpscaler
from sr_edge.frames import Region
from sr_edge.nv12.colour import Nv12Colour
from sr_edge.runtimes import Session
from sr_edge.spec import Precision
from sr_edge.upscaler import ReuseOptions
from tests.camera.fakes import TIMEOUT_S, ListSource, eventually
from tests.nv12_frames import colour_of
from tests.upscaler.test_reuse import SlottedSession, scene

BLOCK = Policy(Dropping.BLOCK)
FORMATS = (PixelFormat.RGB, PixelFormat.NV12, PixelFormat.I420, PixelFormat.I420_10, PixelFormat.GRAY)


def clip(pixel_format: PixelFormat, seed: int, size: tuple[int, int] = (60, 100)) -> list[VideoFrame]:
    """A scene with random rectangles that change, in a pixel format of cameras."""
    planes = tuple(np.zeros(layout.shape(*size), pixel_format.dtype) for layout in pixel_format.layout)
    like = VideoFrame(planes, pixel_format)
    dtype = np.uint8 if pixel_format.bits == 8 else np.uint16
    return [
        replace(frame_from_rgb(pixels, like), pts=number, sequence=number)
        for number, pixels in enumerate(scene(size, dtype, seed))
    ]


def upscaled(
    frames: Sequence[VideoFrame], session: SlottedSession, reuse: str, **options: Any
) -> tuple[list[VideoFrame], StreamReport]:
    upscaler = NetworkFrameUpscaler(session, session.spec.slots + 1, controls={"alpha": 0.5}, reuse=reuse)
    # A microsecond whenever somebody asks: all frames are recent then, also on a machine that needs many seconds.
    clock = itertools.count(1, 1000).__next__
    loop = Loop(ListSource(frames), upscaler, LoopOptions(policy=BLOCK, **options), clock=clock)
    return list(loop.frames()), loop.report()


def assert_same(outputs: Sequence[VideoFrame], expected: Sequence[VideoFrame]) -> None:
    assert [frame.sequence for frame in outputs] == [frame.sequence for frame in expected]
    for output, right in zip(outputs, expected, strict=True):
        assert output.format is right.format
        for plane, right_plane in zip(output.planes, right.planes, strict=True):
            np.testing.assert_array_equal(plane, right_plane)


@pytest.mark.parametrize("network_channels", [1, 3])
@pytest.mark.parametrize("pixel_format", FORMATS)
@pytest.mark.parametrize(
    "options", [{}, {"region": Region(20, 10, 50, 40)}, {"every": 3}], ids=["whole", "region", "every"]
)
def test_frames_of_a_stream_are_the_same_to_the_bit(
    pixel_format: PixelFormat, network_channels: int, options: dict[str, Any]
) -> None:
    frames = clip(pixel_format, 3) * 3
    frames = [replace(frame, sequence=number) for number, frame in enumerate(frames)]
    computing, reusing = (SlottedSession(2, network_channels) for _ in range(2))
    expected, off = upscaled(frames, computing, "off", **options)
    outputs, exact = upscaled(frames, reusing, "exact", **options)
    assert_same(outputs, expected)
    assert off.reuse is None and off.reused_share is None and off.recent_reused_share is None
    assert exact.reuse is not None and exact.reuse.memory_bytes > 0
    assert exact.reuse.tiles == computing.computed
    assert exact.reuse.tiles - exact.reuse.reused == reusing.computed < computing.computed
    assert exact.reused_share == exact.recent_reused_share == exact.reuse.share > 0
    assert all((frame.reuse is None) == (frame.sequence % options.get("every", 1) != 0) for frame in outputs)


@pytest.mark.parametrize("pixel_format", [PixelFormat.NV12, PixelFormat.I420])
def test_frames_of_an_nv12_graph_are_the_same_to_the_bit(
    pixel_format: PixelFormat, session: Session, nv12_session: Session
) -> None:
    """Every frame comes with a colour that the NV12 graph takes and, after it, with one that it does not take."""
    colours = colour_of(Nv12Colour.BT709_LIMITED), Colour()
    coloured = [replace(frame, colour=colour) for frame in clip(pixel_format, 3) for colour in colours]
    frames = [replace(frame, sequence=number) for number, frame in enumerate(coloured)]
    outputs, reports = {}, {}
    for reuse in ("off", "exact"):
        upscaler = NetworkFrameUpscaler(session, session.spec.slots + 1, reuse=reuse, nv12_session=nv12_session)
        loop = Loop(ListSource(frames), upscaler, LoopOptions(policy=BLOCK))
        outputs[reuse], reports[reuse] = list(loop.frames()), loop.report()
    assert_same(outputs["exact"], outputs["off"])
    counted = reports["exact"].reuse
    assert counted is not None and 0 < counted.reused < counted.tiles
    assert sum(len(frame.reuse.reused) for frame in outputs["exact"] if frame.reuse) == counted.reused
    for taken in (0, 1):
        of_graph = [frame.reuse for frame in outputs["exact"][taken::2] if frame.reuse is not None]
        assert len(of_graph) == len(frames) // 2 and any(reuse.reused for reuse in of_graph)


def test_each_stream_of_an_nv12_graph_keeps_its_own_tiles(session: Session, nv12_session: Session) -> None:
    frame = replace(clip(PixelFormat.NV12, 3)[0], colour=colour_of(Nv12Colour.BT709_LIMITED))
    shared = NetworkFrameUpscaler(session, nv12_session=nv12_session)
    first, second = shared.for_stream(), shared.for_stream()
    tiles = first.count_changed(frame)
    first.infer(first.prepare(frame))
    assert tiles is not None and tiles > 1
    assert [each.count_changed(frame) for each in (first, second, shared)] == [0, tiles, tiles]
    off = NetworkFrameUpscaler(session, reuse="off", nv12_session=nv12_session)
    assert off.count_changed(frame) is None


def test_frames_are_the_same_after_a_source_came_back_with_another_size() -> None:
    """A camera that is opened again may send another size, and later the first one again."""
    parts = [clip(PixelFormat.NV12, 1), clip(PixelFormat.NV12, 1, (40, 70)), clip(PixelFormat.NV12, 2)]
    frames = [replace(frame, sequence=number) for number, frame in enumerate(chain.from_iterable(parts))]
    expected, _ = upscaled(frames, SlottedSession(), "off")
    outputs, report = upscaled(frames, SlottedSession(), "exact")
    assert_same(outputs, expected)
    assert report.reuse is not None and report.reuse.reused > 0


def test_frames_are_the_same_across_fallbacks() -> None:
    """The model returns to a scene of which its kept tiles are old."""
    frames = clip(PixelFormat.NV12, 4) * 6
    frames = [replace(frame, sequence=number) for number, frame in enumerate(frames)]
    at_once = FallbackTiming(late_window_s=0.0, first_retry_s=0.0, max_retry_s=0.0)
    session = SlottedSession()
    outputs, report = upscaled(
        frames, session, "exact", fallback=BicubicFrameUpscaler(2), max_latency_ms=1e-6, fallback_timing=at_once
    )
    assert report.fallback_switches > 1 and 0 < report.fallback_frames < len(frames)
    expected, _ = upscaled(frames, SlottedSession(), "off")
    by_model = [frame for frame in outputs if frame.reuse is not None]
    assert len(by_model) == len(frames) - report.fallback_frames
    assert_same(by_model, [expected[frame.sequence] for frame in by_model])


def test_frames_are_the_same_after_a_switch_of_engines() -> None:
    """Another engine never gets the results of the one before, also not after a return to it."""

    class Tinted(SlottedSession):
        def __init__(self, tint: int) -> None:
            super().__init__()
            self.tint = tint

        def run(self, frames: Any, controls: Any = None) -> Any:
            return np.roll(super().run(frames, controls), self.tint, axis=0)

        def measure(self, runs: int = 20, warm_up: int = 3) -> Any:
            return None

    engines = [EngineOption(name, Precision.FP32) for name in ("onnxruntime", "openvino")]
    frames = clip(PixelFormat.RGB, 5)
    upscaler = SwitchableFrameUpscaler(lambda option: Tinted(engines.index(option)), engines[0])
    for wanted in (engines[:1], engines[1:], engines[:1], engines):
        upscaler.switch(wanted)
        for frame in frames:
            upscaler.infer(upscaler.prepare(frame))
            record = upscaler.record(frame.sequence)
            for output in record.outputs:
                alone = NetworkFrameUpscaler(Tinted(engines.index(output.option)), reuse="off")
                assert_same([output.frame], [alone.infer(alone.prepare(frame))])
                assert output.frame.reuse is not None
    reuse = record.outputs[0].frame.reuse
    assert reuse is not None and reuse.reused
    upscaler.close()


def test_streams_of_one_engine_reuse_only_their_own_tiles() -> None:
    session = SlottedSession()
    shared = NetworkFrameUpscaler(session)
    still = [replace(frame, sequence=number) for number, frame in enumerate(clip(PixelFormat.RGB, 6)[:1] * 4)]
    tiles = 0
    for count in (1, 2):
        loop = Loop(ListSource(still), shared, LoopOptions(policy=BLOCK))
        assert len(list(loop.frames())) == len(still)
        reuse = loop.report().reuse
        assert reuse is not None and reuse.reused == reuse.tiles * 3 // 4
        tiles = tiles or session.computed
        assert session.computed == count * tiles, "the second stream computes its first frame itself"


def test_four_cameras_of_a_still_scene_cost_as_much_as_what_moves() -> None:
    """One engine serves four streams: each computes its first frame, and then the one tile that changes."""
    session = SlottedSession()
    engine = NetworkFrameUpscaler(session, controls={"alpha": 0.5})
    background = np.random.default_rng(0).integers(0, 256, (60, 100, 3)).astype(np.uint8)
    count = 10

    def camera(index: int) -> Iterator[VideoFrame]:
        for number in range(count):
            pixels = np.roll(background, index, axis=0)
            pixels[0, 0] = number
            yield VideoFrame((pixels,), PixelFormat.RGB, pts=number, sequence=number)

    loops = [Loop(ListSource(camera(index)), engine, LoopOptions(policy=BLOCK)) for index in range(4)]
    outputs: list[list[VideoFrame]] = [[] for _ in loops]
    threads = [
        threading.Thread(target=lambda loop=loop, out=out: out.extend(loop.frames()))
        for loop, out in zip(loops, outputs, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(TIMEOUT_S)
    tiles = loops[0].report().reuse.tiles // count  # type: ignore[union-attr]
    assert session.computed == 4 * (tiles + count - 1)
    for index, out in enumerate(outputs):
        assert_same(out, upscaled(list(camera(index)), SlottedSession(), "off")[0])


def test_a_stream_with_few_changed_tiles_is_not_kept_waiting_beyond_its_turn() -> None:
    """Turns are those of frames, however much a stream computes in them.

    While one stream waits, the other one has the frame in the engine, and one that began to wait earlier.
    """
    random = np.random.default_rng(1)
    order: list[bool] = []
    loops: list[Loop] = []
    is_over = threading.Event()

    class Waited(NetworkFrameUpscaler):
        def infer(self, prepared: VideoFrame) -> VideoFrame:
            # One of the two that wait belongs to the other stream: each stream has two workers.
            eventually(lambda: self.lock.waiting >= 2 or is_over.is_set())
            inferred = super().infer(prepared)
            assert inferred.reuse is not None
            order.append(len(inferred.reuse.reused) == inferred.reuse.tiles)
            if len(order) == 24:
                is_over.set()
                for loop in loops:
                    loop.stop()
            return inferred

    def camera(is_still: bool) -> Iterator[VideoFrame]:
        pixels = random.integers(0, 256, (60, 100, 3)).astype(np.uint8)
        for number in itertools.count():
            yield VideoFrame((pixels,), PixelFormat.RGB, pts=number, sequence=number)
            pixels = pixels if is_still else np.bitwise_xor(pixels, np.uint8(1))

    engine = Waited(SlottedSession())
    loops += [Loop(ListSource(camera(is_still)), engine, LoopOptions(policy=BLOCK)) for is_still in (True, False)]
    threads = [threading.Thread(target=lambda loop=loop: list(loop.frames())) for loop in loops]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(TIMEOUT_S)
    turns = order[2:24]  # in its first frame, the still scene has no tile to reuse
    assert max(len(list(row)) for _, row in groupby(turns)) <= 2


def test_too_little_memory_is_an_event_once() -> None:
    events: list[str] = []
    upscaler = NetworkFrameUpscaler(SlottedSession(), reuse=ReuseOptions("exact", memory_bytes=1000))
    loop = Loop(ListSource(clip(PixelFormat.RGB, 7)), upscaler, LoopOptions(event_log=EventLog(events.append)))
    assert len(list(loop.frames())) == 8
    reuse = loop.report().reuse
    assert reuse is not None and reuse.obstacle and reuse.reused == 0 < reuse.tiles
    assert [reuse.obstacle in text for text in events] == [True]
