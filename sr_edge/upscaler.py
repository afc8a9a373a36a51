"""Upscales arrays, picture files and folders with a session whose tile size is fixed."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt

from sr_edge.channels import (
    Planes,
    frame_of,
    merge_luma,
    network_frame,
    picture_frame,
    rounded_luma,
    split_luma,
)
from sr_edge.controls import Controls, control_values
from sr_edge.errors import FrameError, SrEdgeError, UsageError
from sr_edge.frames import Frame, Picture, batch_from_frame, frame_from_batch, require_frame, require_numbers
from sr_edge.image_files import list_pictures, read_picture, require_format_supports, result_names, write_picture
from sr_edge.opacity import count_passes, upscale_with_alpha, with_visible_colours
from sr_edge.runtimes.session import Batch, Session
from sr_edge.spec import FrameFormat
from sr_edge.tiling import Samples, output_frame, upscale_frame_in_flight

OnTile = Callable[[int, int], None]
"""Called after each tile with the number of tiles done and the total of the picture."""


class Upscaler:
    """Upscales pictures of any size, gray or RGB, 8 or 16 bits, with or without alpha.

    The caller owns the session and must keep it open while the upscaler is in use. The upscaler does not close it.
    """

    def __init__(self, session: Session, overlap_px: int | None = None, controls: Controls | None = None) -> None:
        """Creates an upscaler for an open session.

        Args:
            session: An open engine. As many tiles are in flight as it has slots.
            overlap_px: Minimum overlap of tiles in low-resolution pixels; None for the network's own.
            controls: Values of the network's controls; those not named take their defaults.

        Raises:
            UsageError: An unknown control, or a value out of its range.
        """
        self._session = session
        self._overlap_px = session.spec.overlap_px if overlap_px is None else overlap_px
        self._controls = control_values(session.spec.controls, controls)

    @property
    def scale(self) -> int:
        return self._session.spec.scale

    def upscale(self, frame_hwc: Frame, out: Frame | None = None, on_tile: OnTile | None = None) -> Frame:
        """Upscales one frame.

        Args:
            frame_hwc: uint8 or uint16 (height, width, 3) RGB or (height, width, 1) gray; for a network with four
                channels also (height, width, 4) RGB with straight alpha. `sr_edge.channels` describes how networks with
                one, three and four channels receive them.
            out: Array for the result; None allocates one.
            on_tile: Called after each tile.

        Returns:
            `out`, or a new frame of the same type and channels, `scale` times as large.

        Raises:
            FrameError: `frame_hwc` is not a valid frame, it has 16 bits and the session's graph takes 8-bit input, or
                it has alpha and the network does not take it.
            TileError: the overlap does not fit the session's tile.
            EngineError: the runtime failed.
        """
        require_frame(frame_hwc)
        spec, channels, is_deep = self._session.spec, frame_hwc.shape[2], frame_hwc.dtype == np.uint16
        if is_deep and spec.io is FrameFormat.UINT8_NHWC:
            raise FrameError(
                "the picture has 16 bits, but the graph of this session takes 8-bit frames",
                found=16,
                wanted=8,
                remedy="open the session with the float graph",
            )
        if spec.channels == 1 and channels == 3:
            return self._upscale_luma(frame_hwc, out, on_tile)

        def submit(tile_hwc: Frame) -> int:
            frame = network_frame(tile_hwc, spec.channels)
            frames = batch_from_frame(frame) if is_deep else cast(npt.NDArray[np.uint8], frame)
            return self._session.submit(frames, self._controls)

        def result(ticket: int) -> Frame:
            upscaled = self._session.result(ticket)
            frame = frame_from_batch(cast(Batch, upscaled), np.uint16) if is_deep else cast(Frame, upscaled)
            return picture_frame(frame, channels)

        return self._in_tiles(frame_hwc, submit, result, out, on_tile)

    def _upscale_luma(self, rgb_hwc: Frame, out: Frame | None, on_tile: OnTile | None) -> Frame:
        """Upscales the luma with the network and the chroma by bicubic interpolation.

        The luma is rounded only where 8-bit pictures run in a graph of uint8 frames.
        """
        out = output_frame(rgb_hwc, self.scale, out)
        luma, chroma = split_luma(rgb_hwc)

        def submit(tile_hwc: Planes) -> int:
            return self._session.submit(np.ascontiguousarray(tile_hwc.transpose(2, 0, 1)[np.newaxis]), self._controls)

        def result(ticket: int) -> Planes:
            upscaled = cast(Batch, self._session.result(ticket))
            require_numbers(upscaled)
            return np.asarray(np.clip(upscaled[0].transpose(1, 2, 0), 0.0, 1.0))

        if rgb_hwc.dtype == np.uint8 and self._session.spec.has_uint8_graph:
            upscaled: Planes | Frame = self.upscale(rounded_luma(luma), on_tile=on_tile)
        else:
            upscaled = self._in_tiles(luma, submit, result, None, on_tile)
        return merge_luma(upscaled, chroma, self.scale, out)

    def _in_tiles(
        self,
        frame_hwc: Samples,
        submit: Callable[[Samples], int],
        result: Callable[[int], Samples],
        out: Samples | None,
        on_tile: OnTile | None,
    ) -> Samples:
        spec = self._session.spec
        return upscale_frame_in_flight(
            frame_hwc,
            submit,
            result,
            in_flight=spec.slots,
            tile=spec.tile,
            scale=spec.scale,
            overlap_px=self._overlap_px,
            out=out,
            on_tile=on_tile,
        )

    def upscale_picture(self, picture: Picture, on_tile: OnTile | None = None) -> Picture:
        """Upscales the pixels and, with them, the opacity; profile, metadata and notes are kept.

        A picture whose opacity varies is upscaled three times, see `sr_edge.opacity`. A network with four channels
        upscales the opacity itself, together with the colours, so that once is enough.

        Raises:
            FrameError, TileError, EngineError: as `upscale`.
        """
        if picture.alpha is None:
            return replace(picture, pixels=self.upscale(picture.pixels, on_tile=on_tile))
        if self._session.spec.channels == 4:
            return self._upscale_four_channels(picture, on_tile)

        passes, done_passes = count_passes(picture.alpha), itertools.count()

        def upscale(frame_hwc: Frame) -> Frame:
            before = next(done_passes)
            report = on_tile and (lambda done, total: on_tile(before * total + done, passes * total))
            return self.upscale(frame_hwc, on_tile=report)

        pixels, alpha = upscale_with_alpha(upscale, picture.pixels, picture.alpha, self.scale)
        return replace(picture, pixels=pixels, alpha=alpha)

    def _upscale_four_channels(self, picture: Picture, on_tile: OnTile | None) -> Picture:
        """Upscales colours and alpha together with a network of four channels.

        The network gets the visible colours under the transparent pixels, too, so that hidden ones have no effect.
        """
        upscaled = self.upscale(frame_of(with_visible_colours(picture)), on_tile=on_tile)
        pixels = np.ascontiguousarray(picture_frame(upscaled, picture.pixels.shape[2]))
        return replace(picture, pixels=pixels, alpha=np.ascontiguousarray(upscaled[..., 3]))


class Outcome(str, Enum):
    """The outcome for one file of a folder."""

    WRITTEN = "written"
    KEPT = "kept"
    FAILED = "failed"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class FileResult:
    """The result for one file of a folder.

    Attributes:
        source: The picture.
        target: Its result.
        outcome: Whether the result was written.
        reason: Why it was kept or failed.
        notes: What was converted or left out, one sentence each.
    """

    source: Path
    target: Path
    outcome: Outcome
    reason: str = ""
    notes: tuple[str, ...] = ()


def upscale_file(upscaler: Upscaler, source: Path, target: Path, on_tile: OnTile | None = None) -> tuple[str, ...]:
    """Upscales one picture file. Whether `target` can store the result is checked before the work.

    Returns:
        Notes about what was converted or left out, one sentence each.

    Raises:
        FrameError: `source` cannot be read, or `target` cannot store the result or be written.
        UsageError: both are the same file.
        TileError, EngineError: as `Upscaler.upscale`.
    """
    if source.resolve() == target.resolve():
        raise UsageError(
            f"{target} is both the picture and its result", found=target, remedy="give another name for the result"
        )
    if not target.parent.is_dir():
        raise FrameError(
            f"cannot write {target.name}: the folder {target.parent} does not exist",
            found=target.parent,
            wanted="an existing folder",
            remedy="create it first",
        )
    picture = read_picture(source)
    require_format_supports(target, picture, upscaler.scale)
    try:
        upscaled = upscaler.upscale_picture(picture, on_tile)
    except MemoryError as error:
        raise FrameError(
            f"not enough memory to upscale {source} of {picture.width}x{picture.height} pixels {upscaler.scale} times",
            found=(picture.height, picture.width),
            remedy="cut it into smaller pictures",
        ) from error
    return (*upscaled.notes, *write_picture(target, upscaled))


def upscale_folder(
    upscaler: Upscaler,
    source_folder: Path,
    target_folder: Path,
    *,
    resume: bool = True,
    on_tile: OnTile | None = None,
) -> Iterator[FileResult]:
    """Upscales every picture of a folder to a file of the same name in another folder; failures do not stop it.

    The result of a format that cannot be written, such as GIF or BMP, is a PNG file, see `result_names`.

    Args:
        upscaler: Upscales each picture.
        source_folder: Folder of pictures.
        target_folder: Folder of the results; created if it does not exist.
        resume: Skip pictures whose result is newer, for example after an interrupted run.
        on_tile: Called after each tile of each picture.

    Returns:
        An iterator of one result per file, in the order of `list_pictures(source_folder)`. Nothing is written for a
        file that failed.

    Raises:
        FrameError: `source_folder` is not a folder or contains no pictures, or `target_folder` cannot be created.
            Raised at once.
        UsageError: both folders are the same.
    """
    sources = list_pictures(source_folder)
    if not sources:
        raise FrameError(
            f"{source_folder} contains no pictures",
            found=source_folder,
            wanted=("PNG", "JPEG", "TIFF", "WebP"),
            remedy="give a folder with PNG, JPEG, TIFF, WebP or other picture files",
        )
    if source_folder.resolve() == target_folder.resolve():
        raise UsageError(
            f"{target_folder} is the folder of the pictures and of the results",
            found=target_folder,
            remedy="give another folder for the results",
        )
    try:
        target_folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FrameError(
            f"cannot create the folder {target_folder}: {error.strerror}",
            found=target_folder,
            remedy="give another folder for the results",
        ) from error
    return _file_results(upscaler, sources, target_folder, resume, on_tile)


def _file_results(
    upscaler: Upscaler, sources: Sequence[Path], target_folder: Path, resume: bool, on_tile: OnTile | None
) -> Iterator[FileResult]:
    for source, name in result_names(sources).items():
        target = target_folder / name
        if resume and _is_newer(target, source):
            yield FileResult(source, target, Outcome.KEPT, "exists and is newer than its source")
            continue
        try:
            notes = upscale_file(upscaler, source, target, on_tile)
        except SrEdgeError as error:
            yield FileResult(source, target, Outcome.FAILED, str(error))
        else:
            yield FileResult(source, target, Outcome.WRITTEN, notes=(*_note_on_name(source, target), *notes))


def _note_on_name(source: Path, target: Path) -> tuple[str, ...]:
    """Says that the result has another format than the picture."""
    if source.name == target.name:
        return ()
    return (f"{source.suffix or 'these'} files cannot be written, so the result is a {target.suffix} file",)


def _is_newer(target: Path, source: Path) -> bool:
    return target.is_file() and target.stat().st_mtime_ns >= source.stat().st_mtime_ns
