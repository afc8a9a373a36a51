"""How files become items: few enough to be cheap, enough for all workers."""

from __future__ import annotations

import pickle
import sys
from dataclasses import replace

import pytest

from sr_edge.cluster.items import MAX_BYTES, MAX_PICTURES, JoinItem, PictureItem, VideoItem, VideoPart, items_of
from sr_edge.cluster.storage.listing import SourceFile
from sr_edge.cluster.storage.locations import Location, Stamp
from sr_edge.cluster.storage.media_kinds import Kind

BASE = Location("s3://archive")


def picture(name: str, size: int = 1000) -> SourceFile:
    return SourceFile(BASE, name, name, Kind.PICTURE, Stamp(size, "1"))


def video(name: str, size: int) -> SourceFile:
    return replace(picture(name, size), kind=Kind.VIDEO)


def sizes(items: list[PictureItem | VideoItem]) -> list[int]:
    return [len(item.files) if isinstance(item, PictureItem) else 0 for item in items]


def test_videos_come_first_and_the_largest_before_the_others() -> None:
    files = [picture("a.png"), video("b.mkv", 10), video("c.mkv", 30), video("d.mkv", 20)]
    assert [item.id for item in items_of(files, 1)] == ["c.mkv", "d.mkv", "b.mkv", "a.png"]


def test_every_file_is_in_one_item() -> None:
    files = [picture(f"{number % 3}/{number}.png", 40_000 * (number % 7)) for number in range(1000)]
    files.sort(key=lambda file: file.name)
    items = list(items_of(files, 2))
    assert [file for item in items if isinstance(item, PictureItem) for file in item.files] == files
    assert len({item.id for item in items}) == len(items)


def test_small_pictures_are_grouped() -> None:
    assert sizes(list(items_of([picture(f"{number}.png") for number in range(320)], 2))) == [MAX_PICTURES] * 20


def test_groups_have_few_bytes() -> None:
    files = [picture(f"{number}.png", MAX_BYTES // 4 + 1) for number in range(400)]
    assert set(sizes(list(items_of(files, 1)))) <= {3, 1}
    assert sizes(list(items_of([picture(f"{number}.png", 2 * MAX_BYTES) for number in range(400)], 1))) == [1] * 400


@pytest.mark.parametrize(("count", "workers", "largest"), [(16, 4, 1), (64, 4, 2), (10, 1, 1), (320, 0, MAX_PICTURES)])
def test_few_pictures_are_spread_over_the_workers(count: int, workers: int, largest: int) -> None:
    assert max(sizes(list(items_of([picture(f"{number}.png") for number in range(count)], workers)))) == largest


def test_a_group_is_split_into_items_of_one_picture() -> None:
    (item,) = list(items_of([picture(f"{number}.png") for number in range(8)], 1))[:1]
    assert isinstance(item, PictureItem)
    assert [single.id for single in item.singles()] == [file.name for file in item.files]


def test_items_travel_between_processes() -> None:
    file, staging = video("film.mkv", 10), Location("s3://large/.sr-edge-batch/parts/1")
    for item in (
        PictureItem("a", (picture("a"),)),
        VideoItem(file),
        VideoPart(file, 1, 600, 1200, staging),
        JoinItem(file, 2, staging),
    ):
        assert pickle.loads(pickle.dumps(item)) == item
        assert item.id


def test_a_listed_file_is_small() -> None:
    assert sys.getsizeof(picture("a.png")) <= 80
