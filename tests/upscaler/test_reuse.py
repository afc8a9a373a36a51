"""Tiles with the samples of an earlier one are not computed again, and the output is the same to the bit."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pytest

from sr_edge.errors import EngineError, UnknownNameError, UsageError
from sr_edge.frames import Picture
from sr_edge.runtimes.session import Session
from sr_edge.upscaler import Upscaler
from sr_edge.upscaler.reuse import TileReuse
from tests.expected_errors import raises
from tests.upscaler.test_upscaler import NearestSession

Array = npt.NDArray[Any]


class SlottedSession(NearestSession):
    """Adds the mean of the tile to every pixel; computes as many tiles at a time as it has slots, in threads.

    Attributes:
        computed: Number of tiles that were computed.
        failures: Number of tiles from now on that fail.
    """

    def __init__(self, slots: int = 2, channels: int = 3) -> None:
        super().__init__(slots=slots)
        self.spec = replace(self.spec, channels=channels, controls=())
        self.computed, self.failures = 0, 0
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(slots)
        self._results: dict[int, Future[Array]] = {}

    def run(self, frames: Array, controls: object = None) -> Array:
        with self._lock:
            self.computed += 1
            fails = self.failures > 0
            self.failures -= fails
        if fails:
            raise EngineError("the fake engine failed")
        shifted = (frames * 0.75 + frames.mean() / 4).astype(frames.dtype)
        rows, columns = (0, 1) if frames.dtype == np.uint8 else (2, 3)
        return shifted.repeat(self.spec.scale, axis=rows).repeat(self.spec.scale, axis=columns)

    def submit(self, frames: Array, controls: object = None) -> int:
        with self._lock:
            ticket = next(self._tickets)
            self._results[ticket] = self._pool.submit(self.run, frames.copy())
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


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3])
def test_output_is_the_same_to_the_bit(dtype: npt.DTypeLike, channels: int, seed: int) -> None:
    size = tuple(np.random.default_rng(seed).integers(5, 90, 2))
    plain, reusing = SlottedSession(channels=channels), SlottedSession(channels=channels)
    off, exact = Upscaler(plain), Upscaler(reusing, reuse="exact")
    for frame in scene(cast(tuple[int, int], size), dtype, seed):
        np.testing.assert_array_equal(exact.upscale(frame), off.upscale(frame))
    statistics = exact.reuse_statistics
    assert reusing.computed == statistics.tiles - statistics.reused < plain.computed == statistics.tiles


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


def test_memory_is_bounded() -> None:
    tile_bytes = 16 * 24 * 3 * (1 + 4)
    session = SlottedSession()
    upscaler = Upscaler(session, reuse="exact", reuse_memory_bytes=3 * tile_bytes)
    for value in (1, 2, 3, 4, 4, 3, 2, 1):
        upscaler.upscale(np.full((16, 24, 3), value, np.uint8))
        assert upscaler.reuse_statistics.memory_bytes <= 3 * tile_bytes
    assert session.computed == 5  # of the last four frames, the one that was dropped


def test_too_little_memory_for_a_frame_keeps_nothing_and_says_so() -> None:
    session = SlottedSession()
    upscaler = Upscaler(session, reuse="exact", reuse_memory_bytes=1000)
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
    for upscaler in (Upscaler(session, reuse="exact"), Upscaler(session, reuse="exact")):
        upscaler.upscale(tile)
        assert upscaler.reuse_statistics.reused == 0
    assert session.computed == 2


def test_without_reuse_nothing_is_counted() -> None:
    upscaler = Upscaler(SlottedSession())
    upscaler.upscale(np.zeros((40, 40, 3), np.uint8))
    assert upscaler.reuse_statistics.tiles == 0


def test_nonsense_is_refused() -> None:
    session = cast(Session, SlottedSession())
    with raises(UnknownNameError, found="sometimes"):
        Upscaler(session, reuse="sometimes")
    with raises(UsageError, found=0):
        Upscaler(session, reuse="exact", reuse_memory_bytes=0)


def test_kept_tiles_can_be_dropped() -> None:
    reuse = TileReuse(10**6)
    submit, result = reuse.over(lambda _: 0, lambda _: np.zeros((32, 48, 3), np.uint8), 1, 1000)
    result(submit(np.zeros((16, 24, 3), np.uint8)))
    assert reuse.statistics.memory_bytes == 1000
    reuse.clear()
    assert reuse.statistics.memory_bytes == 0
    result(submit(np.zeros((16, 24, 3), np.uint8)))
    assert reuse.statistics.reused == 0
