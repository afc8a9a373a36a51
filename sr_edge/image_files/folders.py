"""The pictures of a folder, and its other files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sr_edge.errors import FrameError
from sr_edge.image_files.formats import is_picture, result_name

_SHOWN_NAMES = 3


@dataclass(frozen=True)
class FolderContent:
    """The files of a folder without the hidden ones, each sorted by name.

    Attributes:
        pictures: The files that are read as pictures, see `is_picture`.
        others: All other files.
    """

    pictures: tuple[Path, ...]
    others: tuple[Path, ...]


def scan_folder(folder: Path, recursive: bool = False) -> FolderContent:
    """Tells the pictures in `folder` from the other files, by suffix and content.

    Args:
        folder: The folder.
        recursive: Whether the folders in it are searched, too.

    Raises:
        FrameError: `folder` is not a folder.
    """
    if not folder.is_dir():
        raise FrameError(
            f"{folder} is not a folder",
            found=folder,
            wanted="a folder",
            remedy="give the folder that contains the pictures",
        )
    paths = folder.rglob("*") if recursive else folder.iterdir()
    files = sorted(path for path in paths if not path.name.startswith(".") and path.is_file())
    pictures = tuple(path for path in files if is_picture(path))
    chosen = set(pictures)
    return FolderContent(pictures, tuple(path for path in files if path not in chosen))


def list_pictures(folder: Path, recursive: bool = False) -> list[Path]:
    """The pictures in `folder`, sorted by name; may be empty.

    Args:
        folder: The folder.
        recursive: Whether the folders in it are searched, too.

    Raises:
        FrameError: `folder` is not a folder.
    """
    return list(scan_folder(folder, recursive).pictures)


def note_about_others(others: Sequence[Path]) -> list[str]:
    """One sentence that counts the files that are not pictures and names the first; none without such files."""
    if not others:
        return []
    names = ", ".join(path.name for path in others[:_SHOWN_NAMES])
    more = f" and {len(others) - _SHOWN_NAMES} more" if len(others) > _SHOWN_NAMES else ""
    counted = "1 file is not a picture" if len(others) == 1 else f"{len(others)} files are not pictures"
    return [f"{counted}: {names}{more}"]


def result_names(sources: Sequence[Path]) -> dict[Path, str]:
    """A name for the result of each picture of one folder, no two alike: see `result_name`.

    Where that name belongs to the result of another picture, ".png" is appended to the whole name.
    """
    names = {source: source.name for source in sources if result_name(source) == source.name}
    taken = {name.lower() for name in names.values()}
    for source in sources:
        if source in names:
            continue
        name = result_name(source)
        names[source] = f"{source.name}.png" if name.lower() in taken else name
        taken.add(names[source].lower())
    return {source: names[source] for source in sources}
