"""Pictures of a folder are recognised by content, all other files are counted, and results get names of their own."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, features

from sr_edge.errors import FrameError
from sr_edge.frames import Picture
from sr_edge.image_files import (
    count_frames,
    is_picture,
    note_about_others,
    read_picture,
    result_names,
    scan_folder,
    write_picture,
)
from tests.expected_errors import raises

LOSSLESS = ["bmp", "dib", "gif", "pgm", "ppm", "tga", "qoi", "pcx", "ico", "sgi", "png", "tif"]
LOSSY = ["jpg", "jfif", "jp2", "j2k", "avif"]


def gray_ramp(size: int = 16) -> npt.NDArray[np.uint8]:
    return np.linspace(0, 255, size * size).reshape(size, size).astype(np.uint8)


def saved(folder: Path, suffix: str) -> Path:
    if suffix == "avif" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    path = folder / f"picture.{suffix}"
    mode = "L" if suffix in ("pgm", "gif") else "RGB"
    options: dict[str, Any] = {"sizes": [(16, 16)]} if suffix == "ico" else {}
    Image.fromarray(gray_ramp()).convert(mode).save(path, **options)
    return path


@pytest.mark.parametrize("suffix", [*LOSSLESS, *LOSSY])
def test_every_format_is_read_and_recognised_by_its_content(tmp_path: Path, suffix: str) -> None:
    path = saved(tmp_path, suffix)
    pixels = read_picture(path).pixels
    assert pixels.shape[:2] == (16, 16)
    tolerance = 0 if suffix in LOSSLESS else 12
    assert np.abs(pixels.astype(int) - gray_ramp()[..., None]).max() <= tolerance
    renamed = path.rename(tmp_path / "renamed")
    assert is_picture(renamed) == (suffix != "tga")
    if suffix != "tga":
        np.testing.assert_array_equal(read_picture(renamed).pixels, pixels)


def test_16_bit_gray_is_kept_and_16_bit_colour_that_is_reduced_is_mentioned(tmp_path: Path) -> None:
    (tmp_path / "deep.pgm").write_bytes(b"P5 2 1 65535\n" + bytes([1, 2, 3, 4]))
    gray = read_picture(tmp_path / "deep.pgm")
    assert (gray.bits, gray.pixels[..., 0].tolist()) == (16, [[0x102, 0x304]])
    (tmp_path / "deep.ppm").write_bytes(b"P6\n# made by hand\n1 1\n65535\n" + bytes([1, 2, 3, 4, 5, 6]))
    colour = read_picture(tmp_path / "deep.ppm")
    assert (colour.bits, colour.pixels[0, 0].tolist()) == (8, [1, 3, 5])
    (note,) = colour.notes
    assert "16-bit" in note


def test_a_folder_of_everything(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for suffix in ("jpg", "jfif", "bmp", "gif", "ppm"):
        saved(tmp_path, suffix)
    shutil.copy(tmp_path / "picture.bmp", tmp_path / "sub" / "no suffix")
    others = {"notes.txt": b"BMW and other cars, a text", "film.mp4": b"\0\0\0\x18ftypmp42" + bytes(20), "empty": b""}
    for name, data in others.items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / ".hidden.png").touch()
    (tmp_path / "text.png").write_text("not a picture, but its name says so")
    content = scan_folder(tmp_path)
    assert [path.suffix for path in content.pictures] == [".bmp", ".gif", ".jfif", ".jpg", ".ppm", ".png"]
    assert [path.name for path in content.others] == sorted(others)
    assert [path.name for path in scan_folder(tmp_path, recursive=True).pictures][-1:] == ["text.png"]
    assert tmp_path / "sub" / "no suffix" in scan_folder(tmp_path, recursive=True).pictures


@pytest.mark.parametrize(("count", "numbers"), [(0, []), (1, ["1"]), (5, ["5", "2"])])
def test_other_files_are_counted_and_the_first_named(count: int, numbers: list[str]) -> None:
    notes = note_about_others([Path(f"{index}.txt") for index in "abcdefgh"[:count]])
    assert len(notes) == bool(count)
    assert all(number in note for note in notes for number in numbers)


def test_results_have_names_of_their_own() -> None:
    names = ["a.png", "a.gif", "A.bmp", "b.JPG", "c.bmp", "c.avif", "noname"]
    results = result_names([Path(name) for name in names])
    assert [path.name for path in results] == names
    assert list(results.values()) == ["a.png", "a.gif.png", "A.bmp.png", "b.JPG", "c.png", "c.avif.png", "noname.png"]


def save_frames(path: Path, frames: int) -> None:
    images = [Image.fromarray(np.roll(gray_ramp(), index, 1)).convert("RGB") for index in range(frames)]
    images[0].save(path, save_all=True, append_images=images[1:])


@pytest.mark.parametrize("suffix", ["gif", "webp", "png", "avif", "tif"])
def test_animations_are_refused_and_never_read_in_part(tmp_path: Path, suffix: str) -> None:
    if suffix == "avif" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    path = tmp_path / f"animation.{suffix}"
    save_frames(path, 3)
    assert count_frames(path) == 3
    with raises(FrameError, found=3, wanted=1):
        read_picture(path)


def damage(content: bytes) -> dict[str, Callable[[], bytes]]:
    return {"half": lambda: content[: len(content) // 2], "head": lambda: content[:20]}


@pytest.mark.parametrize("kind", ["half", "head"])
@pytest.mark.parametrize("suffix", ["bmp", "gif", "ppm", "tga", "qoi", "pcx", "jp2", "avif", "webp"])
def test_damaged_files_of_any_format_are_refused_in_one_line(tmp_path: Path, suffix: str, kind: str) -> None:
    path = saved(tmp_path, suffix)
    path.write_bytes(damage(path.read_bytes())[kind]())
    with raises(FrameError, found=path) as caught:
        read_picture(path)
    assert "\n" not in str(caught.value)


def test_a_picture_in_another_format_than_its_suffix_says_is_read(tmp_path: Path) -> None:
    write_picture(tmp_path / "real.png", Picture(gray_ramp()[..., None]))
    (tmp_path / "real.png").rename(tmp_path / "wrong.jpg")
    np.testing.assert_array_equal(read_picture(tmp_path / "wrong.jpg").pixels[..., 0], gray_ramp())
