"""Frames come out as players show them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from sr_edge.camera import Loop, VideoFrame, open_sink, open_source
from sr_edge.camera.media.orientation import upright
from tests.camera.fakes import ListSink, RepeatingFrameUpscaler
from tests.camera.films import Film, pictures_of, shoot

ONE = 1 << 16
Turned = Callable[[npt.NDArray[Any]], npt.NDArray[Any]]

CLOCKWISE = (0, ONE, 0, -ONE, 0, 0, 0, 0, 1 << 30)
"""What a telephone that is held upright writes."""
TURNS: dict[str, tuple[tuple[int, ...], Turned]] = {
    "clockwise": (CLOCKWISE, lambda plane: np.rot90(plane, -1)),
    "counterclockwise": ((0, -ONE, 0, ONE, 0, 0, 0, 0, 1 << 30), np.rot90),
    "upside down": ((-ONE, 0, 0, 0, -ONE, 0, 0, 0, 1 << 30), lambda plane: np.rot90(plane, 2)),
    "mirrored": ((-ONE, 0, 0, 0, ONE, 0, 0, 0, 1 << 30), np.fliplr),
    "transposed": ((0, ONE, 0, ONE, 0, 0, 0, 0, 1 << 30), np.transpose),
}
FORMS = ["yuv420p", "yuv422p", "yuv444p", "yuv420p10le", "gray"]


def frames_of(path: Path) -> list[VideoFrame]:
    return list(open_source(str(path)).frames())


@pytest.mark.parametrize("turn", TURNS)
def test_what_a_source_gives_is_as_players_show_it(tmp_path: Path, turn: str) -> None:
    matrix, turned = TURNS[turn]
    (plain,) = frames_of(shoot(tmp_path / "plain.mp4", Film(pts=[0])))
    (found,) = frames_of(shoot(tmp_path / "turned.mp4", Film(pts=[0], matrix=matrix)))
    assert [plane.tolist() for plane in found.planes] == [turned(plane).tolist() for plane in plain.planes]
    assert (found.pts, found.format, found.colour) == (plain.pts, plain.format, plain.colour)


@pytest.mark.parametrize("form", FORMS)
def test_every_format_is_turned(tmp_path: Path, form: str) -> None:
    codec = "ffv1" if form == "gray" else "libx264"
    (plain,) = frames_of(shoot(tmp_path / "plain.mkv", Film(pts=[0], form=form, codec=codec)))
    found = upright(plain, CLOCKWISE)
    assert (found.width, found.height) == (plain.height, plain.width)
    assert np.array_equal(found.planes[0], np.rot90(plain.planes[0], -1))
    assert found.format.bits == plain.format.bits


def test_what_cannot_be_turned_by_quarters_stays(tmp_path: Path) -> None:
    (plain,) = frames_of(shoot(tmp_path / "plain.mp4", Film(pts=[0])))
    assert upright(plain, None) is plain
    assert upright(plain, (46_341, 46_341, 0, -46_341, 46_341, 0, 0, 0, 1 << 30)) is plain
    assert upright(plain, (0,) * 9) is plain


def test_a_turned_file_becomes_an_upright_one(tmp_path: Path) -> None:
    source = shoot(tmp_path / "in.mp4", Film(matrix=CLOCKWISE))
    opened = open_source(str(source))
    Loop(opened, RepeatingFrameUpscaler()).run(open_sink(str(tmp_path / "out.mp4"), opened))
    sink = ListSink()
    Loop(open_source(str(source)), RepeatingFrameUpscaler()).run(sink)
    written = pictures_of(tmp_path / "out.mp4")
    assert len(written) == len(sink.frames) == 12
    assert {(picture.width, picture.height, picture.rotation) for picture in written} == {(96, 128, 0)}
    luma = written[5].to_ndarray()[:128]
    assert np.abs(luma.astype(int) - sink.frames[5].planes[0]).mean() < 3
