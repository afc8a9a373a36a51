"""Tiles whose samples did not change are not computed again, and the output is the same to the bit."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pytest

from sr_edge.errors import EngineError, UsageError
from sr_edge.frames import Picture
from sr_edge.runtimes.session import Session
from sr_edge.spec import FrameFormat
from sr_edge.tiling import plan_tiles
from sr_edge.upscaler import Upscaler
from sr_edge.upscaler.reuse import FrameReuse, TileReuse
from sr_edge.upscaler.reuse_options import ReuseOptions, parse_memory
from sr_edge.upscaler.tiled_frame import TiledFrame
from tests.expected_errors import raises
from tests.upscaler.test_upscaler import TILE, NearestSession

Array = npt.NDArray[Any]

TILE_BYTES = 16 * 24 * 3 * (1 + 4)
"""Memory of one tile of the fake session and its result."""


class SlottedSession(NearestSession):
    """Mixes each pixel with the mean of the tile; computes as many tiles at a time as it has slots, in threads.

    Attributes:
        computed: Number of tiles that were computed.
        failures: Number of tiles from now on that fail.
    """

    def __init__(self, slots: int = 2, channels: int = 3, io: FrameFormat = FrameFormat.FLOAT_NCHW) -> None:
        super().__init__(io, slots)
        self.spec = replace(self.spec, channels=channels, has_uint8_graph=io is FrameFormat.UINT8_NHWC)
        self.computed, self.failures = 0, 0
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(slots)
        self._results: dict[int, Future[Array]] = {}

    def run(self, frames: Array, controls: Any = None) -> Array:
        with self._lock:
            self.computed += 1
            fails = self.failures > 0
            self.failures -= fails
        if fails:
            raise EngineError("the fake engine failed")
        share = 0.5 + (controls or {}).get("alpha", 0.0) / 4
        mixed = (frames * share + frames.mean() * (1 - share)).astype(frames.dtype)
        rows, columns = (0, 1) if frames.dtype == np.uint8 else (2, 3)
        return mixed.repeat(self.spec.scale, axis=rows).repeat(self.spec.scale, axis=columns)

    def submit(self, frames: Array, controls: Any = None) -> int:
        with self._lock:
            ticket = next(self._tickets)
            self._results[ticket] = self._pool.submit(self.run, frames.copy(), controls)
        return ticket

    def result(self, ticket: int) -> Array:
        return self._results.pop(ticket).result(timeout=20)


def scene(size: tuple[int, int], dtype: npt.DTypeLike, seed: int, channels: int = 3) -> Iterator[Array]:
    """Frames of a still scene with random rectangles that change; some frames repeat, and one is new as a whole."""
    random = np.random.default_rng(seed)
    largest = np.iinfo(np.dtype(dtype)).max
    frame = random.integers(0, largest + 1, (*size, channels)).astype(dtype)
    for index in range(8):
        yield frame
        frame = frame.copy()
        if index == 5:
            frame = random.integers(0, largest + 1, frame.shape).astype(dtype)
        for _ in range(random.integers(0, 3)):
            top, left = random.integers(0, size[0]), random.integers(0, size[1])
            part = frame[top : top + random.integers(1, 9), left : left + random.integers(1, 9)]
            part[...] = random.integers(0, largest + 1, part.shape)


def some_roi(random: np.random.Generator, height: int, width: int) -> tuple[int, int, int, int] | None:
    """Half of the time the whole frame, else a random part of it."""
    if random.random() < 0.5:
        return None
    left, top = random.integers(0, width), random.integers(0, height)
    return int(left), int(top), int(random.integers(1, width - left + 1)), int(random.integers(1, height - top + 1))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize(("network_channels", "channels"), [(3, 3), (3, 1), (1, 3), (1, 1), (4, 4), (4, 3)])
def test_output_is_the_same_to_the_bit(network_channels: int, channels: int, dtype: npt.DTypeLike, seed: int) -> None:
    """Random clips, sizes, regions of interest and controls, for networks of one, three and four channels."""
    random = np.random.default_rng([seed, network_channels, channels])
    height, width = (int(size) for size in random.integers(5, 90, 2))
    io = FrameFormat.UINT8_NHWC if dtype is np.uint8 and seed % 2 else FrameFormat.FLOAT_NCHW
    plain, reusing = (SlottedSession(1 + seed % 3, network_channels, io) for _ in range(2))
    controls = {"alpha": float(random.uniform(0, 2))}
    off, exact = Upscaler(plain, controls=controls), Upscaler(reusing, controls=controls, reuse="exact")
    counted: list[FrameReuse] = []
    for frame in scene((height, width), dtype, seed, channels):
        roi = some_roi(random, height, width)
        np.testing.assert_array_equal(
            exact.upscale(frame, roi=roi, on_reuse=counted.append), off.upscale(frame, roi=roi)
        )
    statistics = exact.reuse_statistics
    assert reusing.computed == statistics.tiles - statistics.reused
    assert statistics.tiles == sum(each.tiles for each in counted) == plain.computed
    assert statistics.reused == sum(len(each.reused) for each in counted) > 0
    assert counted[-1].statistics == statistics


def test_reused_regions_are_those_that_did_not_change() -> None:
    upscaler = Upscaler(SlottedSession(), reuse="exact")
    frame = np.random.default_rng(0).integers(0, 256, (60, 100, 3)).astype(np.uint8)
    upscaler.upscale(frame)
    frame[30, 50] ^= 1
    for roi in (None, (40, 20, 50, 30)):
        counted: list[FrameReuse] = []
        upscaler.upscale(frame, roi=roi, on_reuse=counted.append)
        (reuse,) = counted
        assert len(reuse.reused) == reuse.tiles - (roi is None)
        covered = np.zeros((60, 100), bool)
        for region in reuse.reused:
            region.cut(covered)[...] = True
        assert covered[:20, :30].all() or roi is not None
        assert covered[30, 50] == (roi is not None), "the second time nothing has changed any more"


def test_changed_tiles_are_counted_before_they_are_computed() -> None:
    for network_channels, io in ((3, FrameFormat.FLOAT_NCHW), (1, FrameFormat.FLOAT_NCHW), (1, FrameFormat.UINT8_NHWC)):
        session = SlottedSession(2, network_channels, io)
        upscaler = Upscaler(session, reuse="exact")
        for frame in scene((60, 100), np.uint8, 7):
            expected, before = upscaler.count_changed(frame), session.computed
            upscaler.upscale(frame)
            assert session.computed - before == expected
    assert Upscaler(session).count_changed(frame) is None


def test_other_controls_do_not_get_the_results_of_these() -> None:
    session = SlottedSession()
    (frame, *_) = scene((40, 50), np.uint8, 3)
    outputs = []
    for alpha in (0.0, 2.0):
        upscaler = Upscaler(session, controls={"alpha": alpha}, reuse="exact")
        outputs.append(upscaler.upscale(frame))
        np.testing.assert_array_equal(outputs[-1], Upscaler(session, controls={"alpha": alpha}).upscale(frame))
    assert not np.array_equal(outputs[0], outputs[1])


def test_reused_tiles_do_not_keep_the_engine_from_further_tiles() -> None:
    """With two slots, both changed tiles are in the engine at once, although unchanged ones lie between them."""
    both = threading.Barrier(2, timeout=20)

    class MeetingSession(SlottedSession):
        is_meeting = False

        def run(self, frames: Array, controls: Any = None) -> Array:
            if self.is_meeting:
                both.wait()
            return super().run(frames, controls)

    session = MeetingSession()
    upscaler = Upscaler(session, reuse="exact")
    frame = np.random.default_rng(0).integers(0, 256, (16, 240, 3)).astype(np.uint8)
    upscaler.upscale(frame)
    session.is_meeting = True
    frame[0, 0] ^= 1
    frame[0, -1] ^= 1
    upscaler.upscale(frame)


def test_region_that_moves_uses_the_tiles_that_are_kept() -> None:
    session = SlottedSession()
    exact, off = Upscaler(session, reuse="exact"), Upscaler(SlottedSession())
    (frame, *_) = scene((60, 100), np.uint8, 1)
    exact.upscale(frame)
    whole = session.computed
    for roi in ((0, 0, 100, 60), (3, 5, 40, 30), (50, 20, 50, 40), (0, 0, 24, 16)):
        np.testing.assert_array_equal(exact.upscale(frame, roi=roi), off.upscale(frame, roi=roi))
    assert session.computed == whole


def test_opacity_is_upscaled_with_kept_tiles_too() -> None:
    (pixels, *_), (alpha, *_) = scene((40, 50), np.uint8, 2), scene((40, 50), np.uint8, 3, 1)
    session = SlottedSession()
    exact, off = Upscaler(session, reuse="exact"), Upscaler(SlottedSession())
    expected = off.upscale_picture(Picture(pixels, alpha[..., 0]))
    for _ in range(2):
        upscaled = exact.upscale_picture(Picture(pixels, alpha[..., 0]))
        np.testing.assert_array_equal(upscaled.pixels, expected.pixels)
        np.testing.assert_array_equal(upscaled.alpha, expected.alpha)
    assert exact.reuse_statistics.share >= 0.5


def test_result_belongs_to_the_caller() -> None:
    tile = np.full((16, 24, 3), 100, np.uint8)
    upscaler = Upscaler(SlottedSession(), reuse="exact")
    first = upscaler.upscale(tile)
    expected = first.copy()
    first[...] = 0
    for again in (upscaler.upscale(tile), upscaler.upscale(tile, roi=(0, 0, 24, 16))):
        np.testing.assert_array_equal(again, expected)
        again[...] = 0


def test_samples_that_change_after_the_call_do_not_change_what_is_kept() -> None:
    upscaler, off = Upscaler(SlottedSession(), reuse="exact"), Upscaler(SlottedSession())
    frame = np.full((16, 24, 3), 100, np.uint8)
    upscaler.upscale(frame)
    frame[0, 0, 0] = 101
    np.testing.assert_array_equal(upscaler.upscale(frame), off.upscale(frame))


def test_memory_is_bounded_by_one_result_for_each_place() -> None:
    upscaler = Upscaler(SlottedSession(), reuse="exact")
    for value in range(5):
        upscaler.upscale(np.full((16, 24, 3), value, np.uint8))
        assert upscaler.reuse_statistics.memory_bytes == TILE_BYTES


def test_memory_of_several_sizes_is_bounded_by_the_option() -> None:
    session = SlottedSession()
    upscaler = Upscaler(session, reuse=ReuseOptions("exact", memory_bytes=3 * TILE_BYTES))
    for width in (1, 2, 3, 4, 4, 3, 2, 1):
        upscaler.upscale(np.zeros((16, width, 3), np.uint8))
        assert upscaler.reuse_statistics.memory_bytes <= 3 * TILE_BYTES
    assert session.computed == 5  # of the last four frames, the one whose size was used longest ago


@pytest.mark.parametrize(("passes", "reused"), [(3, 3), (2, 0)])
def test_each_pass_over_a_picture_with_alpha_keeps_its_own_tiles(passes: int, reused: int) -> None:
    (pixels, *_), (alpha, *_) = scene((16, 24), np.uint8, 2), scene((16, 24), np.uint8, 3, 1)
    upscaler = Upscaler(SlottedSession(), reuse=ReuseOptions("exact", memory_bytes=passes * TILE_BYTES))
    for _ in range(2):
        upscaler.upscale_picture(Picture(pixels, alpha[..., 0]))
    assert upscaler.reuse_statistics.reused == reused
    assert bool(upscaler.reuse_statistics.obstacle) == (reused == 0)


def test_too_little_memory_for_a_frame_keeps_nothing_and_says_so() -> None:
    session = SlottedSession()
    upscaler = Upscaler(session, reuse=ReuseOptions("exact", memory_bytes=1000))
    (frame, *_) = scene((60, 100), np.uint8, 4)
    for _ in range(2):
        upscaler.upscale(frame)
    statistics = upscaler.reuse_statistics
    assert (statistics.reused, statistics.memory_bytes) == (0, 0)
    assert session.computed == statistics.tiles
    assert statistics.needed_bytes > statistics.most_bytes == 1000 and statistics.obstacle


def test_failed_tile_is_computed_again() -> None:
    session = SlottedSession()
    upscaler = Upscaler(session, reuse="exact")
    (frame, *_) = scene((60, 100), np.uint8, 5)
    session.failures = 1
    with pytest.raises(EngineError):
        upscaler.upscale(frame)
    np.testing.assert_array_equal(upscaler.upscale(frame), Upscaler(SlottedSession()).upscale(frame))


@pytest.mark.parametrize("slots", [1, 2, 3])
def test_threads_share_tiles_without_waiting_for_each_other_for_ever(slots: int) -> None:
    session = SlottedSession(slots)
    upscaler, off = Upscaler(session, reuse="exact"), Upscaler(SlottedSession())
    frames = [frame for seed in range(4) for frame in scene((50, 80), np.uint8, seed % 2)]
    expected = [off.upscale(frame) for frame in frames]
    with ThreadPoolExecutor(4) as threads:
        upscaled = list(threads.map(upscaler.upscale, frames, timeout=60))
    for each, right in zip(upscaled, expected, strict=True):
        np.testing.assert_array_equal(each, right)
    assert upscaler.reuse_statistics.reused > 0


def test_each_upscaler_of_a_session_keeps_its_own_tiles() -> None:
    session = SlottedSession()
    tile = np.full((16, 24, 3), 7, np.uint8)
    first = Upscaler(session, reuse="exact")
    for upscaler in (first, Upscaler(session, reuse="exact"), first.with_own_reuse()):
        upscaler.upscale(tile)
        assert upscaler.reuse_statistics.reused == 0
    assert session.computed == 3


def test_without_reuse_nothing_is_counted() -> None:
    upscaler = Upscaler(SlottedSession())
    upscaler.upscale(np.zeros((40, 40, 3), np.uint8))
    assert upscaler.reuse_statistics.tiles == 0


def test_kept_tiles_can_be_dropped() -> None:
    reuse = TileReuse(ReuseOptions("exact"))
    frame = np.zeros((16, 24, 3), np.uint8)
    tiled = TiledFrame(frame, plan_tiles(16, 24, TILE, 4), scale=2)
    for _ in range(2):
        tiles = reuse.frame(lambda _: 0, lambda _: np.zeros((32, 48, 3), np.uint8), tiled)
        tiles.result(tiles.submit(frame))
        assert reuse.statistics.memory_bytes == TILE_BYTES
        reuse.clear()
        assert reuse.statistics.memory_bytes == 0
    assert reuse.statistics.reused == 0


@pytest.mark.parametrize("given", ["sometimes", "", 0, -1.0, "nan", "inf", True, None])
def test_unknown_mode_is_refused(given: Any) -> None:
    with raises(UsageError, found=given):
        Upscaler(cast(Session, SlottedSession()), reuse=given)


def test_options_that_contradict_each_other_are_refused() -> None:
    with raises(UsageError, found=0):
        ReuseOptions.parse("exact", memory_bytes=0)
    with raises(UsageError, found=("exact", 0.1)):
        ReuseOptions("exact", 0.1)
    with raises(UsageError, found=("bound", None)):
        ReuseOptions("bound")
    with raises(UsageError, found=0.0):
        ReuseOptions("exact", refresh_s=0.0)


@pytest.mark.parametrize(
    ("text", "expected"), [("1", 1), ("512K", 2**19), ("256M", 2**28), ("1.5GiB", 3 * 2**29), (" 2 MB", 2**21)]
)
def test_memory_is_read_with_its_unit(text: str, expected: int) -> None:
    assert parse_memory(text) == expected


@pytest.mark.parametrize("text", ["", "M", "-1M", "0", "0.2", "1T", "1e9", "nan"])
def test_other_amounts_of_memory_are_refused(text: str) -> None:
    with raises(UsageError, found=text):
        parse_memory(text)


@pytest.mark.parametrize(
    ("given", "expected", "shown"),
    [
        ("off", ReuseOptions(), "off"),
        ("exact", ReuseOptions("exact"), "exact"),
        ("0.05", ReuseOptions("bound", 0.05), "0.05 dB"),
    ],
)
def test_modes_are_read(given: str, expected: ReuseOptions, shown: str) -> None:
    assert ReuseOptions.parse(given) == expected
    assert str(expected) == shown
