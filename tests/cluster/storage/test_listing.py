"""What a source contains: folders, patterns, single files, lists and URLs of these, with the names of the results."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image

from sr_edge.cluster.storage.listing import Listing, list_source
from sr_edge.cluster.storage.locations import Location, file_system, write_bytes
from sr_edge.cluster.storage.media_kinds import Kind, kind_of
from sr_edge.errors import FrameError, UsageError
from tests.expected_errors import raises


def png() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "PNG")
    return file.getvalue()


PNG = png()
PLAIN_TEXT = b"just a text that is long enough to be looked at"


def fill(place: Location, names: Sequence[str]) -> None:
    """Writes a picture under names of pictures, and text under all others."""
    for name in names:
        is_picture = name.lower().endswith((".png", ".bmp", ".jpg", ".gif"))
        content, location = PNG if is_picture else PLAIN_TEXT, place.join(name)
        if location.is_local:  # without waiting for the disk
            location.path.parent.mkdir(parents=True, exist_ok=True)
            location.path.write_bytes(content)
        else:
            write_bytes(location, content)


def names_in(listing: Listing) -> list[str]:
    return [file.name for file in listing.files]


@pytest.fixture
def target(tmp_path: Path) -> Location:
    return Location(str(tmp_path / "results"))


@pytest.fixture(params=["local", "memory", "s3"])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Location:
    """An empty folder of each kind."""
    if request.param == "local":
        return Location(str(tmp_path / "photos"))
    location: Location = request.getfixturevalue(request.param)
    return location.join("photos")


class TestFolder:
    def test_is_listed_with_its_folders(self, source: Location, target: Location) -> None:
        names = ["a.png", "b/c.PNG", "b/d e/größe #1%.png", "b/notes.txt", "film.mp4", "z.png"]
        fill(source, [*names, ".hidden/x.png", "b/.x.png", "b/.y.png.sr-edge.part"])
        listing = list_source(source.address, target)
        assert names_in(listing) == ["a.png", "film.mp4", "z.png", "b/c.PNG", "b/d e/größe #1%.png"]
        assert [file.kind for file in listing.files].count(Kind.VIDEO) == 1
        assert (listing.other_count, listing.other_names, listing.failures) == (1, ["b/notes.txt"], [])
        assert [file.source for file in listing.files] == [source.join(name) for name in names_in(listing)]
        assert {file.stamp.size for file in listing.files} == {len(PNG), len(PLAIN_TEXT)}
        assert len(listing.notes) == 1

    def test_segments_of_an_unfinished_video_are_no_sources(self, source: Location, target: Location) -> None:
        fill(source, ["a.png", "b.mp4.segments/000000.png", "b.mp4.segments/plan.json", "c.segments/d.png"])
        assert names_in(list_source(source.address, target)) == ["a.png", "c.segments/d.png"]

    def test_has_names_of_results_that_can_be_written(self, source: Location, target: Location) -> None:
        fill(source, ["a/x.bmp", "a/y.png", "b/x.gif", "b/x.png", "c/film.avi", "c/film.mkv", "c/other.avi"])
        listing = list_source(source.address, target)
        assert names_in(listing) == [
            "a/x.png",
            "a/y.png",
            "b/x.gif.png",
            "b/x.png",
            "c/film.avi.mkv",
            "c/film.mkv",
            "c/other.mkv",
        ]
        assert len(listing.notes) == 3

    def test_without_pictures_is_refused(self, source: Location, target: Location) -> None:
        fill(source, ["notes.txt"])
        with raises(FrameError, found=1):
            list_source(source.address, target)

    def test_that_does_not_exist_is_refused(self, source: Location, target: Location) -> None:
        with raises(FrameError, found=str(source.join("nothing"))):
            list_source(source.join("nothing").address, target)

    def test_may_have_a_name_with_special_characters(self, source: Location, target: Location) -> None:
        fill(source, ["[2020] *?/a.png"])
        assert names_in(list_source(source.join("[2020] *?").address, target)) == ["a.png"]

    def test_counts_what_it_found(self, tmp_path: Path, target: Location) -> None:
        (tmp_path / "photos").mkdir()
        for number in range(2100):
            (tmp_path / "photos" / f"{number}.png").write_bytes(b"")
        counts: list[int] = []
        list_source(str(tmp_path / "photos"), target, counts.append)
        assert counts == [2100]


class TestLocalFolder:
    def test_with_names_that_are_hard_to_print(self, tmp_path: Path, target: Location) -> None:
        folder = tmp_path / "photos"
        folder.mkdir()
        names = [
            "line\nbreak.png",
            "esc\x1b[31m.png",
            "quote'\".png",
            os.fsdecode(b"latin\xe9.png"),
            "n" * 230 + ".png",
        ]
        for name in names:
            (folder / name).write_bytes(PNG)
        assert sorted(names_in(list_source(str(folder), target))) == sorted(names)

    def test_judges_files_by_their_content(self, tmp_path: Path, target: Location, tiny_video: Path) -> None:
        folder = tmp_path / "photos"
        folder.mkdir()
        (folder / "picture without suffix").write_bytes(PNG)
        (folder / "film").write_bytes(tiny_video.read_bytes())
        (folder / "code.ts").write_bytes(PLAIN_TEXT)
        (folder / "false.mkv.bak").write_bytes(b"\x1a\x45\xdf\xa3" + bytes(300))
        (folder / "damaged.png").write_bytes(b"")
        (folder / "damaged.mp4").write_bytes(b"")
        listing = list_source(str(folder), target)
        kinds = {file.path: file.kind for file in listing.files}
        assert kinds == {
            "damaged.mp4": Kind.VIDEO,
            "damaged.png": Kind.PICTURE,
            "film": Kind.VIDEO,
            "picture without suffix": Kind.PICTURE,
        }
        assert {file.path: file.name for file in listing.files}["film"] == "film.mkv"
        assert listing.other_count == 2

    def test_with_links(self, tmp_path: Path, target: Location) -> None:
        folder = tmp_path / "photos"
        fill(Location(str(folder)), ["a/b.png"])
        (folder / "a" / "loop").symlink_to(folder)
        (folder / "self.png").symlink_to("self.png")
        (folder / "broken.png").symlink_to("nothing.png")
        (folder / "broken.doc").symlink_to("nothing.doc")
        (folder / "linked.png").symlink_to("a/b.png")
        listing = list_source(str(folder), target)
        assert names_in(listing) == ["linked.png", "a/b.png"]
        assert [Path(failure.source).name for failure in listing.failures] == ["broken.png", "self.png"]
        assert (listing.other_names, listing.linked_folders) == (["broken.doc"], ["a/loop"])

    def test_with_devices_and_pipes(self, tmp_path: Path, target: Location) -> None:
        folder = tmp_path / "photos"
        fill(Location(str(folder)), ["a.png"])
        os.mkfifo(folder / "pipe.png")
        listing = list_source(str(folder), target)
        assert (names_in(listing), listing.other_names) == (["a.png"], ["pipe.png"])

    def test_with_a_folder_that_cannot_be_read(self, tmp_path: Path, bound_by_rights: list[str]) -> None:
        folder = tmp_path / "photos"
        fill(Location(str(folder)), ["a.png", "b/locked/c.png", "b/d.png"])
        (folder / "b" / "locked").chmod(0)
        program = (
            "import sys\nfrom sr_edge.cluster.storage.listing import list_source\n"
            "from sr_edge.cluster.storage.locations import Location\n"
            "listing = list_source(sys.argv[1], Location('/nowhere'))\n"
            "print([file.name for file in listing.files], [failure.source for failure in listing.failures])"
        )
        command = [*bound_by_rights, sys.executable, "-c", program, str(folder)]
        done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
        (folder / "b" / "locked").chmod(0o700)
        assert done.stdout.strip() == f"['a.png', 'b/d.png'] ['{folder}/b/locked']", done.stderr


class TestBucket:
    def test_with_keys_that_are_no_paths(self, s3: Location, target: Location) -> None:
        fill(s3, ["a.png", "b/c.png", "b//d.png", "b/../e.png"])
        system, path = file_system(s3)
        system.pipe_file(f"{path}/b/", b"")
        listing = list_source(s3.address, target)
        assert names_in(listing) == ["a.png", "b/c.png"]
        assert listing.other_names == ["b//"]


class TestPattern:
    @pytest.mark.parametrize(
        ("pattern", "expected"),
        [
            ("*.png", ["a.png"]),
            ("**/*.png", ["a.png", "b/c.png", "b/d/e.png"]),
            ("b/*.png", ["c.png"]),
            ("b/**/*.png", ["c.png", "d/e.png"]),
            ("*/[cx].pn?", ["b/c.png"]),
            ("**", ["a.jpg", "a.png", "b/c.png", "b/d/e.png"]),
            ("b*/d/*", ["b/d/e.png"]),
        ],
    )
    def test_selects_files(self, source: Location, target: Location, pattern: str, expected: list[str]) -> None:
        fill(source, ["a.png", "a.jpg", "b/c.png", "b/d/e.png", "b/d/.f.png"])
        assert sorted(names_in(list_source(f"{source.address}/{pattern}", target))) == expected

    @pytest.mark.parametrize("pattern", ["*.webp", "nothing/*.png", "*/*/*/*/*"])
    def test_that_matches_nothing_is_refused(self, source: Location, target: Location, pattern: str) -> None:
        fill(source, ["a.png"])
        with raises(FrameError, found=0):
            list_source(f"{source.address}/{pattern}", target)

    def test_with_stars_inside_a_name_is_refused(self, tmp_path: Path, target: Location) -> None:
        with raises(UsageError, found="a**.png"):
            list_source(f"{tmp_path}/a**.png", target)

    def test_may_have_results_in_a_folder_that_it_does_not_match(self, tmp_path: Path) -> None:
        fill(Location(str(tmp_path)), ["a.png"])
        assert names_in(list_source(f"{tmp_path}/*.png", Location(f"{tmp_path}/results"))) == ["a.png"]
        with raises(UsageError):
            list_source(f"{tmp_path}/**/*.png", Location(f"{tmp_path}/results"))
        with raises(UsageError):
            list_source(f"{tmp_path}/*/*.png", Location(f"{tmp_path}/results"))


class TestSingleFile:
    def test_is_listed(self, source: Location, target: Location) -> None:
        fill(source, ["a.bmp"])
        listing = list_source(source.join("a.bmp").address, target)
        assert [(file.name, file.source) for file in listing.files] == [("a.png", source.join("a.bmp"))]

    def test_that_is_no_picture_is_refused(self, source: Location, target: Location) -> None:
        fill(source, ["a.doc"])
        with raises(FrameError, found=str(source.join("a.doc"))):
            list_source(source.join("a.doc").address, target)

    def test_is_not_replaced(self, source: Location) -> None:
        fill(source, ["a.png"])
        with raises(UsageError, found=str(source.join("a.png"))):
            list_source(source.join("a.png").address, source)


class TestList:
    def write(self, place: Location, *lines: str) -> str:
        write_bytes(place.join("list.txt"), "\r\n".join(lines).encode())
        return place.join("list.txt").address

    def test_names_files(self, source: Location, target: Location) -> None:
        fill(source, ["a.png", "b/c d.png", "#1.png", "b/x.avi"])
        entries = ["# a comment", "", "a.png", "  b/c d.png ", "./#1.png", "b/../a.png", "b/x.avi", "a.png"]
        listing = list_source(self.write(source, *entries), target)
        assert names_in(listing) == ["a.png", "b/c d.png", "#1.png", "b/x.mkv"]
        assert listing.failures == []
        assert len(listing.notes) == 2

    def test_with_missing_entries_goes_on(self, source: Location, target: Location) -> None:
        fill(source, ["a.png", "notes.doc", "folder/b.png"])
        listing = list_source(self.write(source, "a.png", "missing.png", "notes.doc", "folder"), target)
        assert names_in(listing) == ["a.png"]
        assert [failure.source for failure in listing.failures] == [
            str(source.join(name)) for name in ("missing.png", "notes.doc", "folder")
        ]

    def test_with_missing_entries_only_reports_them(self, source: Location, target: Location) -> None:
        assert len(list_source(self.write(source, "a.png", "b.png"), target).failures) == 2

    def test_of_other_places_keeps_their_folders(self, tmp_path: Path, memory: Location, target: Location) -> None:
        fill(Location(str(tmp_path)), ["x/1/a.png", "x/2/a.png", "lists/own/c.png"])
        fill(memory, ["y/a/1.png", "y/b/2.png"])
        entries = [
            f"{tmp_path}/x/1/a.png",
            "../x/2/a.png",
            "own/c.png",
            *(f"{memory.address}/y/{n}.png" for n in ("a/1", "b/2")),
        ]
        listing = list_source(self.write(Location(str(tmp_path / "lists")), *entries), target)
        assert names_in(listing) == ["1/a.png", "2/a.png", "own/c.png", "a/1.png", "b/2.png"]

    def test_with_keys_that_lead_out_of_the_target_reports_them(self, memory: Location, target: Location) -> None:
        fill(memory, ["b/c.png"])
        entries = [f"{memory.root}/../a.png", f"{memory.address}/b//c.png", f"{memory.address}/b/c.png"]
        listing = list_source(self.write(Location(f"{memory.address}-lists"), *entries), target)
        assert names_in(listing) == ["b/c.png"]
        assert len(listing.failures) == 2

    def test_that_is_empty_is_refused(self, source: Location, target: Location) -> None:
        with raises(FrameError, found=0):
            list_source(self.write(source, "# nothing"), target)

    def test_that_is_no_text_is_refused(self, tmp_path: Path, target: Location) -> None:
        (tmp_path / "list.lst").write_bytes("a.png\n".encode("utf-16"))
        with raises(UsageError):
            list_source(str(tmp_path / "list.lst"), target)

    def test_with_a_name_twice_is_refused(self, tmp_path: Path, target: Location) -> None:
        fill(Location(str(tmp_path)), ["lists/a.png", "x/a.png"])
        both = (str(tmp_path / "lists/a.png"), str(tmp_path / "x/a.png"))
        with raises(UsageError, found=both):
            list_source(self.write(Location(str(tmp_path / "lists")), *both), target)

    def test_whose_results_would_replace_a_source_is_refused(self, tmp_path: Path) -> None:
        fill(Location(str(tmp_path)), ["a.png", "x/a.png", "x/b.png"])
        entries = ["a.png", "x/b.png", str(tmp_path / "x/a.png")]
        with raises(UsageError, found=str(tmp_path / "x/a.png")):
            list_source(self.write(Location(str(tmp_path)), *entries), Location(str(tmp_path / "x")))


class TestTarget:
    def test_in_the_source_is_refused(self, source: Location) -> None:
        fill(source, ["a.png"])
        for target in (source, source.join("b"), source.join("b/c")):
            with raises(UsageError, found=str(target)):
                list_source(source.address, target)

    def test_beside_the_source_is_accepted(self, source: Location) -> None:
        fill(source, ["a.png"])
        assert names_in(list_source(source.address, Location(f"{source.address}-large"))) == ["a.png"]

    def test_in_the_source_by_another_name_is_refused(self, tmp_path: Path) -> None:
        fill(Location(str(tmp_path / "photos")), ["a.png", "b/c.png"])
        (tmp_path / "link").symlink_to(tmp_path / "photos" / "b")
        for target in ("link/x", "photos/b/../x", "other/../photos/x", "link"):
            with raises(UsageError):
                list_source(str(tmp_path / "photos"), Location(f"{tmp_path}/{target}"))

    def test_around_the_source_is_accepted_unless_results_would_be_in_it(self, source: Location) -> None:
        fill(source, ["a.png"])
        assert names_in(list_source(source.address, source.parent)) == ["a.png"]
        fill(source, ["photos/a.png"])
        with raises(UsageError):
            list_source(source.address, source.parent)

    def test_with_names_that_differ_in_case_only_is_refused(self, source: Location, target: Location) -> None:
        fill(source, ["a/X.png", "A/x.PNG"])
        with raises(UsageError, found=(str(source.join("A/x.PNG")), str(source.join("a/X.png")))):
            list_source(source.address, target)


@pytest.mark.parametrize(
    ("name", "kind"),
    [("a.JPG", Kind.PICTURE), ("a.MOV", Kind.VIDEO), ("a.ts", Kind.VIDEO), ("a", None), ("a.txt", None), ("", None)],
)
def test_objects_are_judged_by_their_suffix(
    name: str, kind: Kind | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "a").write_bytes(PNG)
    monkeypatch.chdir(tmp_path)
    assert kind_of(Location(f"s3://bucket/{name}")) is kind
