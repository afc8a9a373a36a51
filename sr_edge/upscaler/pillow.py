"""Images of Pillow as pictures; imported once there is one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sr_edge.errors import FrameError
from sr_edge.frames import Picture
from sr_edge.image_files import image_from_picture, picture_from_image
from sr_edge.upscaler.arrays import Conversion, only

Image = Any
"""An image of Pillow, which only `sr_edge.image_files` imports."""


def pictures_of_image(image: Image) -> Conversion:
    """The picture in a PIL image, read as `read_picture` reads a file.

    Raises:
        FrameError: As `picture_from_image`; or Pillow has no mode for the result.
    """
    picture = picture_from_image(image)
    if picture.bits == 16 and picture.alpha is not None:
        raise FrameError(
            "the image has 16-bit gray with a transparent level, for which PIL has no mode",
            found="16 bits with alpha",
            wanted="8 bits, or no transparency",
            remedy="give the path of the file, or an array",
        )

    def restore(results: Iterator[Picture]) -> Image:
        return image_from_picture(only(results), image)

    return Conversion([picture], restore)
