"""What is sent to the workers, as plain values: pictures, whole videos, parts of videos, and the join of parts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from sr_edge.cluster.storage.listing import SourceFile
from sr_edge.cluster.storage.locations import Location
from sr_edge.cluster.storage.media_kinds import Kind

MAX_PICTURES = 16
MAX_BYTES = 2_000_000
"""The limits of an item with several pictures: beyond them the overhead of an item is small against its work."""
_ITEMS_FOR_EACH_WORKER = 8
"""Fewer items than this would leave workers without work at the end."""


@dataclass(frozen=True)
class PictureItem:
    """One picture, or several small ones that share the overhead of an item.

    Attributes:
        id: Identifies the item; the same in each run with the same files.
        files: The pictures.
    """

    id: str
    files: tuple[SourceFile, ...]

    def singles(self) -> Iterator[PictureItem]:
        """An item for each picture, so that one that ends its process does not take the others with it."""
        return (_picture_item((file,)) for file in self.files)


@dataclass(frozen=True)
class VideoItem:
    """A whole video for one worker."""

    file: SourceFile

    @property
    def id(self) -> str:
        return self.file.name


@dataclass(frozen=True)
class VideoPart:
    """Some frames of a video.

    Attributes:
        file: The video.
        number: Number of the part, counted from 0.
        first: Its first frame, counted from 0.
        end: The frame after its last one.
        staging: The folder for its segments.
    """

    file: SourceFile
    number: int
    first: int
    end: int
    staging: Location

    @property
    def id(self) -> str:
        return f"{self.file.name} [{self.first}:{self.end}]"


@dataclass(frozen=True)
class JoinItem:
    """The join of all parts of a video, when they are finished.

    Attributes:
        file: The video.
        parts: How many parts it has.
        staging: The folder with their segments, which is removed after the join.
    """

    file: SourceFile
    parts: int
    staging: Location

    @property
    def id(self) -> str:
        return f"{self.file.name} [join]"


Item = PictureItem | VideoItem | VideoPart | JoinItem


def items_of(files: Sequence[SourceFile], workers: int) -> Iterator[PictureItem | VideoItem]:
    """Yields the items of a job: videos first, the largest before the others, then pictures in their order.

    Small pictures of one folder are grouped, up to `MAX_PICTURES` and `MAX_BYTES`, and less where there are few
    pictures for the workers.

    Args:
        files: The files to upscale.
        workers: The number of workers at the start.
    """
    videos = sorted((file for file in files if file.kind is Kind.VIDEO), key=lambda file: -file.stamp.size)
    yield from map(VideoItem, videos)
    count = len(files) - len(videos)
    most = max(1, min(MAX_PICTURES, count // (_ITEMS_FOR_EACH_WORKER * max(1, workers))))
    pictures = (file for file in files if file.kind is Kind.PICTURE)
    for _, folder in groupby(pictures, lambda file: file.name.rpartition("/")[0]):
        yield from map(_picture_item, _groups(folder, most))


def _groups(files: Iterator[SourceFile], most: int) -> Iterator[tuple[SourceFile, ...]]:
    """Groups neighbours with at most `most` files and `MAX_BYTES`; a larger file is alone."""
    group: list[SourceFile] = []
    size = 0
    for file in files:
        if group and (len(group) == most or size + file.stamp.size > MAX_BYTES):
            yield tuple(group)
            group, size = [], 0
        group.append(file)
        size += file.stamp.size
    if group:
        yield tuple(group)


def _picture_item(files: tuple[SourceFile, ...]) -> PictureItem:
    more = f" and {len(files) - 1} more" if len(files) > 1 else ""
    return PictureItem(f"{files[0].name}{more}", files)
