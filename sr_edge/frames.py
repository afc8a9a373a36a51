"""Pictures as arrays: the `Picture` read from a file, and conversion between HWC integer frames and NCHW batches.

A *frame* is an integer array (height, width, channels), uint8 or uint16: gray or luma (1 channel), RGB (3), or RGB with
straight alpha (4). The pixels of a `Picture` have 1 or 3 channels.
A *batch* is a float32 array (1, channels, height, width) in [0, 1].
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sr_edge.errors import FrameError, UsageError
from sr_edge.spec import CHANNELS

Frame = npt.NDArray[np.unsignedinteger[Any]]
"""A picture of uint8 or uint16 samples: (height, width, channels)."""

Uint8Frame = npt.NDArray[np.uint8]
"""A picture of 8 bits per sample, as the graphs with uint8 input take it: (height, width, channels)."""

Batch = npt.NDArray[np.float32]
"""One picture in the float layout of the graphs, with values in [0, 1]: (1, channels, height, width)."""

_LAYOUTS = {1: "gray", 3: "RGB", 4: "RGB with alpha"}
PICTURE_CHANNELS = (1, 3)
"""Numbers of channels of the pixels of a picture: gray or RGB."""


@dataclass(frozen=True)
class PictureMetadata:
    """What a picture file says beside its pixels, not interpreted.

    Attributes:
        exif: EXIF data, beginning with the header of TIFF, without orientation, thumbnail and the tags of the layout.
        xmp: XMP packet, without orientation.
        dpi: Horizontal and vertical resolution in pixels per inch.
        comment: Comment of a JPEG file.
        png_chunks: Chunks of a PNG file that describe its colours, and its texts: type and content.
    """

    exif: bytes | None = None
    xmp: bytes | None = None
    dpi: tuple[float, float] | None = None
    comment: bytes | None = None
    png_chunks: tuple[tuple[bytes, bytes], ...] = ()


NO_METADATA = PictureMetadata()


@dataclass(frozen=True, eq=False)
class Picture:
    """One picture in memory.

    Attributes:
        pixels: uint8 or uint16 (height, width, 3) RGB, or (height, width, 1) gray.
        alpha: Straight (not premultiplied) opacity (height, width) of the same type, 0 for transparent; or None.
        icc_profile: The embedded colour profile, not interpreted.
        metadata: EXIF data and the like.
        notes: Sentences about what was converted or left out when the file was read.
    """

    pixels: Frame
    alpha: Frame | None = None
    icc_profile: bytes | None = None
    metadata: PictureMetadata = NO_METADATA
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        require_frame(self.pixels, PICTURE_CHANNELS)
        if self.alpha is None:
            return
        if self.alpha.shape != self.pixels.shape[:2] or self.alpha.dtype != self.pixels.dtype:
            raise FrameError(
                f"the alpha channel is {self.alpha.dtype} {self.alpha.shape}, "
                f"but the pixels are {self.pixels.dtype} {self.pixels.shape}",
                found=(str(self.alpha.dtype), self.alpha.shape),
                wanted=(str(self.pixels.dtype), self.pixels.shape[:2]),
                remedy="give both the same data type, height and width",
            )

    def __repr__(self) -> str:
        layout = _LAYOUTS[self.pixels.shape[2]] + ("" if self.alpha is None else " with alpha")
        return f"<Picture {self.width}x{self.height} {layout}, {self.bits} bits>"

    @property
    def height(self) -> int:
        """Height in pixels."""
        return int(self.pixels.shape[0])

    @property
    def width(self) -> int:
        """Width in pixels."""
        return int(self.pixels.shape[1])

    @property
    def is_gray(self) -> bool:
        """Whether the pixels are gray."""
        return int(self.pixels.shape[2]) == 1

    @property
    def bits(self) -> int:
        """Bits of one sample: 8 or 16."""
        return 8 * self.pixels.dtype.itemsize


@dataclass(frozen=True)
class Region:
    """A rectangle of a picture or of each frame of a video, in pixels before upscaling.

    Attributes:
        left: Columns to the left of it (x).
        top: Rows above it (y).
        width: Width.
        height: Height.
    """

    left: int
    top: int
    width: int
    height: int

    def __post_init__(self) -> None:
        if min(self.left, self.top) < 0 or min(self.width, self.height) < 1:
            raise UsageError(
                f"the region {self} is empty or begins outside the picture",
                found=(self.left, self.top, self.width, self.height),
                wanted="x and y from 0, width and height from 1",
                remedy="give x, y, width and height in pixels of the picture before upscaling",
            )

    @classmethod
    def parse(cls, text: str) -> Region:
        """Reads "x,y,width,height".

        Raises:
            UsageError: the text does not have that form, or the region is empty.
        """
        return cls.of(text.split(","), text)

    @classmethod
    def of(cls, value: Region | str | Sequence[Any], shown: object = None) -> Region:
        """A region as users give it: (x, y, width, height), the same as text, or a region itself.

        Args:
            value: four whole numbers, or "x,y,width,height".
            shown: what an error shows instead of `value`.

        Raises:
            UsageError: `value` is none of these, or the region is empty.
        """
        if isinstance(value, Region):
            return value
        if isinstance(value, str):
            return cls.parse(value)
        try:
            left, top, width, height = (
                int(number) if isinstance(number, str) else operator.index(number) for number in value
            )
        except (TypeError, ValueError):
            raise UsageError(
                f"{value if shown is None else shown!r} is not a region of a picture",
                found=value if shown is None else shown,
                wanted="x,y,width,height",
                remedy="give x, y, width and height as whole numbers, for example 0,0,320,180",
            ) from None
        return cls(left, top, width, height)

    def require_within(self, height: int, width: int) -> None:
        """Raises UsageError unless the region lies within a picture of this size."""
        if self.left + self.width > width or self.top + self.height > height:
            raise UsageError(
                f"the region {self} extends beyond the picture of {width}x{height} pixels",
                found=(self.left, self.top, self.width, self.height),
                wanted=(0, 0, width, height),
                remedy=f"x + width may be at most {width}, and y + height at most {height}",
            )

    def cut(self, samples: npt.NDArray[Any], scale: int = 1) -> npt.NDArray[Any]:
        """The region of (height, width, ...), or of a picture `scale` times as large, without copying."""
        rows = slice(scale * self.top, scale * (self.top + self.height))
        return samples[rows, scale * self.left : scale * (self.left + self.width)]

    def grown(self, margin_px: int, height: int, width: int) -> Region:
        """The region with a margin on each side, as far as a picture of this size has it."""
        left, top = max(0, self.left - margin_px), max(0, self.top - margin_px)
        right = min(width, self.left + self.width + margin_px)
        return Region(left, top, right - left, min(height, self.top + self.height + margin_px) - top)

    def relative_to(self, window: Region) -> Region:
        """The same region, in a picture that is cut to `window`."""
        return Region(self.left - window.left, self.top - window.top, self.width, self.height)

    def __str__(self) -> str:
        return f"{self.left},{self.top},{self.width},{self.height}"


def require_frame(frame_hwc: npt.NDArray[Any], channels: tuple[int, ...] = CHANNELS) -> None:
    """Raises FrameError unless the array is a frame: (height, width, one of `channels`), uint8 or uint16, not empty."""
    if not isinstance(frame_hwc, np.ndarray):
        raise FrameError(
            f"a {type(frame_hwc).__name__} is not a frame",
            found=type(frame_hwc).__name__,
            wanted="a numpy array",
            remedy="give an array; `read_picture` reads one from a file",
        )
    fits = frame_hwc.ndim == 3 and frame_hwc.shape[2] in channels and frame_hwc.dtype in (np.uint8, np.uint16)
    if not fits or frame_hwc.size == 0:
        raise FrameError(
            f"an array of {frame_hwc.dtype} {frame_hwc.shape} is not a frame",
            found=(str(frame_hwc.dtype), frame_hwc.shape),
            wanted=("uint8 or uint16", f"(height, width, {_one_of(channels)})"),
            remedy=f"give uint8 or uint16, (height, width, {_one_of(channels)}): {_layouts(channels)}, with at least "
            "one pixel",
        )


def extended(samples: npt.NDArray[Any], height: int, width: int) -> npt.NDArray[Any]:
    """Samples (height, width, channels) extended by reflection at the bottom and the right to another size."""
    if samples.shape[:2] == (height, width):
        return samples
    return samples[np.ix_(_reflected(samples.shape[0], height), _reflected(samples.shape[1], width))]


def _reflected(size: int, length: int) -> npt.NDArray[np.intp]:
    """The first `length` of 0 1 ... size-1 size-2 ... 1 0 1 ..., the edge sample not repeated."""
    period = max(1, 2 * (size - 1))
    positions = np.arange(length) % period
    return np.minimum(positions, period - positions) if size > 1 else positions


def max_sample_value(dtype: npt.DTypeLike) -> int:
    """The largest sample value: 255 for uint8, 65535 for uint16."""
    return int(np.iinfo(np.dtype(dtype)).max)


def batch_from_frame(frame_hwc: Frame) -> Batch:
    """Scales a frame to [0, 1] and moves its channels first.

    Returns:
        A fresh contiguous float32 array (1, channels, height, width); samples are divided by the maximum of their type.
    """
    require_frame(frame_hwc)
    height, width, channels = frame_hwc.shape
    largest = np.float32(max_sample_value(frame_hwc.dtype))
    batch = np.empty((1, channels, height, width), np.float32)
    for channel in range(channels):
        np.divide(frame_hwc[..., channel], largest, out=batch[0, channel])
    return batch


def frame_from_batch(batch_nchw: Batch, dtype: npt.DTypeLike = np.uint8) -> Frame:
    """Clips a batch of one to [0, 1] and rounds it to integers, ties to even as ONNX's Round does.

    Args:
        batch_nchw: float32 (1, 1, 3 or 4, height, width).
        dtype: np.uint8 or np.uint16.

    Returns:
        A fresh contiguous frame (height, width, channels).

    Raises:
        FrameError: the batch has another shape, or contains NaN.
    """
    if batch_nchw.ndim != 4 or batch_nchw.shape[0] != 1 or batch_nchw.shape[1] not in CHANNELS or batch_nchw.size == 0:
        wanted = f"(1, {_one_of(CHANNELS)}, height, width)"
        raise FrameError(
            f"a batch of shape {batch_nchw.shape} is not one picture",
            found=batch_nchw.shape,
            wanted=wanted,
            remedy=f"give {wanted}",
        )
    require_numbers(batch_nchw)
    frame = np.empty((*batch_nchw.shape[2:], batch_nchw.shape[1]), dtype)
    for channel, plane in enumerate(batch_nchw[0]):
        frame[..., channel] = _integer_plane(plane, frame.dtype)
    return frame


def require_numbers(output: npt.NDArray[np.float32]) -> None:
    """Raises FrameError if the output of a network contains NaN."""
    if np.isnan(output.min()):
        raise FrameError(
            "the output of the network contains NaN",
            found="NaN",
            wanted="numbers",
            remedy="use another precision (fp32 or bf16); if that does not help, please report a bug with this picture "
            "attached",
        )


def _one_of(channels: tuple[int, ...]) -> str:
    return f"{', '.join(map(str, channels[:-1]))} or {channels[-1]}" if len(channels) > 1 else str(channels[0])


def _layouts(channels: tuple[int, ...]) -> str:
    return ", ".join(f"{number} for {_LAYOUTS[number]}" for number in channels)


def _integer_plane(plane: npt.NDArray[np.float32], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    largest = np.float32(max_sample_value(dtype))
    scaled: npt.NDArray[np.float32] = np.multiply(plane, largest)
    np.rint(scaled, out=scaled)
    np.clip(scaled, 0, largest, out=scaled)
    return scaled.astype(dtype)


def rgb_frame(picture: Picture) -> npt.NDArray[np.uint8]:
    """Converts to uint8 (height, width, 3): gray is replicated, 16 bits are rounded to 8, alpha is dropped."""
    pixels = picture.pixels
    if picture.bits == 16:
        pixels = ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)
    return np.repeat(pixels, 3, axis=2).astype(np.uint8) if picture.is_gray else pixels.astype(np.uint8, copy=False)
