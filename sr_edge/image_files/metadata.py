"""Reads the metadata of picture files, without what no longer applies to the upright pixels."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from PIL import ExifTags, Image

from sr_edge.frames import PictureMetadata
from sr_edge.image_files.png_chunks import ancillary_chunks
from sr_edge.image_files.tiff.directory import Ifd, Tag

COLOUR_CHUNKS = (b"cICP", b"gAMA", b"cHRM", b"sRGB", b"mDCV", b"cLLI")
_TEXT_CHUNKS = (b"tEXt", b"zTXt", b"iTXt")
XMP_KEYWORD = b"XML:com.adobe.xmp"
_OTHER_FORMS = (XMP_KEYWORD, b"Raw profile type")
"""Texts that are read in another way: XMP, and the EXIF data and profiles of ImageMagick."""

_RESOLUTION_TAGS = frozenset((282, 283, 296))
_DESCRIPTIVE_TAGS = frozenset(
    (270, 271, 272, 305, 306, 315, 316, 18246, 18249, 33432, 40091, 40092, 40093, 40094, 40095)
)
"""Tags of the first directory that describe the picture: camera, software, date, author, title; not the layout."""

_INCHES_PER_UNIT = {2: 1.0, 3: 2.54}
_IPTC_RESOURCE = 0x0404
_IPTC_LEFT_OUT = "IPTC data is left out"
_DAMAGED_EXIF = "EXIF data is left out, because it is damaged"


def read_metadata(path: Path, image: Image.Image) -> tuple[PictureMetadata, list[str]]:
    """The metadata of a file that Pillow has opened, and notes about what is left out."""
    info = image.info
    exif, notes = _exif(image.getexif, _DESCRIPTIVE_TAGS | _RESOLUTION_TAGS)
    resources = info.get("photoshop")
    in_text = any(str(key).lower() == "raw profile type iptc" for key in info)
    if in_text or (isinstance(resources, dict) and _IPTC_RESOURCE in resources):
        notes.append(_IPTC_LEFT_OUT)
    xmp = info.get("xmp") or info.get(XMP_KEYWORD.decode()) or b""
    metadata = PictureMetadata(
        exif,
        _upright(xmp.encode() if isinstance(xmp, str) else xmp),
        _resolution(info.get("dpi", ())),
        info.get("comment") if image.format in ("JPEG", "MPO") else None,
        _described_in_chunks(path) if image.format == "PNG" else (),
    )
    return metadata, notes


def read_tiff_metadata(path: Path, ifd: Ifd) -> tuple[PictureMetadata, list[str]]:
    """The metadata of a TIFF file, and notes about what is left out."""
    exif, notes = _exif(lambda: _exif_of_tiff(path, ifd), _DESCRIPTIVE_TAGS)
    if Tag.IPTC in ifd.tags or b"8BIM" + _IPTC_RESOURCE.to_bytes(2, "big") in ifd.data(Tag.PHOTOSHOP):
        notes.append(_IPTC_LEFT_OUT)
    inches = _INCHES_PER_UNIT.get(ifd.number(Tag.RESOLUTION_UNIT, 2), 0.0)
    resolution = (*ifd.numbers(Tag.X_RESOLUTION), *ifd.numbers(Tag.Y_RESOLUTION))
    dpi = _resolution(tuple(value * inches for value in resolution))
    return PictureMetadata(exif, _upright(ifd.data(Tag.XMP)), dpi), notes


def _exif_of_tiff(path: Path, ifd: Ifd) -> Image.Exif:
    exif = Image.Exif()
    exif.endian = ifd.byte_order
    exif.bigtiff = ifd.is_big
    with path.open("rb") as file:
        exif.load_from_fp(file, ifd.offset)
        for directory in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo):
            exif.get_ifd(directory)
    return exif


def _exif(read: Callable[[], Image.Exif], tags: Collection[int]) -> tuple[bytes | None, list[str]]:
    """The tags that describe the picture, with those of exposure and position; None if there are none."""
    try:
        stored = read()
        kept = Image.Exif()
        for tag in set(stored) & set(tags):
            kept[tag] = stored[tag]
        for directory in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo):
            entries = {tag: value for tag, value in stored.get_ifd(directory).items() if tag != ExifTags.IFD.Interop}
            if entries:
                kept[directory] = entries
        return (kept.tobytes().removeprefix(b"Exif\0\0") if len(kept) else None), []
    except Exception:  # Pillow raises nearly anything for damaged EXIF data, without which the picture is still useful
        return None, [_DAMAGED_EXIF]


def _upright(xmp: bytes) -> bytes | None:
    """The packet with an orientation that says that the pixels are upright; None if it is empty."""
    return re.sub(rb'(tiff:Orientation(?:="|>))\d', rb"\g<1>1", xmp) or None


def _resolution(values: Any) -> tuple[float, float] | None:
    try:
        horizontal, vertical = (float(value) for value in values)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return (horizontal, vertical) if min(horizontal, vertical) > 0 and max(horizontal, vertical) < 1e6 else None


def _described_in_chunks(path: Path) -> tuple[tuple[bytes, bytes], ...]:
    return tuple(
        (kind, content)
        for kind, content in ancillary_chunks(path)
        if kind in COLOUR_CHUNKS or (kind in _TEXT_CHUNKS and not content.startswith(_OTHER_FORMS))
    )
