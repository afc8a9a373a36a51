"""Calibration patches: varied pieces of low-resolution pictures or of a video, all of the graph's tile size."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from sr_edge.calibration.collect import Batch
from sr_edge.errors import CalibrationError
from sr_edge.frames import Frame, batch_from_frame
from sr_edge.image_files import list_pictures, read_picture
from sr_edge.spec import TileSpec

if TYPE_CHECKING:
    from av.container import InputContainer

PATCHES = 40
VIDEO_FRAMES = 20


def calibration_patches(source: Path, tile: TileSpec, count: int = PATCHES, seed: int = 0) -> list[Batch]:
    """Cuts `count` patches at random places, spread evenly over the pictures, randomly mirrored.

    Args:
        source: a folder of pictures, one picture, or a video; what the network will be given (low resolution).
        tile: the size of every patch; smaller pictures are padded by reflection.
        count: how many patches; 40 varied ones are enough for super-resolution networks, 8 are not.
        seed: of the places and mirrorings; the same seed gives the same patches.

    Returns:
        Float32 arrays (1, 3, tile.height, tile.width) in [0, 1].

    Raises:
        CalibrationError: nothing usable is there.
        FrameError: a picture is damaged; the message names it.
    """
    if count < 1:
        raise CalibrationError(f"{count} calibration patches were asked for; use at least 1, better {PATCHES}")
    generator = np.random.default_rng(seed)
    frames = _frames(source, count)
    patches: list[Batch] = []
    for index, (frame_hwc, frame_count) in enumerate(frames):
        share = (index + 1) * count // frame_count - index * count // frame_count
        padded = _at_least(frame_hwc, tile)
        patches += [batch_from_frame(_random_patch(padded, tile, generator)) for _ in range(share)]
    return patches


def _frames(source: Path, count: int) -> Iterator[tuple[Frame, int]]:
    """RGB frames with how many there will be, at most `count`."""
    if not source.exists():
        raise CalibrationError(f"{source} does not exist; give a folder of pictures, one picture or a video")
    if source.is_file() and source not in list_pictures(source.parent):
        yield from _video_frames(source, min(count, VIDEO_FRAMES))
        return
    paths = [source] if source.is_file() else list_pictures(source, recursive=True)
    if not paths:
        raise CalibrationError(f"no pictures in {source}; put some there (PNG, JPEG, TIFF, WebP) or give a video")
    for path in _evenly_chosen(paths, count):
        pixels = read_picture(path).pixels
        yield np.broadcast_to(pixels, (*pixels.shape[:2], 3)), min(len(paths), count)


def _evenly_chosen(paths: list[Path], count: int) -> list[Path]:
    chosen = min(len(paths), count)
    return [paths[index * len(paths) // chosen] for index in range(chosen)]


def _video_frames(path: Path, count: int) -> Iterator[tuple[Frame, int]]:
    """Frames at evenly spaced times, each reached from the key frame before it."""
    try:
        import av
    except ImportError:
        raise CalibrationError("reading a video needs PyAV; install it with: pip install 'sr-edge[camera]'") from None
    try:
        with av.open(str(path)) as container:
            start_s, length_s = _video_span(container)
            for index in range(count):
                yield _frame_at(container, start_s + length_s * index / count), count
    except (av.FFmpegError, StopIteration) as error:
        raise CalibrationError(f"{path} is no readable picture or video ({error}); convert it to .mp4") from error


def _video_span(container: InputContainer) -> tuple[float, float]:
    """Start and length in seconds."""
    if not container.streams.video:
        raise CalibrationError(f"{container.name} has no video stream; give a video or a folder of pictures")
    stream = container.streams.video[0]
    unit_s = float(stream.time_base or 0)
    length_s = stream.duration * unit_s if stream.duration else (container.duration or 0) / 1e6
    if length_s <= 0:
        raise CalibrationError(f"{container.name} does not say how long it is; convert it to .mp4 or .mkv")
    return (stream.start_time or 0) * unit_s, length_s


def _frame_at(container: InputContainer, wanted_s: float) -> Frame:
    container.seek(int(wanted_s * 1e6))
    frame = next(f for f in container.decode(video=0) if f.time is None or f.time >= wanted_s)
    return frame.to_ndarray(format="rgb24").astype(np.uint8, copy=False)


def _at_least(frame_hwc: Frame, tile: TileSpec) -> Frame:
    height, width, _ = frame_hwc.shape
    missing = [(0, max(0, tile.height - height)), (0, max(0, tile.width - width)), (0, 0)]
    return np.pad(frame_hwc, missing, mode="reflect")


def _random_patch(frame_hwc: Frame, tile: TileSpec, generator: np.random.Generator) -> Frame:
    top = generator.integers(frame_hwc.shape[0] - tile.height + 1)
    left = generator.integers(frame_hwc.shape[1] - tile.width + 1)
    patch: npt.NDArray[np.unsignedinteger] = frame_hwc[top : top + tile.height, left : left + tile.width]
    vertical, horizontal = generator.integers(0, 2, 2)
    return patch[:: -1 if vertical else 1, :: -1 if horizontal else 1]
