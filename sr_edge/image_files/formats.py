"""The picture formats that are read and those that are written, and how pictures are recognised among other files."""

from __future__ import annotations

import warnings
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from PIL import Image

_READ_FORMATS = (
    "PNG",
    "JPEG",
    "TIFF",
    "WEBP",
    "BMP",
    "GIF",
    "AVIF",
    "JPEG2000",
    "PPM",
    "TGA",
    "HEIF",
    "MPO",
    "DIB",
    "QOI",
    "PCX",
    "SGI",
    "ICO",
)
"""Pillow's names. Its other formats run a program (EPS), are not pictures of pixels, or are read in part only."""

_WITHOUT_SIGNATURE = ("TGA",)
"""Formats that only the suffix tells from other data."""

_SIGNATURE_BYTES = 16
_PACKAGE_OF_SUFFIX = {".heic": "pillow-heif", ".heif": "pillow-heif"}


@dataclass(frozen=True)
class WrittenFormat:
    """The capabilities of a file format, and Pillow's options for writing it.

    The options keep the most quality that the format allows, with a low compression effort: the default effort of PNG
    and of lossless WebP takes 2 and 9 times as long for files that are 15 % smaller.
    """

    name: str
    suffixes: tuple[str, ...]
    bits: tuple[int, ...]
    alpha: bool
    longest_edge_px: int
    save_options: tuple[tuple[str, int | str | bool], ...]


WRITTEN_FORMATS = (
    WrittenFormat("PNG", (".png",), (8, 16), True, 2**31 - 1, (("compress_level", 3),)),
    WrittenFormat(
        "JPEG", (".jpg", ".jpeg", ".jfif", ".jpe"), (8,), False, 65_500, (("quality", 95), ("subsampling", 0))
    ),
    WrittenFormat("TIFF", (".tif", ".tiff"), (8, 16), True, 2**31 - 1, ()),
    WrittenFormat("WEBP", (".webp",), (8,), True, 16_383, (("lossless", True), ("exact", True), ("method", 0))),
)
WRITTEN_FORMAT_OF_SUFFIX = {suffix: form for form in WRITTEN_FORMATS for suffix in form.suffixes}


@cache
def read_formats() -> tuple[str, ...]:
    """Pillow's names of the formats that this installation reads; HEIF only with the package pillow-heif."""
    Image.init()
    with suppress(ImportError):
        from pillow_heif import register_heif_opener  # type: ignore[import-not-found]

        register_heif_opener()
    return tuple(name for name in _READ_FORMATS if name in Image.OPEN)


@cache
def read_suffixes() -> frozenset[str]:
    """The suffixes of the formats that this installation reads, in lower case."""
    formats = read_formats()
    return frozenset(suffix for suffix, name in Image.registered_extensions().items() if name in formats)


def is_picture(path: Path) -> bool:
    """Whether the file is read as a picture: its suffix is that of a picture format, or its content is one.

    A damaged picture with such a suffix is a picture, so that its damage is reported. A file that does not exist is
    judged by its suffix.
    """
    if path.suffix.lower() in read_suffixes():
        return True
    if not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            signature = file.read(_SIGNATURE_BYTES)
        if len(signature) < _SIGNATURE_BYTES:
            return False
        candidates = [name for name in read_formats() if name not in _WITHOUT_SIGNATURE and _begins(name, signature)]
        return bool(candidates) and _opens(path, candidates)
    except OSError:
        return False


def missing_package(path: Path) -> str | None:
    """The package that must be installed to read a file with this suffix; None for all other files."""
    suffix = path.suffix.lower()
    return None if suffix in read_suffixes() else _PACKAGE_OF_SUFFIX.get(suffix)


def _begins(name: str, signature: bytes) -> bool:
    accepts = Image.OPEN[name][1]
    return accepts is not None and accepts(signature) is True


def _opens(path: Path, candidates: list[str]) -> bool:
    """Whether Pillow can read the header, which a text that begins like a picture does not have."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path, formats=candidates):
                return True
    except Exception:  # a decoder may raise anything for a file that is not of its format
        return False


def has_picture_name(path: Path) -> bool:
    """Whether the suffix, in upper or lower case, is that of a picture format that can be written."""
    return path.suffix.lower() in WRITTEN_FORMAT_OF_SUFFIX


def result_name(source: Path) -> str:
    """The name of the result of a picture: its own, or that of a PNG file if its format cannot be written."""
    return source.name if has_picture_name(source) else f"{source.stem}.png"
