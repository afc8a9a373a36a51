"""Local paths and URLs behind the same functions, with errors that say what to do."""

from __future__ import annotations

import errno
import importlib.util
import os
import pickle
import sys
from collections.abc import Callable
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from sr_edge.cluster.storage.folders import list_files, remove_folder
from sr_edge.cluster.storage.locations import (
    Location,
    exists,
    is_folder,
    read_bytes,
    remove,
    require_target,
    stamp,
    storage_errors,
    write_bytes,
)
from sr_edge.cluster.storage.transfer import fetch, output, publish
from sr_edge.errors import StorageError, UsageError
from sr_edge.installation import how_to_install
from tests.expected_errors import raises

HOSTILE_NAMES = (
    "with space.png",
    "größe 写真.png",
    "100%25 #1?.png",
    "a::b.png",
    "semi;colon&.png",
    "n" * 180 + ".png",
)


@pytest.fixture(params=["local", "memory", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Location:
    """An empty folder of each kind."""
    if request.param == "local":
        return Location(str(tmp_path / "place"))
    location: Location = request.getfixturevalue(request.param)
    return location


class TestLocation:
    @pytest.mark.parametrize(
        ("text", "address"),
        [
            ("/data/a", "/data/a"),
            ("/data/a/", "/data/a"),
            ("file:///data/a b", "/data/a b"),
            ("s3://bucket/a/b/", "s3://bucket/a/b"),
            ("S3A://bucket", "s3://bucket"),
            ("gcs://x/y", "gs://x/y"),
            ("memory://x", "memory://x"),
        ],
    )
    def test_is_read_from_text(self, text: str, address: str) -> None:
        if address.startswith("gs:"):
            pytest.importorskip("gcsfs")
        assert Location.parse(text) == Location(address)

    def test_relative_paths_begin_at_the_working_directory(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        assert Location.parse("a/./b").path == tmp_path / "a" / "b"

    def test_relative_paths_begin_at_a_base(self) -> None:
        assert Location.parse("../c/./d.png", Location("s3://x/a/b")) == Location("s3://x/a/c/d.png")
        assert Location.parse("c.png", Location("/a")) == Location("/a/c.png")
        assert Location.parse("/c.png", Location("s3://x/a")) == Location("/c.png")

    def test_has_parts(self) -> None:
        location = Location("s3://bucket/a/B.PNG")
        assert (location.name, location.suffix, location.parent) == ("B.PNG", ".png", Location("s3://bucket/a"))
        assert location.parent.parent.parent == Location("s3://bucket")
        assert Location("s3://bucket").name == ""
        assert Location("/a").parent == Location("/")
        assert location.relative_to(Location("s3://bucket/")) == "a/B.PNG"
        assert Location("s3://bucket2/a").relative_to(Location("s3://bucket")) is None

    def test_travels_between_processes(self) -> None:
        location = Location("s3://bucket/a")
        assert pickle.loads(pickle.dumps(location)) == location

    def test_shows_no_secrets(self) -> None:
        location = Location("sftp://user:geheim@host/a.png?token=geheim")
        assert "geheim" not in str(location)
        with pytest.raises(UsageError) as caught:
            require_target(location)
        assert "geheim" not in str(caught.value)

    @pytest.mark.parametrize("text", ["", "a\0b", "simplecache::s3://bucket/a", "zip://*.png::s3://bucket/a.zip"])
    def test_refuses_what_is_no_place(self, text: str) -> None:
        with raises(UsageError):
            Location.parse(text)

    def test_refuses_an_unknown_scheme(self) -> None:
        with raises(UsageError, found="s4"):
            Location.parse("s4://user:geheim@bucket/a")

    def test_names_the_extra_if_fsspec_is_missing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "fsspec.registry", None)
        with raises(UsageError, found="s3", remedy=how_to_install("cluster")):
            Location.parse("s3://bucket/a")
        assert Location.parse("/data").is_local

    def test_names_the_package_of_a_scheme(self) -> None:
        if importlib.util.find_spec("adlfs") is not None:
            pytest.skip("adlfs is installed")
        with raises(UsageError, found="abfs", wanted="adlfs"):
            Location.parse("abfs://container/a")


class TestFiles:
    @pytest.mark.parametrize("name", HOSTILE_NAMES)
    def test_are_written_and_read_under_any_name(self, place: Location, name: str) -> None:
        location = place.join("folder", name)
        assert (exists(location), read_bytes(location)) == (False, None)
        write_bytes(location, b"content")
        assert exists(location)
        assert read_bytes(location) == b"content"
        assert [path for path, _ in list_files(place)] == [f"folder/{name}"]
        with fetch(location) as path:
            assert path.read_bytes() == b"content"
            assert path.name == name
        remove(location)
        remove(location)
        assert not exists(location)

    def test_have_one_stamp_however_they_are_found(self, place: Location) -> None:
        location = place.join("a.png")
        write_bytes(location, b"content")
        assert dict(list_files(place)) == {"a.png": stamp(location)}

    def test_have_another_stamp_after_a_change(self, place: Location) -> None:
        location = place.join("a.png")
        write_bytes(location, b"content")
        before = stamp(location)
        write_bytes(location, b"CONTENT")
        assert stamp(location) != before

    def test_that_are_local_are_not_copied(self, tmp_path: Path) -> None:
        file = tmp_path / "a.png"
        file.write_bytes(b"content")
        with fetch(Location(str(file))) as path:
            assert path == file

    def test_that_are_missing_cannot_be_fetched(self, place: Location) -> None:
        with raises(StorageError, found=str(place.join("a.png"))), fetch(place.join("a.png")):
            pass

    def test_are_removed_with_their_folder(self, place: Location) -> None:
        remove_folder(place.join("folder"))
        for name in ("folder/a", "folder/b/c", "other"):
            write_bytes(place.join(name), b"1")
        remove_folder(place.join("folder"))
        assert [path for path, _ in list_files(place)] == ["other"]

    def test_downloads_leave_nothing_behind(self, memory: Location) -> None:
        write_bytes(memory.join("a.png"), b"content")
        with fetch(memory.join("a.png")) as path:
            folder = path.parent
        assert not folder.exists()

    def test_too_long_a_name_keeps_its_suffix(self, memory: Location) -> None:
        write_bytes(memory.join("ä" * 400 + ".png"), b"content")
        with fetch(memory.join("ä" * 400 + ".png")) as path:
            assert path.suffix == ".png"


class TestResults:
    def test_appear_when_the_block_ends(self, place: Location) -> None:
        location = place.join("a/b", "c.png")
        with output(location) as path:
            path.write_bytes(b"result")
            assert exists(location) == location.is_local
        assert read_bytes(location) == b"result"

    def test_do_not_appear_after_an_error(self, s3: Location) -> None:
        with pytest.raises(KeyboardInterrupt), output(s3.join("c.png")) as path:
            path.write_bytes(b"half")
            raise KeyboardInterrupt
        assert list(list_files(s3)) == []

    def test_of_another_disk_appear_whole(self, place: Location, tmp_path: Path) -> None:
        file = tmp_path / "result"
        file.write_bytes(bytes(300_000))
        publish(file, place.join("a", "b.png"))
        assert read_bytes(place.join("a", "b.png")) == bytes(300_000)
        assert [path for path, _ in list_files(place)] == ["a/b.png"]

    def test_fail_where_a_file_is_in_the_way(self, tmp_path: Path) -> None:
        (tmp_path / "a").write_bytes(b"")
        with raises(StorageError), output(Location(str(tmp_path / "a" / "b.png"))):
            pass

    def test_fail_for_names_that_are_too_long(self, tmp_path: Path) -> None:
        (tmp_path / "result").write_bytes(b"1")
        with raises(StorageError):
            publish(tmp_path / "result", Location(str(tmp_path / ("n" * 300 + ".png"))))


class DamagingStore(MemoryFileSystem):  # type: ignore[misc]  # fsspec has no types
    """A store that loses the end of each file on its way."""

    protocol = "damaging"

    def put_file(self, lpath: str, rpath: str, **options: object) -> None:
        self.pipe_file(rpath, Path(lpath).read_bytes()[:-1])

    def get_file(self, rpath: str, lpath: str, **options: object) -> None:
        Path(lpath).write_bytes(self.cat_file(rpath)[:-1])


class TestDamagedTransfer:
    @pytest.fixture
    def damaging(self) -> Location:
        fsspec.register_implementation("damaging", DamagingStore, clobber=True)
        return Location("damaging://folder/a.png")

    def test_to_a_store_is_an_error_and_leaves_nothing(self, damaging: Location, tmp_path: Path) -> None:
        (tmp_path / "result").write_bytes(bytes(100))
        with raises(StorageError, found=99, wanted=100):
            publish(tmp_path / "result", damaging)
        assert not exists(damaging)

    def test_from_a_store_is_an_error(self, damaging: Location) -> None:
        write_bytes(damaging, bytes(100))
        with raises(StorageError, found=99, wanted=100), fetch(damaging):
            pass


class TestTarget:
    def test_is_created(self, tmp_path: Path) -> None:
        require_target(Location(str(tmp_path / "a" / "b")))
        assert (tmp_path / "a" / "b").is_dir()

    def test_is_no_file(self, tmp_path: Path) -> None:
        (tmp_path / "a").write_bytes(b"")
        with raises(UsageError, found=str(tmp_path / "a")):
            require_target(Location(str(tmp_path / "a")))

    def test_shows_no_half_written_files(self) -> None:
        with raises(UsageError, found="http"):
            require_target(Location("http://host/folder"))


class TestErrors:
    @pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
    def test_name_a_full_disk(self, tmp_path: Path, number: int) -> None:
        place = Location(str(tmp_path / "a.png"))
        with raises(StorageError, found=str(place)) as caught, storage_errors(place, "write"):
            raise OSError(number, os.strerror(number), str(tmp_path / "temporary"))
        assert "space" in caught.value.problem

    def test_name_what_is_not_allowed(self, s3: Location) -> None:
        with raises(StorageError) as caught, storage_errors(s3, "read"):
            raise PermissionError("Forbidden")
        assert "denied" in caught.value.problem

    def test_of_libraries_show_no_secrets(self) -> None:
        place = Location("sftp://user:geheim@host/a.png")
        with pytest.raises(StorageError) as caught, storage_errors(place, "read"):
            raise RuntimeError(f"cannot open {place.address}\nat line 1")
        assert "geheim" not in str(caught.value)
        assert "\n" not in str(caught.value)

    def test_name_that_is_no_unicode_cannot_be_stored(self, s3: Location) -> None:
        place = s3.join(os.fsdecode(b"latin\xe9.png"))
        with raises(StorageError), output(place) as path:
            path.write_bytes(b"result")

    def test_name_a_bucket_that_does_not_exist(self, s3_settings: None) -> None:
        missing = Location("s3://no-such-bucket/a.png")
        for action in (stamp, read_bytes, is_folder, lambda place: write_bytes(place, b"1")):
            with raises(StorageError, found=str(missing)) as caught:
                action(missing)
            assert "bucket" in caught.value.problem

    def test_name_missing_credentials(
        self, new_connections: Callable[[], None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        for name in [name for name in os.environ if name.startswith("AWS_") and name != "AWS_ENDPOINT_URL"]:
            monkeypatch.delenv(name)
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        new_connections()
        with raises(StorageError) as caught:
            stamp(Location("s3://bucket/a.png"))
        assert "AWS_PROFILE" in str(caught.value.remedy)

    def test_name_a_server_that_cannot_be_reached(
        self, new_connections: Callable[[], None], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
        new_connections()
        with raises(StorageError) as caught:
            stamp(Location("s3://bucket/a.png"))
        assert "reached" in caught.value.problem
