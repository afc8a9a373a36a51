"""Names of results in a target, and checks that no result replaces a source or another result."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from sr_edge.cluster.storage.locations import Location, exists, is_folder
from sr_edge.cluster.storage.media_kinds import Kind
from sr_edge.errors import UsageError
from sr_edge.image_files import result_names

_OTHER_CONTAINER = ".mkv"
"""The container for videos whose own container cannot be written; it can contain every codec."""


class NamedSource(Protocol):
    """A source with the name of its result."""

    @property
    def name(self) -> str: ...

    @property
    def source(self) -> Location: ...


def result_names_of(kinds: Mapping[str, Kind]) -> dict[str, str]:
    """The names of the results of the pictures and videos in one folder.

    Pictures are named by `sr_edge.image_files.result_names`. A video keeps its name, or becomes an .mkv file if its
    container cannot be written; where that is the name of another result, ".mkv" is appended to the whole name.
    """
    pictures = [Path(name) for name, kind in kinds.items() if kind is Kind.PICTURE]
    names = {source.name: result for source, result in result_names(pictures).items()}
    videos = [name for name, kind in kinds.items() if kind is Kind.VIDEO]
    if videos:
        from sr_edge.camera.file.containers import SUFFIXES

        written = [name for name in videos if Path(name).suffix.lower() in SUFFIXES]
        names.update((name, name) for name in written)
        taken = {name.lower() for name in names.values()}
        for video in videos:
            if video in names:
                continue
            result = f"{Path(video).stem}{_OTHER_CONTAINER}"
            names[video] = f"{video}{_OTHER_CONTAINER}" if result.lower() in taken else result
            taken.add(names[video].lower())
    return names


def require_different_names(files: Sequence[NamedSource], target: Location) -> None:
    """Raises UsageError if two files have the same name in the target, or a result would replace a source.

    Names that differ in upper and lower case only are the same, because on many file systems they are.
    """
    seen: set[int] = set()
    for count, file in enumerate(files):
        key = hash(file.name.lower())  # a set of numbers, because a million names would need much memory
        if key in seen:
            _require_other_name(files[:count], file, target)
        seen.add(key)
    _require_kept_sources(files, target)


def _require_other_name(earlier: Sequence[NamedSource], file: NamedSource, target: Location) -> None:
    for other in earlier:
        if other.name.lower() == file.name.lower():
            raise UsageError(
                f"{other.source} and {file.source} would have the same result {target.join(file.name)}",
                found=(str(other.source), str(file.source)),
                wanted="a name of its own for each result, in upper and lower case",
                remedy="rename one of them, or upscale them to different folders",
            )


def _require_kept_sources(files: Sequence[NamedSource], target: Location) -> None:
    """Raises UsageError if a result has the path of a source."""
    folders: dict[str, str] = {}
    sources = {hash(_real(file.source, folders)) for file in files}
    for file in files:
        result = _real(target.join(file.name), folders)
        if hash(result) not in sources:
            continue
        replaced = next((other.source for other in files if _real(other.source, folders) == result), None)
        if replaced is not None:
            raise UsageError(
                f"the result of {file.source} would replace {'it' if replaced == file.source else replaced}",
                found=str(replaced),
                wanted="another folder than that of the source",
                remedy="give another folder for the results",
            )


def _real(location: Location, folders: dict[str, str]) -> str:
    """The address without symbolic links in its folder, which is looked up once."""
    if not location.is_local:
        return location.address
    folder = location.parent.address
    if folder not in folders:
        folders[folder] = os.path.realpath(folder)
    return f"{folders[folder]}/{location.name}"


def require_separate(base: Location, target: Location, max_depth: int | None) -> None:
    """Raises UsageError if results would be listed as sources in the next run, or would replace sources.

    Args:
        base: The folder whose files are upscaled.
        target: The folder of the results.
        max_depth: How many components the paths of sources below `base` can have; None for any number.
    """
    inner = _path_below(target, base)
    if inner is not None and (max_depth is None or inner.count("/") + bool(inner) < max_depth):
        where = "is also the source" if not inner else f"is in the source {base}"
        raise UsageError(
            f"the target {target} {where}",
            found=str(target),
            wanted="a folder outside the source",
            remedy="give another folder for the results",
        )
    outer = _path_below(base, target)
    if outer:
        _require_nothing_below(base, target, outer)


def _require_nothing_below(base: Location, target: Location, outer: str) -> None:
    """Refuses a source in the target that has a folder with its own path, to which results would be written."""
    inside = base.join(outer.split("/", 1)[0])
    if is_folder(inside) or exists(inside):
        raise UsageError(
            f"results of {inside} would be written into the source {base}",
            found=str(target),
            wanted="a folder outside the source",
            remedy="give another folder for the results",
        )


def _path_below(location: Location, folder: Location) -> str | None:
    """The path of a location below a folder, empty if they are the same; None if it is not below it.

    Local folders are compared as files, so that symbolic links, ".." and other names of one folder are seen.
    """
    if not location.is_local or not folder.is_local:
        return "" if location == folder else location.relative_to(folder)
    real = Path(os.path.realpath(location.path))
    for ancestor in (real, *real.parents):
        if ancestor.exists() and folder.path.exists() and ancestor.samefile(folder.path):
            below = real.relative_to(ancestor).as_posix()
            return "" if below == "." else below
    return None
