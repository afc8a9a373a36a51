"""Writes pictures as PNG, JPEG, TIFF or WebP, with the metadata that the format can store."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from sr_edge.errors import FrameError
from sr_edge.files.whole_file import whole_file
from sr_edge.frames import Picture, PictureMetadata
from sr_edge.image_files.formats import WRITTEN_FORMAT_OF_SUFFIX, WRITTEN_FORMATS, WrittenFormat
from sr_edge.image_files.kept_metadata import storable
from sr_edge.image_files.metadata import XMP_KEYWORD
from sr_edge.image_files.png_chunks import with_chunks
from sr_edge.image_files.sixteen_bit import png_from_samples
from sr_edge.image_files.tiff.write import tiff_from_picture

_KEPT_INFO = ("exif", "xmp", "dpi")
_INCHES_PER_METRE = 1 / 0.0254


def require_format_supports(path: Path, picture: Picture, scale: int = 1) -> None:
    """Checks before the work that the format of `path` can store `picture`, upscaled `scale` times.

    Args:
        path: The file to write; its suffix names the format.
        picture: The picture before upscaling.
        scale: Magnification.

    Raises:
        FrameError: an unknown suffix, or a bit depth, alpha channel or size that the format does not support.
    """
    form = WRITTEN_FORMAT_OF_SUFFIX.get(path.suffix.lower())
    if form is None:
        raise FrameError(
            f"cannot write {path}: {path.suffix!r} is not the suffix of a supported picture format",
            found=path.suffix,
            wanted=list(WRITTEN_FORMAT_OF_SUFFIX),
            remedy=f"choose one of: {' '.join(WRITTEN_FORMAT_OF_SUFFIX)}",
        )
    has_alpha = picture.alpha is not None
    needed = f"{picture.bits}-bit {'gray' if picture.is_gray else 'RGB'}{' with alpha' if has_alpha else ''}"
    able = [other.name for other in WRITTEN_FORMATS if picture.bits in other.bits and (other.alpha or not has_alpha)]
    if form.name not in able:
        raise FrameError(
            f"{form.name} cannot store {needed} samples, which {path} would need",
            found=form.name,
            wanted=able,
            remedy=f"write {' or '.join(able)}",
        )
    height, width = picture.height * scale, picture.width * scale
    if max(height, width) > form.longest_edge_px:
        raise FrameError(
            f"{path} would be {width}x{height} pixels, but {form.name} allows at most {form.longest_edge_px} in height "
            "and width",
            found=(height, width),
            wanted=form.longest_edge_px,
            remedy="write PNG",
        )


def write_picture(path: Path, picture: Picture) -> tuple[str, ...]:
    """Writes one picture in the format of the suffix, losslessly except for JPEG (quality 95, 4:4:4).

    The file is complete or not written at all. A gray picture becomes RGB in WebP, which has no gray.

    Args:
        path: The file to write; its suffix names the format.
        picture: The picture.

    Returns:
        Notes about metadata that the format cannot store.

    Raises:
        FrameError: The format cannot store the picture, or the file cannot be written.
    """
    require_format_supports(path, picture)
    form = WRITTEN_FORMAT_OF_SUFFIX[path.suffix.lower()]
    kept, notes = storable(form.name, picture)
    try:
        with whole_file(path) as unfinished, unfinished.open("wb") as file:
            file.write(_encoded(form, kept))
    except (OSError, ValueError, struct.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise FrameError(
            f"cannot write {path}: {reason}",
            found=path,
            remedy="check the folder, its permissions and the free space",
        ) from error
    return tuple(notes)


def image_from_picture(picture: Picture, like: Image.Image | None = None) -> Image.Image:
    """A picture as an image of Pillow, in the mode L, LA, RGB, RGBA or I;16.

    Args:
        picture: 8 bits, or 16 bits and gray without alpha: Pillow has no mode for other pictures of 16 bits.
        like: The image whose EXIF data, XMP packet and resolution the result gets, without the orientation, because
            pictures are upright. For an image in the mode I the result is in that mode.

    Raises:
        FrameError: Pillow has no mode for the picture.
    """
    samples = picture.pixels if picture.alpha is None else np.dstack([picture.pixels, picture.alpha])
    if picture.bits == 16 and samples.shape[2] != 1:
        raise FrameError(
            "PIL has no mode for 16-bit colour or 16-bit alpha",
            found=picture.bits,
            wanted=8,
            remedy="write the picture with `write_picture`, or use its array",
        )
    image = _image(samples.astype(np.int32) if like is not None and like.mode == "I" else samples)
    if like is not None:
        upright = ImageOps.exif_transpose(like)
        image.info |= {key: upright.info[key] for key in _KEPT_INFO if key in upright.info}
    if picture.icc_profile:
        image.info["icc_profile"] = picture.icc_profile
    return image


def _image(samples: npt.NDArray[np.integer]) -> Image.Image:
    """Samples (height, width, 1 gray, 2 gray and alpha, 3 RGB or 4 RGBA) as an image of Pillow."""
    return Image.fromarray(samples[..., 0] if samples.shape[2] == 1 else samples)


def jpeg_from_frame(frame_hwc: npt.NDArray[np.uint8]) -> bytes:
    """Encodes (height, width, 3) RGB or (height, width, 1) gray as JPEG (quality 95, 4:4:4) in memory."""
    return _encoded(WRITTEN_FORMAT_OF_SUFFIX[".jpg"], Picture(frame_hwc))


def png_from_frame(frame_hwc: npt.NDArray[np.uint8]) -> bytes:
    """Encodes (height, width, 3) RGB or (height, width, 1) gray as PNG in memory."""
    return _encoded(WRITTEN_FORMAT_OF_SUFFIX[".png"], Picture(frame_hwc))


def _encoded(form: WrittenFormat, picture: Picture) -> bytes:
    if form.name == "TIFF":
        return tiff_from_picture(picture)
    samples = picture.pixels if picture.alpha is None else np.dstack([picture.pixels, picture.alpha])
    if form.name == "PNG":
        deep = picture.bits == 16
        png = png_from_samples(samples.astype(np.uint16, copy=False), picture.icc_profile) if deep else None
        return with_chunks(png or _encoded_by_pillow(form, samples, picture, {}), _chunks(picture.metadata))
    metadata = picture.metadata
    options: dict[str, object] = {"exif": b"Exif\0\0" + metadata.exif} if metadata.exif else {}
    options |= {"xmp": metadata.xmp} if metadata.xmp else {}
    options |= {"comment": metadata.comment} if metadata.comment else {}
    options |= {"dpi": metadata.dpi} if metadata.dpi else {}
    return _encoded_by_pillow(form, samples, picture, options)


def _encoded_by_pillow(
    form: WrittenFormat, samples: npt.NDArray[np.unsignedinteger], picture: Picture, options: dict[str, object]
) -> bytes:
    file = io.BytesIO()
    _image(samples).save(file, form.name, icc_profile=picture.icc_profile, **dict(form.save_options), **options)
    return file.getvalue()


def _chunks(metadata: PictureMetadata) -> list[tuple[bytes, bytes]]:
    chunks = list(metadata.png_chunks)
    if metadata.dpi:
        per_metre = [round(value * _INCHES_PER_METRE) for value in metadata.dpi]
        chunks.append((b"pHYs", struct.pack(">IIB", *per_metre, 1)))
    if metadata.exif:
        chunks.append((b"eXIf", metadata.exif))
    if metadata.xmp:
        chunks.append((b"iTXt", XMP_KEYWORD + bytes(5) + metadata.xmp))
    return chunks
