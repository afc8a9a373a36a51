"""NV12 frames, the format of cameras and hardware decoders, as the input of graphs that convert them to RGB.

An NV12 frame is a plane of luma and, at half the height and width, a plane of interleaved chroma samples (U, V). A
graph takes a tile of it in the usual layout of the format: the rows of the luma, followed by the rows of the chroma.

Chroma is interpolated as libswscale does it in `sr_edge.camera.media.conversion`: by cubic convolution with a = -0.6
(Keys, "Cubic convolution interpolation for digital image processing", 1981), each sample in the centre of its four
pixels, samples at the edge of the frame repeated, and the result of the horizontal pass limited to the 15 bits in which
libswscale keeps it.

A pixel depends on chroma samples of up to `MARGIN_PX` pixels away. Tiles contain that margin, so that neighbouring
tiles compute the same colours where they overlap, and the result does not depend on where tiles lie.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sr_edge.errors import FrameError, TileError, UsageError
from sr_edge.nv12.colour import Nv12Colour
from sr_edge.spec import RGB, TileSpec

MARGIN_PX = 4
"""Pixels around a tile whose chroma the pixels at its edge depend on: two samples."""

CHROMA_LIMIT = 32_767 / 128
"""The largest result of the horizontal interpolation, in levels: 15 bits, of which 7 are fractional."""

Plane = npt.NDArray[np.unsignedinteger[Any]]
"""Samples of luma (height, width), or of chroma (height / 2, width / 2, 2). Rows may have a stride."""

_A = -0.6
_TAPS = MARGIN_PX + 1


def rgb_matrix(colour: Nv12Colour) -> npt.NDArray[np.float64]:
    """From (Y, U, V, 1) in 8-bit levels to (R, G, B) in 8-bit levels of full range: (3, 4)."""
    red, blue = (0.2126, 0.0722) if colour.is_bt709 else (0.299, 0.114)
    green = 1.0 - red - blue
    black, luma, chroma = (0.0, 1.0, 1.0) if colour.is_full_range else (16.0, 255 / 219, 255 / 224)
    from_u, from_v = 2 * (1 - blue) * chroma, 2 * (1 - red) * chroma
    linear = np.array([
        [luma, 0.0, from_v],
        [luma, -from_u * blue / green, -from_v * red / green],
        [luma, from_u, 0.0],
    ])  # fmt: skip
    return np.column_stack([linear, -linear @ [black, 128.0, 128.0]])


def chroma_weights() -> npt.NDArray[np.float64]:
    """The weights of five neighbouring chroma samples for the left and the right pixel of the middle one: (2, 5)."""
    distances = np.abs(np.arange(_TAPS) - _TAPS // 2 - np.array([[-0.25], [0.25]]))
    near = (_A + 2) * distances**3 - (_A + 3) * distances**2 + 1
    far = _A * (distances**3 - 5 * distances**2 + 8 * distances - 4)
    weights: npt.NDArray[np.float64] = np.where(distances < 1, near, np.where(distances < 2, far, 0.0))
    return weights


def nv12_shape(tile: TileSpec) -> tuple[int, int, int]:
    """The shape of a packed tile with its margin, (rows, columns, 1): rows of the luma, then those of the chroma."""
    return (tile.height + 2 * MARGIN_PX) * 3 // 2, tile.width + 2 * MARGIN_PX, 1


def require_nv12_tile(tile: TileSpec | None, channels: int) -> TileSpec:
    """The tile, if graphs can take NV12 tiles of this size.

    Raises:
        TileError: The tile has an odd edge, which cuts through a chroma sample, or the graph has no constant size.
        UsageError: The network does not take RGB.
    """
    if channels != RGB:
        raise UsageError(
            f"NV12 frames become RGB, but the network has {channels} channel{'s' if channels > 1 else ''}",
            found=channels,
            wanted=RGB,
            remedy="use float or uint8 frames for this network",
        )
    if tile is None:
        raise TileError(
            "graphs that take NV12 frames need a constant size, but the graph is dynamic",
            found=None,
            wanted="a tile",
            remedy="leave --dynamic out, or use float or uint8 frames",
        )
    if tile.height % 2 or tile.width % 2:
        even = TileSpec(tile.height + tile.height % 2, tile.width + tile.width % 2)
        raise TileError(
            f"NV12 frames cannot be cut into tiles of {tile}: four pixels share a chroma sample",
            found=tile,
            wanted="an even height and width",
            remedy=f"pass for example --tile {even}",
        )
    return tile


def require_even_overlap(overlap_px: int) -> None:
    """Raises TileError if tiles overlap by an odd number of pixels: some would cut through chroma samples."""
    if overlap_px % 2:
        raise TileError(
            f"tiles of NV12 frames cannot overlap by {overlap_px} pixels: four pixels share a chroma sample",
            found=overlap_px,
            wanted="an even number",
            remedy="use an even overlap, or float or uint8 frames for a network whose own overlap is odd",
        )


@dataclass(frozen=True, eq=False)
class Nv12Frame:
    """The planes of an NV12 frame.

    Attributes:
        luma: uint8 (height, width).
        chroma: uint8 (height / 2, width / 2, 2): U and V.

    Raises:
        FrameError: The planes have another type, an odd size, or sizes that do not match.
    """

    luma: Plane
    chroma: Plane

    def __post_init__(self) -> None:
        for name, plane in (("luma", self.luma), ("chroma", self.chroma)):
            if plane.dtype != np.uint8:
                raise FrameError(
                    f"the {name} plane of an NV12 frame is {plane.dtype}, but its samples have 8 bits",
                    found=str(plane.dtype),
                    wanted="uint8",
                    remedy="convert the frame to RGB, which all graphs take",
                )
        if self.luma.ndim != 2 or 0 in self.luma.shape or self.luma.shape[0] % 2 or self.luma.shape[1] % 2:
            raise FrameError(
                f"the luma plane of an NV12 frame has the shape {self.luma.shape}",
                found=self.luma.shape,
                wanted="(height, width), both even and at least 2",
                remedy="crop the frame to an even size, or convert it to RGB",
            )
        wanted = (self.luma.shape[0] // 2, self.luma.shape[1] // 2, 2)
        if self.chroma.shape != wanted:
            raise FrameError(
                f"the chroma plane has the shape {self.chroma.shape}, but a luma plane of {self.luma.shape} needs "
                f"{wanted}",
                found=self.chroma.shape,
                wanted=wanted,
                remedy="give 4:2:0 chroma, U and V interleaved",
            )

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape of the frame as RGB: (height, width, 3)."""
        return self.luma.shape[0], self.luma.shape[1], RGB

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of its samples."""
        return self.luma.dtype

    def require_tiles(self, tile: TileSpec, overlap_px: int) -> None:
        """Checks that the frame can be cut into tiles.

        Raises:
            TileError: The overlap is odd.
            FrameError: The frame is smaller than a tile; unlike RGB frames, NV12 frames are not extended by reflection.
        """
        require_even_overlap(overlap_px)
        if self.shape[0] < tile.height or self.shape[1] < tile.width:
            raise FrameError(
                f"the frame of {self.shape[1]}x{self.shape[0]} pixels is smaller than the tile {tile}",
                found=self.shape[:2],
                wanted=(tile.height, tile.width),
                remedy="deploy the network with a smaller tile, or convert the frame to RGB",
            )

    def cut(self, top: int, left: int, tile: TileSpec) -> npt.NDArray[np.uint8]:
        """A packed tile with its margin, of `nv12_shape(tile)`; `top` and `left` are even, and the tile is inside."""
        rows, columns, _ = nv12_shape(tile)
        packed = np.empty((rows, columns), np.uint8)
        luma_rows = tile.height + 2 * MARGIN_PX
        _cut_repeating(self.luma, top - MARGIN_PX, left - MARGIN_PX, packed[:luma_rows])
        chroma = packed[luma_rows:].reshape(-1, columns // 2, 2)
        _cut_repeating(self.chroma, (top - MARGIN_PX) // 2, (left - MARGIN_PX) // 2, chroma)
        return packed[..., np.newaxis]


TiledSamples = npt.NDArray[Any] | Nv12Frame
"""A frame that is cut into tiles: samples (height, width, channels), or the planes of an NV12 frame."""


def _cut_repeating(plane: Plane, top: int, left: int, out: npt.NDArray[np.uint8]) -> None:
    """Fills `out` with the samples of `plane` from (`top`, `left`); those beyond the plane repeat those at its edge."""
    height, width = plane.shape[:2]
    bottom, right = top + out.shape[0], left + out.shape[1]
    above, before = max(0, -top), max(0, -left)
    below, after = out.shape[0] - max(0, bottom - height), out.shape[1] - max(0, right - width)
    out[above:below, before:after] = plane[max(0, top) : bottom, max(0, left) : right]
    out[above:below, :before] = out[above:below, before : before + 1]
    out[above:below, after:] = out[above:below, after - 1 : after]
    out[:above] = out[above]
    out[below:] = out[below - 1]


def nv12_tile_from_rgb(rgb_hwc: npt.NDArray[np.uint8], colour: Nv12Colour) -> npt.NDArray[np.uint8]:
    """A packed tile whose pixels are nearly these: chroma is the mean of four pixels, and the margin repeats the edge.

    Args:
        rgb_hwc: uint8 (height, width, 3), both even.
        colour: Matrix and range of the samples.
    """
    margin = ((MARGIN_PX, MARGIN_PX), (MARGIN_PX, MARGIN_PX), (0, 0))
    pixels = np.pad(rgb_hwc, margin, mode="edge").astype(np.float64)
    matrix = rgb_matrix(colour)
    samples = (pixels - matrix[:, 3]) @ np.linalg.inv(matrix[:, :3]).T
    rows, columns = samples.shape[:2]
    chroma = samples[..., 1:].reshape(rows // 2, 2, columns // 2, 2, 2).mean(axis=(1, 3))
    packed = np.concatenate([samples[..., 0], chroma.reshape(rows // 2, columns)])[..., np.newaxis]
    tile: npt.NDArray[np.uint8] = np.rint(np.clip(packed, 0, 255)).astype(np.uint8)
    return tile


def rgb_from_nv12_tile(packed: npt.NDArray[np.uint8], colour: Nv12Colour) -> npt.NDArray[np.uint8]:
    """The RGB pixels of a packed tile without its margin, as graphs of NV12 frames compute them: (height, width, 3)."""
    rows, columns = packed.shape[0] * 2 // 3, packed.shape[1]
    inner = slice(MARGIN_PX, -MARGIN_PX)
    luma = packed[:rows, :, 0].astype(np.float64)[inner, inner]
    chroma = packed[rows:].reshape(rows // 2, columns // 2, 2).astype(np.float64)
    across = np.minimum(_doubled(chroma.swapaxes(0, 1)).swapaxes(0, 1), CHROMA_LIMIT)
    samples = np.concatenate([luma[..., np.newaxis], _doubled(across), np.ones((*luma.shape, 1))], axis=2)
    rgb: npt.NDArray[np.uint8] = np.rint(np.clip(samples @ rgb_matrix(colour).T, 0, 255)).astype(np.uint8)
    return rgb


def _doubled(samples: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Interpolates along the first axis: twice as many rows as there are samples inside the margin."""
    length = len(samples) - (_TAPS - 1)
    windows = np.stack([samples[tap : tap + length] for tap in range(_TAPS)])
    phases = np.tensordot(chroma_weights(), windows, axes=(1, 0))
    doubled: npt.NDArray[np.float64] = np.stack(list(phases), axis=1).reshape(2 * length, *samples.shape[1:])
    return doubled
