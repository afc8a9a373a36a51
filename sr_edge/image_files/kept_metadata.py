"""Which metadata a format can store, in the form in which it is written."""

from __future__ import annotations

from dataclasses import replace

from PIL import ExifTags, Image

from sr_edge.frames import NO_METADATA, Picture, PictureMetadata
from sr_edge.image_files.metadata import COLOUR_CHUNKS

_LARGEST_JPEG_SEGMENT_BYTES = 65_500
_SRGB = b"sRGB"


def storable(format_name: str, picture: Picture) -> tuple[Picture, list[str]]:
    """The picture with the metadata that a format can store, and a note that names the rest."""
    metadata, lost = picture.metadata, []
    if metadata is NO_METADATA and picture.icc_profile is None:
        return picture, []
    metadata = replace(metadata, exif=_exif_of_size(metadata.exif, picture.height, picture.width))
    if format_name != "PNG":
        lost += _names_of_chunks(metadata)
        metadata = replace(metadata, png_chunks=())
    if format_name != "JPEG" and metadata.comment:
        lost.append("the comment")
        metadata = replace(metadata, comment=None)
    if format_name == "JPEG" and len(metadata.exif or b"") > _LARGEST_JPEG_SEGMENT_BYTES:
        lost.append("EXIF data of more than 64 KB")
        metadata = replace(metadata, exif=None)
    if format_name == "JPEG" and len(metadata.xmp or b"") > _LARGEST_JPEG_SEGMENT_BYTES:
        lost.append("XMP data of more than 64 KB")
        metadata = replace(metadata, xmp=None)
    if format_name == "WEBP" and metadata.dpi:
        lost.append("the resolution")
        metadata = replace(metadata, dpi=None)
    # The pixels of a gray picture become RGB in WebP, which a profile for gray does not fit.
    profile = None if format_name == "WEBP" and picture.is_gray else picture.icc_profile
    if profile != picture.icc_profile:
        lost.append("the colour profile for gray")
    notes = [f"{format_name} cannot store {', '.join(lost)}"] if lost else []
    return replace(picture, metadata=metadata, icc_profile=profile), notes


def _names_of_chunks(metadata: PictureMetadata) -> list[str]:
    """The PNG chunks whose loss changes something; without them, sRGB is assumed."""
    kinds = [kind for kind, _ in metadata.png_chunks]
    lost = [kind for kind in COLOUR_CHUNKS if kind in kinds and kind != _SRGB]
    if _SRGB in kinds:  # gamma and chromaticities only repeat what it says
        lost = [kind for kind in lost if kind not in (b"gAMA", b"cHRM")]
    names = [kind.decode() for kind in lost]
    return [*names, "text"] if any(kind not in COLOUR_CHUNKS for kind in kinds) else names


def _exif_of_size(exif_data: bytes | None, height: int, width: int) -> bytes | None:
    """The EXIF data with the size of the picture, if it states one."""
    if exif_data is None:
        return None
    exif = Image.Exif()
    exif.load(exif_data)
    entries = dict(exif.get_ifd(ExifTags.IFD.Exif))
    sizes = {ExifTags.Base.ExifImageWidth: width, ExifTags.Base.ExifImageHeight: height}
    if not entries.keys() & sizes.keys():
        return exif_data
    exif[ExifTags.IFD.Exif] = entries | sizes
    return exif.tobytes().removeprefix(b"Exif\0\0")
