"""EXIF data, XMP, resolution and colour chunks are kept where the format can store them; the rest is named."""

from __future__ import annotations

import dataclasses
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageCms, PngImagePlugin

from sr_edge.frames import Picture
from sr_edge.image_files import read_picture, write_picture
from sr_edge.image_files.png_chunks import ancillary_chunks, with_chunks
from tests.image_files.tiff_variants import TiffVariant

HEIGHT, WIDTH = 6, 10
SUFFIXES = [".png", ".jpg", ".tif", ".webp"]
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6" dc:title="harbour"/></x:xmpmeta>'
GAMMA = struct.pack(">I", 100_000)
PRIMARIES = struct.pack(">8I", 31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000)
CICP = bytes([9, 16, 0, 1])


def photograph_exif() -> Image.Exif:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    exif[ExifTags.Base.Make] = "Maker"
    exif[ExifTags.Base.DateTime] = "2026:05:04 03:02:01"
    exif[ExifTags.IFD.Exif] = {
        ExifTags.Base.DateTimeOriginal: "2026:05:04 03:02:00",
        ExifTags.Base.ExifImageWidth: WIDTH,
        ExifTags.Base.ExifImageHeight: HEIGHT,
    }
    exif[ExifTags.IFD.GPSInfo] = {ExifTags.GPS.GPSLatitudeRef: "N", ExifTags.GPS.GPSLatitude: (48.0, 51.0, 30.0)}
    return exif


def save_photograph(path: Path) -> None:
    options: dict[str, Any] = {"exif": photograph_exif(), "xmp": XMP, "dpi": (300, 300)}
    if path.suffix == ".png":
        options["pnginfo"] = PngImagePlugin.PngInfo()
        options["pnginfo"].add_itxt("XML:com.adobe.xmp", options.pop("xmp").decode())
    if path.suffix == ".tif":
        options["exif"][700] = options.pop("xmp")
        options["exif"] = options["exif"].tobytes()
    noise = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3)).astype(np.uint8)
    Image.fromarray(noise).save(path, **options)


def xmp_of(image: Image.Image) -> bytes:
    xmp = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp") or b""
    return xmp.encode() if isinstance(xmp, str) else bytes(xmp)


@pytest.mark.parametrize("target", SUFFIXES)
@pytest.mark.parametrize("source", SUFFIXES)
def test_a_photograph_keeps_date_place_camera_and_resolution_and_is_upright(
    tmp_path: Path, source: str, target: str
) -> None:
    save_photograph(tmp_path / f"in{source}")
    picture = read_picture(tmp_path / f"in{source}")
    assert (picture.height, picture.width) == (WIDTH, HEIGHT)
    larger = dataclasses.replace(picture, pixels=picture.pixels.repeat(2, 0).repeat(2, 1))
    notes = write_picture(tmp_path / f"out{target}", larger)
    with Image.open(tmp_path / f"out{target}") as written:
        exif = written.getexif()
        assert exif.get(ExifTags.Base.Orientation, 1) == 1
        assert exif[ExifTags.Base.Make] == "Maker"
        assert exif[ExifTags.Base.DateTime] == "2026:05:04 03:02:01"
        details = exif.get_ifd(ExifTags.IFD.Exif)
        assert details[ExifTags.Base.DateTimeOriginal] == "2026:05:04 03:02:00"
        assert (details[ExifTags.Base.ExifImageWidth], details[ExifTags.Base.ExifImageHeight]) == (
            2 * HEIGHT,
            2 * WIDTH,
        )
        assert exif.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitude] == (48.0, 51.0, 30.0)
        assert b'tiff:Orientation="1"' in xmp_of(written) and b"harbour" in xmp_of(written)
        if target == ".webp":
            assert bool(notes) == (source != ".webp")  # Pillow finds no resolution in a WebP file
        else:
            assert notes == ()
            if source != ".webp":
                assert written.info["dpi"] == pytest.approx((300, 300), abs=0.1)


def png_with(path: Path, pixels: Any, *chunks: tuple[bytes, bytes]) -> None:
    write_picture(path, Picture(pixels))
    path.write_bytes(with_chunks(path.read_bytes(), chunks))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_chunks_about_colours_and_texts_are_kept_in_png(tmp_path: Path, dtype: type[np.generic]) -> None:
    chunks = ((b"cICP", CICP), (b"gAMA", GAMMA), (b"cHRM", PRIMARIES), (b"tEXt", b"Author\0somebody"))
    png_with(tmp_path / "in.png", np.zeros((4, 5, 3), dtype), *chunks)
    assert write_picture(tmp_path / "out.png", read_picture(tmp_path / "in.png")) == ()
    written = dict(ancillary_chunks(tmp_path / "out.png"))
    assert {kind: written[kind] for kind, _ in chunks} == dict(chunks)
    with Image.open(tmp_path / "out.png") as written_image:
        written_image.load()


@pytest.mark.parametrize("suffix", [".jpg", ".tif", ".webp"])
def test_what_another_format_cannot_store_is_named(tmp_path: Path, suffix: str) -> None:
    chunks = ((b"cICP", CICP), (b"gAMA", GAMMA), (b"tEXt", b"Author\0somebody"))
    png_with(tmp_path / "in.png", np.zeros((4, 5, 3), np.uint8), *chunks)
    (note,) = write_picture(tmp_path / f"out{suffix}", read_picture(tmp_path / "in.png"))
    assert all(name in note for name in ("cICP", "gAMA", "text"))


def test_gamma_beside_srgb_is_no_loss(tmp_path: Path) -> None:
    png_with(tmp_path / "in.png", np.zeros((4, 5, 3), np.uint8), (b"sRGB", b"\0"), (b"gAMA", struct.pack(">I", 45455)))
    assert write_picture(tmp_path / "out.jpg", read_picture(tmp_path / "in.png")) == ()


def profile_for(space: bytes) -> bytes:
    """The header of a profile for a colour space; its contents are those of sRGB and thus of no use for others."""
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return srgb[:16] + space + srgb[20:]


@pytest.mark.parametrize(
    ("mode", "space", "is_kept"),
    [
        ("RGB", b"RGB ", True),
        ("RGB", b"CMYK", False),
        ("RGB", b"Lab ", False),
        ("L", b"GRAY", True),
        ("L", b"RGB ", False),
        ("CMYK", b"CMYK", False),
        ("P", b"RGB ", True),
    ],
)
@pytest.mark.parametrize("suffix", [".jpg", ".tif", ".png"])
def test_a_profile_is_kept_only_if_it_fits_the_pixels(
    tmp_path: Path, suffix: str, mode: str, space: bytes, is_kept: bool
) -> None:
    if (suffix, mode) in ((".png", "CMYK"), (".jpg", "P")):
        pytest.skip(f"{suffix} has no {mode}")
    profile = profile_for(space)
    Image.new(mode, (8, 8)).save(tmp_path / f"in{suffix}", icc_profile=profile)
    picture = read_picture(tmp_path / f"in{suffix}")
    assert picture.icc_profile == (profile if is_kept else None)
    assert bool(picture.notes) != is_kept


def profile_of_a_press() -> bytes:
    """A CMYK profile (ICC.1:2001, lut8Type) whose inks are gray: each darkens the paper by a quarter."""
    identity = bytes(range(256))
    corners = b"".join(bytes([255 - 255 * bin(ink).count("1") // 4, 128, 128]) for ink in range(16))
    matrix = struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 65536)
    table = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + matrix + identity * 4 + corners + identity * 3
    white = b"XYZ " + bytes(4) + struct.pack(">3i", 63190, 65536, 54061)
    tags = [(b"A2B0", table), (b"wtpt", white)]
    at = 128 + 4 + 12 * len(tags)
    places = [at + sum(len(data) for _, data in tags[:index]) for index in range(len(tags))]
    directory = b"".join(
        struct.pack(">4sII", name, place, len(data)) for (name, data), place in zip(tags, places, strict=True)
    )
    header = struct.pack(
        ">I4sI4s4s4s12s4s",
        at + sum(len(data) for _, data in tags),
        b"",
        0x02400000,
        b"prtr",
        b"CMYK",
        b"Lab ",
        b"",
        b"acsp",
    )
    header = header.ljust(68, b"\0") + struct.pack(">3i", 63190, 65536, 54061)
    return header.ljust(128, b"\0") + struct.pack(">I", len(tags)) + directory + b"".join(data for _, data in tags)


@pytest.mark.parametrize("suffix", [".jpg", ".tif"])
def test_cmyk_is_converted_with_its_profile(tmp_path: Path, suffix: str) -> None:
    press = profile_of_a_press()
    for inks, levels in (((0, 0, 0, 0), (250, 255)), ((255, 255, 255, 255), (0, 3)), ((255, 0, 0, 0), (170, 200))):
        Image.new("CMYK", (8, 8), inks).save(tmp_path / f"in{suffix}", icc_profile=press)
        picture = read_picture(tmp_path / f"in{suffix}")
        assert picture.icc_profile is None
        assert levels[0] <= picture.pixels.min() <= picture.pixels.max() <= levels[1]
        assert "with its colour profile" in picture.notes[0]


def test_a_note_says_that_a_tiff_of_cmyk_was_converted(tmp_path: Path) -> None:
    inks = np.zeros((4, 4, 4), np.uint8)
    inks[..., 0] = 255
    (tmp_path / "print.tif").write_bytes(TiffVariant(inks, photometric=5).encoded())
    picture = read_picture(tmp_path / "print.tif")
    assert picture.pixels[0, 0].tolist() == [0, 255, 255]
    assert "CMYK" in picture.notes[0]


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
def test_damaged_exif_data_does_no_harm_and_is_mentioned(tmp_path: Path, suffix: str) -> None:
    exif = bytearray(photograph_exif().tobytes())
    exif[20:60] = bytes([255]) * 40
    Image.new("RGB", (8, 8)).save(tmp_path / f"in{suffix}", exif=bytes(exif))
    picture = read_picture(tmp_path / f"in{suffix}")
    write_picture(tmp_path / f"out{suffix}", picture)
    assert (picture.height, picture.width) == (8, 8)


def test_a_comment_and_iptc_data_are_kept_or_named(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "in.jpg", comment=b"by the sea")
    picture = read_picture(tmp_path / "in.jpg")
    assert write_picture(tmp_path / "out.jpg", picture) == ()
    with Image.open(tmp_path / "out.jpg") as written:
        assert written.info["comment"] == b"by the sea"
    (note,) = write_picture(tmp_path / "out.png", picture)
    assert "comment" in note
    tagged = TiffVariant(np.zeros((4, 4, 3), np.uint8), photometric=2, tags={33723: (7, [28, 2, 5])})
    (tmp_path / "tagged.tif").write_bytes(tagged.encoded())
    (note,) = read_picture(tmp_path / "tagged.tif").notes
    assert "IPTC" in note
