"""Upscales picture files and folders of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from sr_edge.errors import FrameError, SrEdgeError, UsageError
from sr_edge.image_files import list_pictures, read_picture, require_format_supports, result_names, write_picture
from sr_edge.upscaler.tiled_session import OnTile
from sr_edge.upscaler.upscaler import Upscaler


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


def upscale_file(
    upscaler: Upscaler, source: Path | str, target: Path | str, on_tile: OnTile | None = None
) -> tuple[str, ...]:
    """Upscales one picture file to another, which keeps metadata and colour profile.

    Whether `target` can store the result is checked before the work.

        with sr_edge.open_upscaler("tiny-x2.sredge") as upscaler:
            sr_edge.upscale_file(upscaler, "photo.png", "large.png")

    Args:
        upscaler: Upscales the picture.
        source: The picture file.
        target: The file to write, in the format of its suffix: PNG, JPEG, TIFF or WebP.
        on_tile: Called after each tile.

    Returns:
        Notes about what was converted or left out, one sentence each.

    Raises:
        FrameError: `source` cannot be read, or `target` cannot store the result or be written.
        UsageError: both are the same file.
        TileError, EngineError: as `Upscaler.upscale`.
    """
    source, target = Path(source), Path(target)
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
    upscaled = upscaler.upscale_picture(picture, on_tile)
    return (*upscaled.notes, *write_picture(target, upscaled))


def upscale_folder(
    upscaler: Upscaler,
    source_folder: Path | str,
    target_folder: Path | str,
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
    source_folder, target_folder = Path(source_folder), Path(target_folder)
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
