"""Picture files are read as they were written, and damaged ones are refused in one line."""

from __future__ import annotations

import errno
import resource
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageCms

from sr_edge.errors import FrameError
from sr_edge.frames import Picture
from sr_edge.image_files import MAX_PIXELS, list_pictures, read_picture, require_format_supports, write_picture
from sr_edge.image_files.formats import read_formats
from sr_edge.image_files.sixteen_bit import png_from_samples
from tests.expected_errors import raises
from tests.image_files.tiff_variants import TiffVariant

HEIGHT, WIDTH = 6, 9
UPRIGHT = np.arange(HEIGHT * WIDTH * 3, dtype=np.uint8).reshape(HEIGHT, WIDTH, 3)
LOSSLESS = [".png", ".tif", ".tiff", ".webp", ".PNG"]


def make_picture(bits: int, channels: int, alpha: bool, profile: bytes | None = None) -> Picture:
    rng = np.random.default_rng(bits + channels)
    dtype: type[np.unsignedinteger[Any]] = np.uint8 if bits == 8 else np.uint16
    pixels = rng.integers(0, 1 << bits, (HEIGHT, WIDTH, channels)).astype(dtype)
    return Picture(pixels, rng.integers(0, 1 << bits, (HEIGHT, WIDTH)).astype(dtype) if alpha else None, profile)


def srgb_profile() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def assert_same(actual: Picture, expected: Picture) -> None:
    np.testing.assert_array_equal(actual.pixels, expected.pixels)
    assert actual.pixels.dtype == expected.pixels.dtype
    assert (actual.alpha is None) == (expected.alpha is None)
    if actual.alpha is not None and expected.alpha is not None:
        np.testing.assert_array_equal(actual.alpha, expected.alpha)
    assert actual.icc_profile == expected.icc_profile


@pytest.mark.parametrize("suffix", LOSSLESS)
@pytest.mark.parametrize("alpha", [False, True])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("bits", [8, 16])
def test_lossless_formats_give_back_what_they_got(
    tmp_path: Path, bits: int, channels: int, alpha: bool, suffix: str
) -> None:
    path = tmp_path / f"picture{suffix}"
    picture = make_picture(bits, channels, alpha, srgb_profile() if channels == 3 else None)
    if bits == 16 and suffix == ".webp":
        with raises(FrameError, found="WEBP", wanted=["PNG", "TIFF"]):
            write_picture(path, picture)
        assert list(tmp_path.iterdir()) == []
        return
    write_picture(path, picture)
    decoded = read_picture(path)
    if suffix == ".webp" and channels == 1:
        picture = Picture(np.repeat(picture.pixels, 3, axis=2), picture.alpha)
    assert_same(decoded, picture)
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_is_near_and_keeps_gray_and_a_profile_that_fits(tmp_path: Path, channels: int) -> None:
    ramp = np.linspace(0, 255, 32 * 32 * channels).reshape(32, 32, channels).astype(np.uint8)
    picture = Picture(ramp, None, srgb_profile())
    write_picture(tmp_path / "ramp.jpg", picture)
    decoded = read_picture(tmp_path / "ramp.jpg")
    assert decoded.pixels.shape == picture.pixels.shape
    assert np.abs(decoded.pixels.astype(int) - ramp).max() <= 6
    assert decoded.icc_profile == (picture.icc_profile if channels == 3 else None)


@pytest.mark.parametrize(("bits", "alpha", "able"), [(16, False, ["PNG", "TIFF"]), (8, True, ["PNG", "TIFF", "WEBP"])])
def test_jpeg_refuses_what_it_would_lose_and_says_what_does_not(
    tmp_path: Path, bits: int, alpha: bool, able: list[str]
) -> None:
    with raises(FrameError, found="JPEG", wanted=able):
        write_picture(tmp_path / "picture.jpg", make_picture(bits, 3, alpha))
    assert list(tmp_path.iterdir()) == []


def test_sides_that_a_format_cannot_hold_are_refused_before_the_work(tmp_path: Path) -> None:
    strip = Picture(np.zeros((1, 9_000, 3), np.uint8))
    require_format_supports(tmp_path / "strip.webp", strip)
    with raises(FrameError, found=(2, 18_000), wanted=16_383):
        require_format_supports(tmp_path / "strip.webp", strip, scale=2)


def test_an_unknown_suffix_is_refused(tmp_path: Path) -> None:
    with raises(FrameError, found=".bmp", wanted=[".png", ".jpg", ".jpeg", ".jfif", ".jpe", ".tif", ".tiff", ".webp"]):
        write_picture(tmp_path / "picture.bmp", make_picture(8, 3, False))


STORED_BY_ORIENTATION = {
    1: UPRIGHT,
    2: UPRIGHT[:, ::-1],
    3: UPRIGHT[::-1, ::-1],
    4: UPRIGHT[::-1],
    5: UPRIGHT.transpose(1, 0, 2),
    6: UPRIGHT.transpose(1, 0, 2)[::-1],
    7: UPRIGHT.transpose(1, 0, 2)[::-1, ::-1],
    8: UPRIGHT.transpose(1, 0, 2)[:, ::-1],
}


@pytest.mark.parametrize("orientation", STORED_BY_ORIENTATION)
@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp"])
def test_8_bit_pixels_are_turned_upright(tmp_path: Path, suffix: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"turned{suffix}"
    stored = Image.fromarray(np.ascontiguousarray(STORED_BY_ORIENTATION[orientation]))
    stored.save(path, exif=exif, lossless=True)
    np.testing.assert_array_equal(read_picture(path).pixels, UPRIGHT)


@pytest.mark.parametrize("orientation", STORED_BY_ORIENTATION)
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_16_bit_pixels_are_turned_upright(tmp_path: Path, suffix: str, orientation: int) -> None:
    stored = np.ascontiguousarray(STORED_BY_ORIENTATION[orientation]).astype(np.uint16) * 257
    path = tmp_path / f"turned{suffix}"
    path.write_bytes(turned_png(stored, orientation) if suffix == ".png" else turned_tiff(stored, orientation))
    np.testing.assert_array_equal(read_picture(path).pixels, UPRIGHT.astype(np.uint16) * 257)


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def turned_png(samples: npt.NDArray[np.uint16], orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    plain = png_from_samples(samples)
    after_header = 8 + 25
    body = exif.tobytes().removeprefix(b"Exif\0\0")
    return plain[:after_header] + png_chunk(b"eXIf", body) + plain[after_header:]


def turned_tiff(samples: npt.NDArray[np.uint16], orientation: int) -> bytes:
    return TiffVariant(samples, photometric=2, tags={274: (3, [orientation])}).encoded()


@pytest.mark.parametrize("transparent", [False, True])
def test_palettes_become_rgb(tmp_path: Path, transparent: bool) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putdata([0, 1])
    if transparent:
        image.info["transparency"] = 1
    image.save(tmp_path / "palette.png")
    decoded = read_picture(tmp_path / "palette.png")
    np.testing.assert_array_equal(decoded.pixels, [[[10, 20, 30], [40, 50, 60]]])
    assert (decoded.alpha is not None) == transparent
    if decoded.alpha is not None:
        np.testing.assert_array_equal(decoded.alpha, [[255, 0]])


def test_one_bit_pictures_become_gray(tmp_path: Path) -> None:
    Image.fromarray(np.array([[True, False]])).save(tmp_path / "fax.tif")
    np.testing.assert_array_equal(read_picture(tmp_path / "fax.tif").pixels, [[[255], [0]]])


def test_cmyk_becomes_rgb_without_the_profile_that_no_longer_fits(tmp_path: Path) -> None:
    Image.new("CMYK", (8, 8), (0, 0, 0, 255)).save(tmp_path / "print.jpg", icc_profile=b"profile of a press")
    decoded = read_picture(tmp_path / "print.jpg")
    assert decoded.pixels.shape == (8, 8, 3)
    assert decoded.pixels.max() <= 2
    assert decoded.icc_profile is None


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".webp"])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.95])
def test_a_file_that_was_cut_short_is_refused(tmp_path: Path, suffix: str, share: float) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3)).astype(np.uint8)
    path = tmp_path / f"cut{suffix}"
    write_picture(path, Picture(noise))
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with raises(FrameError, found=path):
        read_picture(path)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.95])
def test_a_16_bit_file_that_was_cut_short_is_refused(tmp_path: Path, suffix: str, share: float) -> None:
    noise = np.random.default_rng(0).integers(0, 65536, (40, 40, 3)).astype(np.uint16)
    path = tmp_path / f"cut{suffix}"
    write_picture(path, Picture(noise))
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with raises(FrameError, found=path):
        read_picture(path)


def test_a_missing_file_a_folder_an_empty_and_a_foreign_file_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("not a picture")
    (tmp_path / "other.png").write_bytes(b"BM" + bytes(100))
    for name, found, wanted in (
        ("missing.png", tmp_path / "missing.png", "an existing file"),
        ("folder.png", tmp_path / "folder.png", "a picture file"),
        ("empty.png", 0, "at least one byte"),
        ("text.png", tmp_path / "text.png", read_formats()),
        ("other.png", tmp_path / "other.png", "a complete picture"),
    ):
        with raises(FrameError, found=found, wanted=wanted) as caught:
            read_picture(tmp_path / name)
        assert name in str(caught.value)


@pytest.mark.parametrize(("width", "height"), [(MAX_PIXELS + 1, 1), (1 << 20, 1 << 20)])
def test_a_small_file_that_claims_a_huge_picture_is_refused_unread(tmp_path: Path, width: int, height: int) -> None:
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    bomb = b"\x89PNG\r\n\x1a\n" + header + png_chunk(b"IDAT", zlib.compress(bytes(100))) + png_chunk(b"IEND", b"")
    (tmp_path / "bomb.png").write_bytes(bomb)
    with raises(FrameError, found=width * height, wanted=MAX_PIXELS) as caught:
        read_picture(tmp_path / "bomb.png")
    assert "bomb.png" in str(caught.value)


def test_a_picture_without_pixels_is_refused(tmp_path: Path) -> None:
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 0, 3, 8, 2, 0, 0, 0))
    (tmp_path / "none.png").write_bytes(b"\x89PNG\r\n\x1a\n" + header + png_chunk(b"IEND", b""))
    with raises(FrameError, found=tmp_path / "none.png"):
        read_picture(tmp_path / "none.png")


def test_a_file_of_several_pictures_is_refused_instead_of_choosing_one(tmp_path: Path) -> None:
    pages = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    pages[0].save(tmp_path / "pages.tif", save_all=True, append_images=pages[1:])
    with raises(FrameError, found=2, wanted=1):
        read_picture(tmp_path / "pages.tif")


def test_of_a_telephone_file_with_a_second_picture_the_first_is_read(tmp_path: Path) -> None:
    pictures = [Image.new("L", (8, 8), level) for level in (200, 10)]
    pictures[0].save(tmp_path / "phone.jpg", "MPO", save_all=True, append_images=pictures[1:])
    np.testing.assert_array_equal(read_picture(tmp_path / "phone.jpg").pixels, np.full((8, 8, 1), 200))


@pytest.mark.parametrize("channels", [1, 3])
def test_a_level_or_colour_that_a_16_bit_png_declares_transparent_becomes_alpha(tmp_path: Path, channels: int) -> None:
    after_header = 8 + 25
    samples = np.arange(1, 1 + 4 * channels, dtype=np.uint16).reshape(1, 4, channels)
    key = png_chunk(b"tRNS", samples[0, 0].astype(">u2").tobytes())
    plain = png_from_samples(samples)
    (tmp_path / "key.png").write_bytes(plain[:after_header] + key + plain[after_header:])
    decoded = read_picture(tmp_path / "key.png")
    np.testing.assert_array_equal(decoded.pixels, samples)
    assert decoded.alpha is not None
    np.testing.assert_array_equal(decoded.alpha, [[0, 65535, 65535, 65535]])


@contextmanager
def files_of_at_most(size_bytes: int) -> Iterator[None]:
    """Limits the size of files, as on a disk that is nearly full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("bits", [8, 16])
def test_a_file_that_cannot_be_finished_leaves_the_old_one_and_nothing_else(tmp_path: Path, bits: int) -> None:
    path = tmp_path / "picture.png"
    old = make_picture(8, 3, False)
    write_picture(path, old)
    with files_of_at_most(64), raises(FrameError, found=path) as caught:
        write_picture(path, make_picture(bits, 1, False))
    assert isinstance(caught.value.__cause__, OSError)
    assert caught.value.__cause__.errno == errno.EFBIG
    assert [entry.name for entry in tmp_path.iterdir()] == ["picture.png"]
    assert_same(read_picture(path), old)


def test_an_interrupt_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(image: Image.Image, file: Any, *_positional: object, **_named: object) -> None:
        file.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(Image.Image, "save", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_picture(tmp_path / "picture.png", make_picture(8, 3, False))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    with raises(FrameError, found=tmp_path / "missing" / "picture.png"):
        write_picture(tmp_path / "missing" / "picture.png", make_picture(8, 3, False))
    with raises(FrameError, found=tmp_path / "missing", wanted="a folder"):
        list_pictures(tmp_path / "missing")


def test_only_pictures_are_listed_in_the_order_of_their_names(tmp_path: Path) -> None:
    for name in ("b.JPG", "a.png", "notes.txt", ".hidden.png", "c.webp"):
        (tmp_path / name).touch()
    (tmp_path / "sub.png").mkdir()
    (tmp_path / "sub.png" / "d.tif").touch()
    assert [path.name for path in list_pictures(tmp_path)] == ["a.png", "b.JPG", "c.webp"]
    assert [path.name for path in list_pictures(tmp_path, recursive=True)] == ["a.png", "b.JPG", "c.webp", "d.tif"]


def test_the_16_bit_sample_with_alpha_and_profile_is_read_whole(shared_data: Path, tmp_path: Path) -> None:
    picture = read_picture(shared_data / "samples" / "rgba_16bit.png")
    assert picture.bits == 16
    assert picture.alpha is not None
    assert picture.icc_profile
    for suffix in (".png", ".tif"):
        write_picture(tmp_path / f"copy{suffix}", picture)
        assert_same(read_picture(tmp_path / f"copy{suffix}"), picture)
