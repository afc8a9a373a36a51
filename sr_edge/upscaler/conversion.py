"""Recognises what a user gave as a picture, without importing PyTorch or Pillow for it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from sr_edge.channels import frame_of
from sr_edge.errors import FrameError, UnknownNameError, UsageError
from sr_edge.frames import Picture
from sr_edge.upscaler.arrays import ORDERS, Conversion, only, pictures_of_array
from sr_edge.upscaler.tensors import pictures_of_tensor


def require_order(order: str) -> None:
    """Raises UnknownNameError unless `order` is an order of channels."""
    if order not in ORDERS:
        raise UnknownNameError("order of channels", str(order), list(ORDERS))


def convert(picture: object, order: str = "rgb") -> Conversion:
    """The pictures in what a user gave, and the function that makes the same kind of the results.

    Args:
        picture: An array, a PIL image, a tensor, a path or a `Picture`.
        order: "rgb", or "bgr" for arrays and tensors.

    Raises:
        FrameError: It is not a picture.
        UsageError: The order was given for a kind that has its own.
    """
    if isinstance(picture, np.ndarray):
        return pictures_of_array(picture, order)
    if _is_loaded("torch", "Tensor", picture):
        return pictures_of_tensor(picture, order)
    if order != "rgb":
        raise UsageError(
            f"a {type(picture).__name__} has an order of channels of its own",
            found=order,
            wanted="rgb",
            remedy="leave the order out, which is for arrays and tensors",
        )
    if isinstance(picture, Picture):
        return Conversion([picture], only)
    if isinstance(picture, str | Path):
        if picture == "":  # as a path, it would be the current folder
            raise FrameError("the path is empty", found="", wanted="a path", remedy="give the path of a picture file")
        return _pictures_of_file(Path(picture))
    if _is_loaded("PIL.Image", "Image", picture):
        return _pictures_of_image(picture)
    raise FrameError(
        f"a {type(picture).__name__} is not a picture",
        found=type(picture).__name__,
        wanted=("a numpy array", "a PIL image", "a torch tensor", "a path", "a list of these"),
        remedy="give a numpy array, a PIL image, a torch tensor, the path of a picture file, or a list of these",
    )


def convert_each(pictures: list[Any] | tuple[Any, ...], upscale: Callable[[object], object]) -> object:
    """The results of a function for each picture, in a list or tuple of the same type.

    Raises:
        FrameError: One of them is not a picture; the message has its number.
    """
    results = [_numbered(number, picture, upscale) for number, picture in enumerate(pictures)]
    make = getattr(pictures, "_make", type(pictures))  # a named tuple takes its items one by one
    return make(results)


def _numbered(number: int, picture: object, upscale: Callable[[object], object]) -> object:
    try:
        return upscale(picture)
    except FrameError as error:
        problem = f"picture {number} of the list: {error.problem}"
        raise FrameError(problem, found=error.found, wanted=error.wanted, remedy=error.remedy) from error


def _is_loaded(module: str, name: str, value: object) -> bool:
    """Whether `value` is an instance of a class of a library, which is loaded if there is an instance."""
    loaded = sys.modules.get(module)
    kind = getattr(loaded, name, None)
    return isinstance(kind, type) and isinstance(value, kind)


def _pictures_of_image(image: Any) -> Conversion:
    """The picture in a PIL image, read as `read_picture` reads a file.

    Raises:
        FrameError: As `picture_from_image`; or Pillow has no mode for the result.
    """
    from sr_edge.image_files import image_from_picture, picture_from_image  # loads Pillow

    picture = picture_from_image(image)
    if picture.bits == 16 and picture.alpha is not None:
        raise FrameError(
            "the image has 16-bit gray with a transparent level, for which PIL has no mode",
            found="16 bits with alpha",
            wanted="8 bits, or no transparency",
            remedy="give the path of the file, or an array",
        )

    def restore(results: Iterator[Picture]) -> Any:
        return image_from_picture(only(results), image)

    return Conversion([picture], restore)


def _pictures_of_file(path: Path) -> Conversion:
    from sr_edge.image_files import read_picture

    def restore(results: Any) -> Any:
        frame = frame_of(only(results))
        return frame[..., 0] if frame.shape[2] == 1 else frame

    return Conversion([read_picture(path)], restore)
