"""Numpy arrays as pictures: gray, RGB or RGBA, alone or in a batch, as integers or as floats in the range 0-1."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

from sr_edge.channels import frame_of, picture_of
from sr_edge.errors import FrameError
from sr_edge.frames import Frame, Picture, max_sample_value
from sr_edge.spec import CHANNELS

Array = npt.NDArray[Any]

ORDERS = ("rgb", "bgr")
_FLOATS = (np.float16, np.float32, np.float64)
_INTEGERS = (np.uint8, np.uint16)
_LARGEST = max_sample_value(np.uint16)


@dataclass(frozen=True)
class Conversion:
    """What a user gave, as pictures.

    Attributes:
        pictures: The pictures, converted one by one while they are iterated.
        restore: Makes what the user gave of the upscaled pictures, which it iterates: the same kind, layout and type.
    """

    pictures: Iterable[Picture]
    restore: Callable[[Iterator[Picture]], Any]


def only(results: Iterator[Picture]) -> Picture:
    """The upscaled picture of a conversion that has one."""
    (result,) = results
    return result


def pictures_of_array(array: Array, order: str) -> Conversion:
    """The pictures in an array (height, width), (height, width, channels) or (number, height, width, channels).

    Raises:
        FrameError: The array has another shape or type, is empty, or contains NaN or floats outside of 0-1.
    """
    _require_type(array)
    _require_shape(array)
    if array.dtype.type in _FLOATS:
        _require_range(array)
    frames = array if array.ndim == 4 else (array.reshape((*array.shape, 1)) if array.ndim == 2 else array)[np.newaxis]

    def restore(results: Iterator[Picture]) -> Array:
        restored = (_samples(_in_order(frame_of(each), order), array.dtype) for each in results)
        first = next(restored)
        if array.ndim != 4:
            return first[..., 0] if array.ndim == 2 else first
        batch = np.empty((len(array), *first.shape), array.dtype)
        for index, each in enumerate(chain([first], restored)):
            batch[index] = each
        return batch

    return Conversion((picture_of(_in_order(_integers(frame), order)) for frame in frames), restore)


def _require_type(array: Array) -> None:
    if isinstance(array, np.ma.MaskedArray | np.matrix):
        is_masked = isinstance(array, np.ma.MaskedArray)
        raise FrameError(
            "a masked array is not a picture, because its masked pixels have no values"
            if is_masked
            else "a matrix is not a picture, because it cannot have channels",
            found=type(array).__name__,
            wanted="a numpy array",
            remedy="give array.filled(0), for example" if is_masked else "give numpy.asarray(matrix)",
        )
    if array.dtype.type in (*_FLOATS, *_INTEGERS):
        return
    remedies = {
        "b": "give array.astype(np.uint8) * 255",
        "iu": "give array.astype(np.uint8) if its values are 0 to 255",
        "f": "give array.astype(np.float32)",
    }
    remedy = next((text for kinds, text in remedies.items() if array.dtype.kind in kinds), "give an array of numbers")
    raise FrameError(
        f"an array of {array.dtype} is not a picture",
        found=str(array.dtype),
        wanted=("uint8", "uint16", "float32", "float64", "float16"),
        remedy=remedy,
    )


def _require_shape(array: Array) -> None:
    has_channels = array.ndim == 2 or (array.ndim in (3, 4) and array.shape[-1] in CHANNELS)
    if has_channels and array.size:
        return
    channels_first = array.ndim in (3, 4) and array.shape[-3] in CHANNELS and not has_channels
    axes = "1, 2, 0" if array.ndim == 3 else "0, 2, 3, 1"
    remedy = (
        f"move its channels to the end: array.transpose({axes})"
        if channels_first
        else "give (height, width) gray, (height, width, 1 gray, 3 RGB or 4 RGB with alpha), or a batch of the latter "
        "(number, height, width, channels), with at least one pixel"
    )
    raise FrameError(
        f"an array of shape {array.shape} is not a picture",
        found=array.shape,
        wanted=("(height, width)", "(height, width, channels)", "(number, height, width, channels)"),
        remedy=remedy,
    )


def _require_range(array: Array) -> None:
    """Raises FrameError unless all floats round to a 16-bit sample, which -0.0000001 and 1.0000001 do."""
    lowest, highest = float(array.min()), float(array.max())  # NaN if any sample is NaN
    margin = 0.5 / _LARGEST
    if -margin <= lowest and highest <= 1 + margin:
        return
    is_nan = np.isnan(lowest)
    advice = "divide it by 255" if lowest >= 0 and 1 < highest <= 255 else "scale it to 0-1, or clip it"
    raise FrameError(
        "the array contains NaN" if is_nan else f"the array has values from {lowest:g} to {highest:g}",
        found="NaN" if is_nan else (lowest, highest),
        wanted=(0, 1),
        remedy="find out where it comes from; floats have to be in the range 0-1"
        if is_nan
        else f"{advice}; floats have to be in the range 0-1",
    )


def _integers(samples: Array) -> Frame:
    """Samples as a frame; floats are rounded to 16 bits, and bytes are brought into the order of this machine."""
    if samples.dtype.type in _FLOATS:
        wide = samples.astype(np.float64 if samples.dtype.itemsize == 8 else np.float32)
        rounded: Frame = np.rint(np.clip(wide, 0, 1) * wide.dtype.type(_LARGEST)).astype(np.uint16)
        return rounded
    native: Frame = samples.astype(samples.dtype.newbyteorder("="), copy=False)
    return native


def _samples(frame: Frame, dtype: np.dtype[Any]) -> Array:
    """A frame in the type that the user gave."""
    if dtype.type not in _FLOATS:
        return frame.astype(dtype, copy=False)
    wide = np.dtype(np.float64 if dtype.itemsize == 8 else np.float32)
    samples: Array = np.divide(frame, wide.type(_LARGEST), dtype=wide).astype(dtype, copy=False)
    return samples


def _in_order(frame: Frame, order: str) -> Frame:
    """Reverses the colours of a frame with blue first; gray has no order."""
    if order == "rgb" or frame.shape[2] == 1:
        return frame
    return np.ascontiguousarray(frame[..., (2, 1, 0, 3)[: frame.shape[2]]])
