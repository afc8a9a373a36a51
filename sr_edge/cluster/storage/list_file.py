"""Reads a list: a text file with one path or URL a line."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import NamedTuple

from sr_edge.cluster.storage.locations import Location, Stamp, is_folder, read_bytes, stamp
from sr_edge.errors import StorageError, UsageError

LIST_SUFFIXES = (".txt", ".lst")
"""How the name of a list ends, which tells it from a picture or video."""

_REQUESTS = 16
_CHUNK = 4096


class ListedPath(NamedTuple):
    """An entry of a list: the folder that names of results begin at, and the path below it."""

    base: Location
    path: str

    @property
    def location(self) -> Location:
        return self.base.join(self.path)


def read_list(source: Location) -> tuple[list[ListedPath], int]:
    """Reads the entries of a list in their order.

    White space around an entry is removed; empty lines and lines that begin with "#" are skipped ("./#1.png" names a
    file that begins so). Patterns are not expanded. Relative paths begin at the folder of the list. Results of files
    below that folder keep their folders below it; results of other files keep the folders below the deepest folder that
    these have in common.

    Returns:
        The entries, each once, and how many lines repeat an earlier one.

    Raises:
        UsageError: The file is not text in UTF-8, or an entry cannot be a path or URL.
        StorageError: The file cannot be read.
    """
    addresses, repeated = _addresses(source)
    folder = Location(_normalised(source.parent.address))
    outside: dict[str, list[str]] = {}
    for address in addresses:
        location = Location(address)
        if location.relative_to(folder) is None:
            outside.setdefault(location.root, []).append(location.parent.address)
    bases = {root: Location(_common_folder(root, folders)) for root, folders in outside.items()}
    entries = []
    for address in addresses:
        location = Location(address)
        path = location.relative_to(folder)
        base = folder if path is not None else bases[location.root]
        entries.append(ListedPath(base, path if path is not None else location.relative_to(base) or location.name))
    return entries, repeated


def stamps_of(entries: Sequence[ListedPath]) -> Iterator[tuple[Stamp | None, str]]:
    """Yields the stamp of each entry, or None and the reason; URLs are asked for in parallel."""
    remaining = iter(entries)
    with ThreadPoolExecutor(_REQUESTS) as pool:
        while chunk := list(islice(remaining, _CHUNK)):
            is_remote = any(not entry.base.is_local for entry in chunk)
            yield from (pool.map if is_remote else map)(_stamp_or_reason, chunk)


def _stamp_or_reason(entry: ListedPath) -> tuple[Stamp | None, str]:
    if not {"", ".", ".."}.isdisjoint(entry.path.split("/")):  # a key is not normalised, and no path of a result
        return None, "a component of its path is empty, . or .."
    try:
        found = stamp(entry.location)
        problem = "" if found else "it is a folder" if is_folder(entry.location) else "there is no such file"
    except StorageError as error:
        return None, error.problem
    return found, problem


def _addresses(source: Location) -> tuple[list[str], int]:
    content = read_bytes(source) or b""
    text = content.decode("utf-8-sig", "surrogateescape")
    if "\0" in text:
        raise UsageError(
            f"{source} is not a list in UTF-8",
            found=str(source),
            wanted="a text file with one path or URL a line",
            remedy="save it as UTF-8",
        )
    lines = [line.strip() for line in text.split("\n")]
    named = [line for line in lines if line and not line.startswith("#")]
    addresses = dict.fromkeys(_normalised(Location.parse(line, source.parent).address) for line in named)
    return list(addresses), len(named) - len(addresses)


def _normalised(address: str) -> str:
    """A path without "." and "..", as its letters say; a URL as it is."""
    return os.path.normpath(address) if address.startswith("/") else address


def _common_folder(root: str, folders: list[str]) -> str:
    """The deepest folder that contains all folders below `root`."""
    paths = ["/" + folder[len(root) :].strip("/") for folder in folders]
    return (root + os.path.commonpath(paths)).rstrip("/") if root != "/" else os.path.commonpath(paths)
