"""Walks through folders and prefixes of object stores, one folder at a time."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from stat import S_ISDIR, S_ISREG
from typing import NamedTuple

from sr_edge.cluster.storage.locations import (
    Location,
    Stamp,
    file_system,
    local_stamp,
    remote_stamp,
    storage_errors,
)
from sr_edge.errors import StorageError

OnProblem = Callable[[str, str], None]
"""Called with a path below the root and why nothing can be read there."""


class FoundFile(NamedTuple):
    """A file in a folder.

    Attributes:
        name: Its name.
        stamp: Its stamp; None for a device, a pipe or a socket, and for a file with a problem.
        problem: Why the file cannot be read; empty if it can.
    """

    name: str
    stamp: Stamp | None
    problem: str = ""


@dataclass(frozen=True)
class FolderContent:
    """The files of one folder, sorted by name.

    Attributes:
        path: The folder relative to the root of the walk, with "/"; empty for the root itself.
        files: Its files; links to files are files.
        linked_folders: The names of links to folders, which are not followed.
    """

    path: str
    files: tuple[FoundFile, ...]
    linked_folders: tuple[str, ...]

    def path_of(self, name: str) -> str:
        return f"{self.path}/{name}" if self.path else name


def walk(
    root: Location, on_problem: OnProblem, max_depth: int | None = None, with_hidden: bool = False
) -> Iterator[FolderContent]:
    """Yields the folders below `root` in the order of their names, and reports folders that cannot be read.

    Links to folders are not followed, so that a walk always ends.

    Args:
        root: A folder or a prefix of an object store.
        on_problem: Called for folders that cannot be read.
        max_depth: 1 walks through `root` alone; None has no limit.
        with_hidden: Whether names that begin with "." are walked through, too.

    Raises:
        StorageError: `root` itself cannot be read.
    """
    read = _local_folder if root.is_local else _remote_folder
    folders = [("", 1)]
    while folders:
        path, depth = folders.pop()
        location = root.join(path) if path else root
        try:
            with storage_errors(location, "list"):
                names, files, links = read(location, with_hidden)
        except StorageError as error:
            if not path:
                raise
            on_problem(path, error.problem)
            continue
        content = FolderContent(path, tuple(sorted(files)), tuple(sorted(links)))
        yield content
        if max_depth is None or depth < max_depth:
            folders += [(content.path_of(name), depth + 1) for name in sorted(names, reverse=True)]


def list_files(root: Location) -> Iterator[tuple[str, Stamp]]:
    """Yields the path below `root` and the stamp of each file, also of hidden ones; nothing if there is no folder.

    Raises:
        StorageError: A folder cannot be read.
    """

    def refuse(path: str, reason: str) -> None:
        raise StorageError(f"cannot list {root.join(path)}: {reason}", found=str(root.join(path)))

    try:
        for content in walk(root, refuse, with_hidden=True):
            for file in content.files:
                if file.stamp is not None:
                    yield content.path_of(file.name), file.stamp
    except StorageError as error:
        if not isinstance(error.__cause__, FileNotFoundError):
            raise


def remove_folder(location: Location) -> None:
    """Removes a folder with all that it contains, if there is one. Raises StorageError if that fails."""
    with storage_errors(location, "remove"):
        try:
            if location.is_local:
                shutil.rmtree(location.path)
            else:
                system, path = file_system(location)
                system.rm(path, recursive=True)
        except FileNotFoundError:
            pass


_Content = tuple[list[str], list[FoundFile], list[str]]
"""Folders, files, and links to folders."""


def _local_folder(location: Location, with_hidden: bool) -> _Content:
    folders, files, links = [], [], []
    with os.scandir(location.path) as entries:
        for entry in entries:
            if entry.name.startswith(".") and not with_hidden:
                continue
            if entry.is_dir(follow_symlinks=False):
                folders.append(entry.name)
                continue
            try:
                status = entry.stat()
            except OSError as error:
                reason = "the symbolic link leads nowhere" if entry.is_symlink() else str(error.strerror)
                files.append(FoundFile(entry.name, None, reason))
                continue
            if S_ISDIR(status.st_mode):
                links.append(entry.name)
            else:
                files.append(FoundFile(entry.name, local_stamp(status) if S_ISREG(status.st_mode) else None))
    return folders, files, links


def _remote_folder(location: Location, with_hidden: bool) -> _Content:
    system, path = file_system(location)
    prefix = f"{path.rstrip('/')}/"
    folders: list[str] = []
    files: list[FoundFile] = []
    for info in system.ls(path, detail=True):
        # An object whose key ends in "/" stands for the folder itself; its name is the path, or ends in "/".
        name = str(info["name"])
        name = name[len(prefix) :] if name.startswith(prefix) else ""
        is_folder = info["type"] == "directory"
        if name.strip("/") == "":
            if is_folder and str(info["name"]).endswith("/"):
                files.append(FoundFile("/", None, "keys with an empty component are not supported"))
        elif name.startswith(".") and not with_hidden:
            continue
        elif is_folder:
            folders.append(name.rstrip("/"))
        else:
            files.append(FoundFile(name, remote_stamp(info)))
    return folders, files, []
