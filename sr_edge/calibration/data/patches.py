"""Cuts patches of the tile size from low-resolution pictures or a video, to calibrate on and to measure the loss on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from sr_edge.calibration.data.patch import HeldOut
from sr_edge.calibration.data.picture_checks import PictureChecks
from sr_edge.channels import batch_for_network, frame_of
from sr_edge.errors import CalibrationError, FrameError
from sr_edge.files.headers import is_playlist
from sr_edge.frames import Batch, Frame
from sr_edge.image_files import is_picture, note_about_others, read_picture, scan_folder
from sr_edge.installation import how_to_install
from sr_edge.opacity import with_visible_colours
from sr_edge.spec import RGB, TileSpec

if TYPE_CHECKING:
    from av.container import InputContainer

PATCHES = 40
VIDEO_FRAMES = 20
HELD_OUT_PIXELS = 16 * 64 * 64
"""The number of pixels of all held-out patches together, within MIN_HELD_OUT to MAX_HELD_OUT patches."""

MIN_HELD_OUT = 8
MAX_HELD_OUT = 64
PER_ORIGINAL = 2
"""With originals there are this many times as many patches, because they represent every picture by itself."""

HELD_OUT_SEED = 2
"""Held-out patches are cut at other positions than calibration patches and golden frames."""


Warn = Callable[[str], None]
"""Called with each warning about the pictures."""


def ignore_warning(warning: str) -> None:
    """Lets damaged pictures be skipped where another call has warned of them."""


def calibration_patches(
    source: Path,
    tile: TileSpec | str,
    count: int = PATCHES,
    seed: int = 0,
    channels: int = RGB,
    *,
    warn: Warn | None = None,
) -> list[Batch]:
    """Cuts patches at random positions, spread evenly over the pictures and randomly mirrored.

    Args:
        source: A folder of pictures, one picture, or a video, in low resolution like the later input of the network.
        tile: The size of every patch; smaller pictures are padded by reflection.
        count: The number of patches; 40 varied ones are enough for super-resolution networks, 8 are not.
        seed: Determines the positions and mirroring; the same seed gives the same patches.
        channels: The number of channels of the network, as `sr_edge.channels` describes them: 1, 3 or 4.
        warn: Called for pictures that are damaged, duplicates, or smaller than the tile, and with the number of files
            that are not pictures. If it is given, damaged pictures are skipped and replaced by patches of the others;
            otherwise they raise an error.

    Returns:
        Float32 arrays (1, channels, tile.height, tile.width) in [0, 1].

    Raises:
        CalibrationError: There are no pictures that can be used.
        FrameError: A picture is damaged and `warn` is None; the message names it.
    """
    tile = TileSpec.of(tile)
    if count < 1:
        raise CalibrationError(
            f"cannot calibrate on {count} patches",
            found=count,
            wanted=1,
            remedy=f"request at least 1, preferably {PATCHES}",
        )
    return _cut(source, tile, count, seed, channels, warn)


def _cut(
    source: Path,
    tile: TileSpec,
    count: int,
    seed: int,
    channels: int,
    warn: Warn | None,
    between: bool = False,
) -> list[Batch]:
    """Cuts patches; with `warn`, the share of a damaged picture is cut from the next one, or the last."""
    generator = np.random.default_rng(seed)
    checks = PictureChecks(tile)
    patches: list[Batch] = []
    frame_hwc: Frame | None = None
    for index, (picture, total) in enumerate(_frames(source, count, between)):
        if warn is not None:
            checks.add(picture)
        if isinstance(picture, FrameError):
            if warn is None:
                raise picture
            continue
        frame_hwc = picture
        share = (index + 1) * count // total - len(patches)
        patches += _pieces(frame_hwc, tile, share, generator, channels)
    if frame_hwc is None:
        raise CalibrationError(
            f"none of the pictures in {source} can be read: {'; '.join(checks.warnings())}",
            found=source,
            wanted="pictures that can be read",
        )
    patches += _pieces(frame_hwc, tile, count - len(patches), generator, channels)
    if warn is not None:
        others = scan_folder(source, recursive=True).others if source.is_dir() else ()
        for warning in (*checks.warnings(), *note_about_others(others)):
            warn(warning)
    return patches


def _pieces(frame_hwc: Frame, tile: TileSpec, count: int, generator: np.random.Generator, channels: int) -> list[Batch]:
    padded = _at_least(frame_hwc, tile)
    return [batch_for_network(_random_patch(padded, tile, generator), channels) for _ in range(count)]


def held_out_count(tile: TileSpec) -> int:
    """The number of held-out patches of that size."""
    return min(MAX_HELD_OUT, max(MIN_HELD_OUT, HELD_OUT_PIXELS // (tile.height * tile.width)))


def held_out_patches(
    source: Path,
    tile: TileSpec | str,
    count: int | None = None,
    seed: int = HELD_OUT_SEED,
    channels: int = RGB,
    *,
    warn: Warn | None = None,
) -> list[HeldOut]:
    """Cuts held-out patches without originals.

    Their positions differ from those of `calibration_patches`. If a folder has more pictures than patches, or from a
    video, the pictures differ as well. Arguments, warnings and errors are those of `calibration_patches`.
    """
    tile = TileSpec.of(tile)
    wanted = count or held_out_count(tile)
    patches = _cut(source, tile, wanted, seed, channels, warn, between=True)
    return [HeldOut(patch) for patch in patches]


def held_out_pairs(
    pairs: Sequence[tuple[str, Frame, Frame]],
    tile: TileSpec | str,
    count: int | None = None,
    seed: int = HELD_OUT_SEED,
    channels: int = RGB,
) -> list[HeldOut]:
    """Cuts held-out patches with their originals, spread evenly over the pictures that are at least as large as a tile.

    Args:
        pairs: Name, low-resolution picture, and its original, which is an integer number of times as large.
        tile: The size of every low-resolution patch.
        count: The number of patches, at least one per picture; by default PER_ORIGINAL times `held_out_count`.
        seed: Determines the positions.
        channels: The number of channels of the network: 1, 3 or 4.

    Raises:
        CalibrationError: All pictures are smaller than the tile.
    """
    tile = TileSpec.of(tile)
    large = [pair for pair in pairs if pair[1].shape[0] >= tile.height and pair[1].shape[1] >= tile.width]
    if not large:
        sizes = {name: TileSpec(*lr.shape[:2]) for name, lr, _ in pairs[:3]}
        raise CalibrationError(
            f"no low-resolution picture is as large as the {tile} patches that are cut from it "
            f"({', '.join(f'{name} is {size}' for name, size in sizes.items())})",
            found=sizes,
            wanted=tile,
            remedy="pass larger pictures",
        )
    generator = np.random.default_rng(seed)
    wanted = max(count or PER_ORIGINAL * held_out_count(tile), len(large))
    chosen = [large[index * len(large) // wanted] for index in range(wanted)]
    return [_pair_at_random(pair, tile, generator, channels) for pair in chosen]


def _pair_at_random(
    pair: tuple[str, Frame, Frame], tile: TileSpec, generator: np.random.Generator, channels: int
) -> HeldOut:
    name, lr, hr = pair
    scale = hr.shape[0] // lr.shape[0]
    top = int(generator.integers(lr.shape[0] - tile.height + 1))
    left = int(generator.integers(lr.shape[1] - tile.width + 1))
    patch = lr[top : top + tile.height, left : left + tile.width]
    original = hr[scale * top : scale * (top + tile.height), scale * left : scale * (left + tile.width)]
    return HeldOut(batch_for_network(patch, channels), batch_for_network(original, channels), name)


def _frames(source: Path, count: int, between: bool) -> Iterator[tuple[Frame | FrameError, int]]:
    """At most `count` frames (gray, RGB or RGB with alpha), or the error of a damaged picture, each with their number.

    With `between`, the frames are half a step after those without it.
    """
    shift = 0.5 if between else 0.0
    if not source.exists():
        raise CalibrationError(
            f"{source} does not exist",
            found=source,
            wanted="a folder of pictures, a picture or a video",
            remedy="pass a folder of pictures, a single picture or a video",
        )
    if source.is_file() and not is_picture(source):
        yield from _video_frames(source, min(count, VIDEO_FRAMES), shift)
        return
    paths = [source] if source.is_file() else list(scan_folder(source, recursive=True).pictures)
    if not paths:
        raise CalibrationError(
            f"the folder {source} contains no pictures",
            found=source,
            wanted=("PNG", "JPEG", "TIFF", "WebP"),
            remedy="add PNG, JPEG, TIFF, WebP or other pictures, or pass a video",
        )
    for path in _evenly_chosen(paths, count, shift):
        yield _read(path), min(len(paths), count)


def _read(path: Path) -> Frame | FrameError:
    try:
        return frame_of(with_visible_colours(read_picture(path)))
    except FrameError as error:
        return error


def _evenly_chosen(paths: list[Path], count: int, shift: float) -> list[Path]:
    chosen = min(len(paths), count)
    return [paths[int((index + shift) * len(paths) / chosen)] for index in range(chosen)]


def _video_frames(path: Path, count: int, shift: float) -> Iterator[tuple[Frame, int]]:
    """Frames at evenly spaced times, each decoded from the key frame before it."""
    try:
        import av
    except ImportError:
        raise CalibrationError(
            f"reading the video {path} requires PyAV, which is not installed",
            found=path,
            wanted="PyAV",
            remedy=f"run: {how_to_install('camera')}",
        ) from None
    if is_playlist(path):
        raise CalibrationError(
            f"{path} is a playlist, not a video",
            found=path,
            wanted="a picture or a video",
            remedy="give the video that it refers to",
        )
    try:
        with av.open(str(path), metadata_errors="replace") as container:
            start_s, length_s = _video_span(path, container)
            for index in range(count):
                yield _frame_at(container, start_s + length_s * (index + shift) / count), count
    except (av.FFmpegError, StopIteration) as error:
        raise CalibrationError(
            f"{path} cannot be read as a picture or as a video ({error})",
            found=path,
            wanted="a picture or a video",
            remedy="convert it to .mp4",
        ) from error


def _video_span(path: Path, container: InputContainer) -> tuple[float, float]:
    """The start and the duration of the video in seconds."""
    if not container.streams.video:
        raise CalibrationError(
            f"{path} has no video stream",
            found=path,
            wanted="a video stream",
            remedy="pass a video or a folder of pictures",
        )
    stream = container.streams.video[0]
    unit_s = float(stream.time_base or 0)
    length_s = stream.duration * unit_s if stream.duration else (container.duration or 0) / 1e6
    if length_s <= 0:
        raise CalibrationError(
            f"the video {path} does not state its duration",
            found=path,
            wanted="a video with a duration",
            remedy="convert it to .mp4 or .mkv",
        )
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
