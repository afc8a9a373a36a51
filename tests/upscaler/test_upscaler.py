"""Upscaling of pictures, files and folders with a fake session that repeats pixels."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pytest

from sr_edge.controls import Controls
from sr_edge.errors import EngineError, FrameError, TileError, UsageError
from sr_edge.frames import Batch, Picture, Uint8Frame
from sr_edge.image_files import read_picture, write_picture
from sr_edge.runtimes.session import Latency, Session, SessionSpec, StageTimes
from sr_edge.spec import Control, FrameFormat, Precision, TileSpec
from sr_edge.upscaler import FileResult, Outcome, Upscaler, upscale_file, upscale_folder
from tests.expected_errors import raises

SCALE = 2
TILE = TileSpec(16, 24)


class NearestSession:
    """Repeats each pixel after adding `tint` 8-bit levels to red; fails for tiles brighter than `limit`."""

    def __init__(self, io: FrameFormat = FrameFormat.FLOAT_NCHW, slots: int = 2, tint: int = 0) -> None:
        self.spec = SessionSpec(
            runtime="fake",
            version="1",
            device="cpu",
            requested=Precision.FP32,
            ran=Precision.FP32,
            float_precision_ran=Precision.FP32,
            io=io,
            tile=TILE,
            scale=SCALE,
            threads=1,
            load_ms=0,
            artifact_bytes=0,
            slots=slots,
            controls=(Control("alpha", 1.0, 0.0, 2.0), Control("beta", 1.0, 0.0, 2.0)),
            overlap_px=4,
        )
        self.tint = tint
        self.limit = 256
        self.layouts: set[str] = set()
        self.controls: list[Controls | None] = []
        self._tickets = itertools.count()
        self._flying: dict[int, Batch | Uint8Frame] = {}

    def run(self, frames: Batch | Uint8Frame, controls: Controls | None = None) -> Batch | Uint8Frame:
        self.layouts.add(f"{frames.dtype} {frames.ndim}")
        self.controls.append(controls)
        if frames.dtype == np.uint8:
            if frames.mean() > self.limit:
                raise EngineError("the fake engine failed")
            tinted = np.minimum(frames + np.array([self.tint, 0, 0]), 255).astype(np.uint8)
            return tinted.repeat(SCALE, axis=0).repeat(SCALE, axis=1)
        shift = np.array([self.tint / 255, 0, 0], np.float32).reshape(1, 3, 1, 1)
        return (cast(Batch, frames) + shift).repeat(SCALE, axis=2).repeat(SCALE, axis=3)

    def run_staged(
        self, frames: Batch | Uint8Frame, controls: Controls | None = None
    ) -> tuple[Batch | Uint8Frame, StageTimes]:
        return self.run(frames, controls), StageTimes(0, 0, 0)

    def submit(self, frames: Batch | Uint8Frame, controls: Controls | None = None) -> int:
        assert len(self._flying) < self.spec.slots, "more tiles in flight than slots: a real session would block"
        ticket = next(self._tickets)
        self._flying[ticket] = self.run(frames, controls)
        return ticket

    def result(self, ticket: int) -> Batch | Uint8Frame:
        return self._flying.pop(ticket)

    def measure(self, runs: int = 20, warm_up: int = 3) -> Latency:
        return Latency.from_samples([1.0] * runs)

    def close(self) -> None:
        assert not self._flying

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@pytest.fixture
def session() -> Iterator[NearestSession]:
    with NearestSession() as opened:
        yield cast(NearestSession, opened)


def noise(dtype: npt.DTypeLike, *shape: int) -> npt.NDArray[Any]:
    return np.random.default_rng(0).integers(0, np.iinfo(np.dtype(dtype)).max + 1, shape).astype(dtype)


def repeated(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return array.repeat(SCALE, axis=0).repeat(SCALE, axis=1)


@pytest.mark.parametrize("size", [(1, 1), (7, 40), (16, 24), (50, 61)])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_any_frame_keeps_its_type_and_channels(
    session: NearestSession, dtype: npt.DTypeLike, channels: int, size: tuple[int, int]
) -> None:
    frame = noise(dtype, *size, channels)
    np.testing.assert_array_equal(Upscaler(session).upscale(frame), repeated(frame))
    assert session.layouts == {"uint8 3" if dtype == np.uint8 else "float32 4"}


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_gray_is_the_luma_of_what_the_network_answers(dtype: npt.DTypeLike) -> None:
    step = np.iinfo(np.dtype(dtype)).max // 255
    frame = np.full((16, 24, 1), 100 * step, dtype)
    upscaled = Upscaler(NearestSession(tint=10)).upscale(frame)
    assert upscaled.shape == (32, 48, 1)
    np.testing.assert_allclose(upscaled / step, 100 + 0.299 * 10, atol=0.6 if step == 1 else 0.02)


def test_16_bits_need_a_float_graph() -> None:
    upscaler = Upscaler(NearestSession(FrameFormat.UINT8_NHWC))
    upscaler.upscale(noise(np.uint8, 20, 20, 3))
    with raises(FrameError, found=16, wanted=8):
        upscaler.upscale(noise(np.uint16, 20, 20, 3))


@pytest.mark.parametrize("slots", [1, 2, 3])
def test_as_many_tiles_are_in_flight_as_the_session_has_slots(slots: int) -> None:
    session = NearestSession(slots=slots)
    frame = noise(np.uint8, 60, 60, 3)
    np.testing.assert_array_equal(Upscaler(session).upscale(frame), repeated(frame))
    session.close()


def test_the_overlap_is_the_cards_unless_given(session: NearestSession) -> None:
    def tiles(overlap_px: int | None) -> int:
        totals: list[int] = []
        upscaler = Upscaler(session, overlap_px)
        upscaler.upscale(noise(np.uint8, 16, 44, 3), on_tile=lambda done, total: totals.append(total))
        return len(totals)

    assert tiles(None) == tiles(4) == 2
    assert tiles(12) == 3
    with raises(TileError, found=16, wanted=(0, 15)):
        tiles(16)


def test_controls_reach_the_network(session: NearestSession) -> None:
    Upscaler(session, controls={"alpha": 0.5}).upscale(noise(np.uint8, 4, 4, 3))
    assert session.controls == [{"alpha": 0.5, "beta": 1.0}]


def test_controls_are_refused_before_any_picture_is_read(session: NearestSession) -> None:
    with raises(UsageError, found="gamma"):
        Upscaler(session, controls={"gamma": 1.0})
    with raises(UsageError, found=3.0, wanted=(0.0, 2.0)):
        Upscaler(session, controls={"alpha": 3.0})


def test_opacity_is_upscaled_with_the_colours_and_keeps_what_is_wholly_opaque_or_clear(session: NearestSession) -> None:
    alpha = np.zeros((20, 30), np.uint8)
    alpha[:, 15:] = 255
    picture = Upscaler(session).upscale_picture(Picture(noise(np.uint8, 20, 30, 3), alpha, b"profile"))
    assert picture.alpha is not None
    np.testing.assert_array_equal(picture.alpha, repeated(alpha))
    assert (picture.alpha[:, :24] == 0).all()
    assert (picture.alpha[:, 36:] == 255).all()
    assert picture.icc_profile == b"profile"


def test_a_file_is_upscaled_into_another(session: NearestSession, tmp_path: Path) -> None:
    pixels = noise(np.uint16, 20, 30, 1)
    write_picture(tmp_path / "small.png", Picture(pixels))
    upscale_file(Upscaler(session), tmp_path / "small.png", tmp_path / "large.tif")
    np.testing.assert_array_equal(read_picture(tmp_path / "large.tif").pixels, repeated(pixels))


def test_a_target_that_cannot_hold_the_result_is_refused_before_the_work(
    session: NearestSession, tmp_path: Path
) -> None:
    write_picture(tmp_path / "deep.png", Picture(noise(np.uint16, 20, 30, 3)))
    with raises(FrameError, found="JPEG", wanted=["PNG", "TIFF"]):
        upscale_file(Upscaler(session), tmp_path / "deep.png", tmp_path / "out.jpg")
    assert session.layouts == set()


def test_a_target_that_is_the_source_or_has_no_folder_is_refused_before_the_work(
    session: NearestSession, tmp_path: Path
) -> None:
    source = tmp_path / "a.png"
    write_picture(source, Picture(noise(np.uint8, 20, 30, 3)))
    same = tmp_path / ".." / tmp_path.name / "a.png"
    with raises(UsageError, found=same):
        upscale_file(Upscaler(session), source, same)
    with raises(FrameError, found=tmp_path / "missing"):
        upscale_file(Upscaler(session), source, tmp_path / "missing" / "a.png")
    assert session.layouts == set()


class FullMemory(NearestSession):
    def run(self, frames: Batch | Uint8Frame, controls: Controls | None = None) -> Batch | Uint8Frame:
        raise MemoryError


def test_too_little_memory_is_said_in_one_line(tmp_path: Path) -> None:
    write_picture(tmp_path / "small.png", Picture(noise(np.uint8, 20, 30, 3)))
    with raises(FrameError, found=(20, 30)) as caught:
        upscale_file(Upscaler(FullMemory()), tmp_path / "small.png", tmp_path / "out.png")
    assert isinstance(caught.value.__cause__, MemoryError)
    assert not (tmp_path / "out.png").exists()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    source = tmp_path / "in"
    source.mkdir()
    for index, name in enumerate(["a.png", "b.tif", "d.webp"]):
        write_picture(source / name, Picture(noise(np.uint8, 10 + index, 20, 3)))
    (source / "c.png").write_bytes((source / "a.png").read_bytes()[:60])
    (source / "notes.txt").write_text("no picture")
    return source


def outcomes(results: Iterator[FileResult]) -> dict[str, Outcome]:
    return {result.source.name: result.outcome for result in results}


def test_a_folder_is_done_file_by_file_and_a_damaged_one_does_not_stop_it(folder: Path, tmp_path: Path) -> None:
    target = tmp_path / "deep" / "out"
    results = list(upscale_folder(Upscaler(NearestSession()), folder, target))
    assert [(result.source.name, result.outcome) for result in results] == [
        ("a.png", Outcome.WRITTEN),
        ("b.tif", Outcome.WRITTEN),
        ("c.png", Outcome.FAILED),
        ("d.webp", Outcome.WRITTEN),
    ]
    assert "c.png" in results[2].reason
    assert sorted(path.name for path in target.iterdir()) == ["a.png", "b.tif", "d.webp"]
    for name in ("a.png", "b.tif", "d.webp"):
        np.testing.assert_array_equal(read_picture(target / name).pixels, repeated(read_picture(folder / name).pixels))


def test_a_second_run_keeps_what_is_newer_than_its_source(folder: Path, tmp_path: Path) -> None:
    target = tmp_path / "out"
    upscaler = Upscaler(NearestSession())
    list(upscale_folder(upscaler, folder, target))
    newer = (target / "b.tif").stat().st_mtime_ns + 1_000_000_000
    os.utime(folder / "b.tif", ns=(newer, newer))
    (target / "d.webp").unlink()
    again = outcomes(upscale_folder(upscaler, folder, target))
    assert again == {
        "a.png": Outcome.KEPT,
        "b.tif": Outcome.WRITTEN,
        "c.png": Outcome.FAILED,
        "d.webp": Outcome.WRITTEN,
    }
    anew = outcomes(upscale_folder(upscaler, folder, target, resume=False))
    assert anew["a.png"] is Outcome.WRITTEN


def test_an_engine_that_fails_on_one_picture_serves_the_next(folder: Path, tmp_path: Path) -> None:
    session = NearestSession()
    session.limit = 200
    write_picture(folder / "a.png", Picture(np.full((10, 20, 3), 255, np.uint8)))
    results = outcomes(upscale_folder(Upscaler(session), folder, tmp_path / "out"))
    assert results["a.png"] is Outcome.FAILED
    assert results["b.tif"] is Outcome.WRITTEN


def test_an_interrupt_leaves_the_finished_files_and_no_half_one(folder: Path, tmp_path: Path) -> None:
    target = tmp_path / "out"
    session = NearestSession()
    results = upscale_folder(Upscaler(session), folder, target, on_tile=lambda done, total: interrupt_second(target))

    def interrupt_second(target: Path) -> None:
        if (target / "a.png").exists():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(results)
    assert [path.name for path in target.iterdir()] == ["a.png"]
    session.close()


def test_folders_that_cannot_work_are_refused_at_once(folder: Path, tmp_path: Path) -> None:
    upscaler = Upscaler(NearestSession())
    (tmp_path / "empty").mkdir()
    with raises(FrameError, found=tmp_path / "empty"):
        upscale_folder(upscaler, tmp_path / "empty", tmp_path / "out")
    with raises(FrameError, found=tmp_path / "missing"):
        upscale_folder(upscaler, tmp_path / "missing", tmp_path / "out")
    same = tmp_path / "empty" / ".." / "in"
    with raises(UsageError, found=same):
        upscale_folder(upscaler, folder, same)
    with raises(FrameError, found=folder / "a.png" / "out"):
        upscale_folder(upscaler, folder, folder / "a.png" / "out")
