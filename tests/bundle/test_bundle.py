"""Bundles are read as they were written; damaged, foreign and unsafe ones are refused, and writing is atomic."""

from __future__ import annotations

import hashlib
import re
import stat
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sr_edge.bundle import (
    open_bundle,
    sha256_of,
    staging_folder,
    write_bundle,
)
from sr_edge.bundle.archive import MAX_FILES
from sr_edge.bundle.manifest import SCHEMA_VERSION
from sr_edge.errors import BundleError
from sr_edge.installation import VERSION
from sr_edge.spec import ActivationType, Precision, TileSpec
from tests.bundle.bundles import CARD, edit_manifest, fill, onnx_file, write
from tests.expected_errors import raises

PAIRS = ((1, 1), (3, 3), (4, 4))


@pytest.fixture
def bundle_path(tmp_path: Path) -> Path:
    return write(tmp_path / "net.sredge")


@pytest.mark.parametrize("name", ["net.sredge", "net.sredge.zip"])
def test_what_was_written_is_read_back(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name)
    with open_bundle(path) as bundle:
        bundle.verify()
        artifact = bundle.find(Precision.INT8, activation_type=ActivationType.INT8)
        assert artifact is not None
        assert bundle.file(artifact).read_bytes() == onnx_file("model.int8.onnx")
        assert bundle.manifest.card == CARD
        assert bundle.manifest.calibration is not None
        assert bundle.manifest.calibration.float_layers == {"head": "keeps the picture"}
        assert bundle.manifest.artifacts[0].shape == (1, 3, 16, 24)
        assert bundle.golden_files(bundle.manifest.golden[0])[1].name == "out.png"
    assert [item.name for item in tmp_path.iterdir()] == [name], "only the bundle may be left"


def test_a_bundle_shows_its_network_tile_and_precisions(bundle_path: Path) -> None:
    bundle = open_bundle(bundle_path)
    assert repr(bundle) == f"<Bundle {bundle_path}: {CARD.name} x{CARD.scale}, tile 16x24, fp32 int8>"
    assert repr(bundle.manifest) == f"<Manifest {CARD.name} x{CARD.scale}, tile 16x24, fp32 int8>"


def test_find_says_when_nothing_fits(bundle_path: Path) -> None:
    bundle = open_bundle(bundle_path)
    assert bundle.find(Precision.FP16) is None
    assert bundle.find(Precision.INT8, activation_type=ActivationType.UINT8) is None
    assert bundle.find(Precision.FP32, float_precision=Precision.FP16) is None


def test_a_zip_leaves_nothing_behind_when_closed(tmp_path: Path) -> None:
    with open_bundle(write(tmp_path / "net.zip")) as bundle:
        folder = bundle.folder
        assert folder.is_dir()
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert not folder.exists()


def test_a_zipped_folder_is_read_too(tmp_path: Path, bundle_path: Path) -> None:
    archive = tmp_path / "by_hand.zip"
    with zipfile.ZipFile(archive, "w") as target:
        for file in bundle_path.rglob("*"):
            target.write(file, file.relative_to(tmp_path))
    with open_bundle(archive) as bundle:
        bundle.verify()


def test_equal_content_gives_equal_archives(tmp_path: Path) -> None:
    assert write(tmp_path / "a.zip").read_bytes() == write(tmp_path / "b.zip").read_bytes()


def test_files_that_the_manifest_does_not_list_stay_out(tmp_path: Path) -> None:
    out = tmp_path / "net.sredge"
    with staging_folder(out) as staging:
        manifest = fill(staging)
        (staging / "scratch.bin").write_bytes(b"x")
        write_bundle(out, manifest, staging)
    assert not (out / "scratch.bin").exists()


def test_a_changed_file_is_refused(bundle_path: Path) -> None:
    content = (bundle_path / "model.onnx").read_bytes()
    (bundle_path / "model.onnx").write_bytes(content[::-1])
    bundle = open_bundle(bundle_path)
    artifact = bundle.manifest.artifacts[0]
    changed = sha256_of(bundle_path / "model.onnx")
    with raises(BundleError, found=changed, wanted=artifact.sha256) as caught:
        bundle.file(artifact)
    assert "'model.onnx'" in str(caught.value)


def test_a_missing_file_is_named(bundle_path: Path) -> None:
    (bundle_path / "golden" / "out.png").unlink()
    with raises(BundleError, found=None, wanted="golden/out.png"):
        open_bundle(bundle_path).verify()


def test_a_link_out_of_the_bundle_is_refused(tmp_path: Path, bundle_path: Path) -> None:
    target = bundle_path / "model.onnx"
    (tmp_path / "elsewhere.onnx").write_bytes(target.read_bytes())
    target.unlink()
    target.symlink_to(tmp_path / "elsewhere.onnx")
    bundle = open_bundle(bundle_path)
    with raises(BundleError, found="model.onnx", wanted="a file inside the bundle"):
        bundle.file(bundle.manifest.artifacts[0])


@pytest.mark.parametrize("file", ["../model.onnx", "/etc/passwd", "a/../../b", "", "C:\\model.onnx", "."])
def test_a_path_that_leads_outside_is_refused(bundle_path: Path, file: str) -> None:
    edit_manifest(bundle_path, lambda document: document["artifacts"][0].update(file=file))
    with raises(BundleError, found=file):
        open_bundle(bundle_path)


@pytest.mark.parametrize(
    ("change", "found", "wanted", "where"),
    [
        (lambda d: d.update(schema_version=1), 1, SCHEMA_VERSION, "manifest.json"),
        (lambda d: d.pop("schema_version"), None, SCHEMA_VERSION, "manifest.json"),
        (lambda d: d.update(format="other"), "other", "sredge", "manifest.json"),
        (lambda d: d.pop("card"), None, "manifest.json.card", "manifest.json.card"),
        (lambda d: d["card"].update(scale="two"), "two", "int", "manifest.json.card.scale"),
        (lambda d: d["card"].update(scale=0), 0, (1, 2, 3, 4, 8, 16), "manifest.json.card"),
        (lambda d: d["card"].update(input_channels=2, output_channels=2), (2, 2), PAIRS, "manifest.json.card"),
        (lambda d: d["card"].update(input_channels=1), (1, 3), PAIRS, "manifest.json.card"),
        (
            lambda d: d["card"].update(input_channels=1, output_channels=1),
            (1, 3, 16, 24),
            (1, 1, 16, 24),
            "model.onnx",
        ),
        (lambda d: d["artifacts"][1].update(shape=[1, 4, 16, 24]), (1, 4, 16, 24), (1, 3, 16, 24), "model.int8.onnx"),
        (lambda d: d["tile"].update(height=8), TileSpec(16, 24), TileSpec(8, 24), "model.onnx"),
        (
            lambda d: d["artifacts"][0].update(precision="int3"),
            "int3",
            "one of fp32, bf16, fp16, int8",
            "manifest.json.artifacts[0].precision",
        ),
        (
            lambda d: d["artifacts"][0].update(shape=[1, 3]),
            [1, 3],
            "4 values",
            "manifest.json.artifacts[0].shape",
        ),
        (lambda d: d["artifacts"][0].update(sha256="abc"), "abc", "64 hexadecimal digits", "model.onnx"),
        (lambda d: d["artifacts"].append(d["artifacts"][0]), ["model.onnx"], "each file once", "model.onnx"),
        (lambda d: d.update(artifacts=[]), 0, 1, "artifacts"),
        (lambda d: d.update(artifacts={}), {}, "a list", "manifest.json.artifacts"),
        (lambda d: d.update(tile=7), 7, "an object", "manifest.json.tile"),
    ],
)
def test_a_damaged_manifest_gets_one_clear_line(
    bundle_path: Path, change: Callable[[dict[str, Any]], object], found: object, wanted: object, where: str
) -> None:
    edit_manifest(bundle_path, change)
    with raises(BundleError, found=found, wanted=wanted) as caught:
        open_bundle(bundle_path)
    assert where in str(caught.value)


AGAIN = f"deploy the model again with sr-edge {VERSION}"
INSTALL = "install the version that made it"


@pytest.mark.parametrize(
    ("schema", "tools", "remedy"),
    [
        (1, {"sr-edge": "0.0.9"}, f"{AGAIN}, or run the bundle with sr-edge 0.0.9, which made it"),
        (1, {}, AGAIN),
        (1, {"sr-edge": "0.0.9\nrm -rf"}, AGAIN),
        (1, ["sr-edge"], AGAIN),
        (True, None, AGAIN),
        ("2", {"sr-edge": 3}, AGAIN),
        (SCHEMA_VERSION + 1, {"sr-edge": "1.2.0rc1"}, f"{INSTALL}, sr-edge 1.2.0rc1, or a newer one"),
        (SCHEMA_VERSION + 1, {}, f"{INSTALL}, or a newer one"),
    ],
)
def test_a_bundle_of_another_schema_says_what_to_do(
    bundle_path: Path, schema: object, tools: object, remedy: str
) -> None:
    edit_manifest(bundle_path, lambda document: document.update(schema_version=schema, tools=tools))
    with raises(BundleError, found=schema, wanted=SCHEMA_VERSION, remedy=remedy):
        open_bundle(bundle_path)


@pytest.mark.parametrize(("maker", "shown"), [("9.0.0", True), (VERSION, False), (None, False)])
def test_a_value_of_another_release_names_both_versions(bundle_path: Path, maker: str | None, shown: bool) -> None:
    def change(document: dict[str, Any]) -> None:
        document["artifacts"][0]["precision"] = "fp4"
        document["tools"] = {"sr-edge": maker} if maker else {}

    edit_manifest(bundle_path, change)
    with raises(BundleError, found="fp4") as caught:
        open_bundle(bundle_path)
    assert ({"9.0.0", VERSION} <= set(re.findall(r"[0-9]+\.[0-9]+\.[0-9]+", caught.value.problem))) == shown


def test_a_manifest_of_absurd_size_is_not_read(bundle_path: Path) -> None:
    size_bytes = (16 << 20) + 1
    with (bundle_path / "manifest.json").open("r+b") as file:
        file.truncate(size_bytes)
    with raises(BundleError, found=size_bytes, wanted=16 << 20):
        open_bundle(bundle_path)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe\x00", b"[" * 100_000, b"[]"])
def test_a_manifest_that_is_no_json_is_refused(bundle_path: Path, content: bytes) -> None:
    manifest = bundle_path / "manifest.json"
    manifest.write_bytes(content)
    is_json = content == b"[]"
    with raises(BundleError, found=None if is_json else bundle_path, wanted="sredge" if is_json else "JSON"):
        open_bundle(bundle_path)


def test_fields_of_a_later_release_are_left_out(bundle_path: Path) -> None:
    edit_manifest(bundle_path, lambda document: document["card"].update(colour="blue"))
    assert open_bundle(bundle_path).manifest.card == CARD


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("absent.sredge", "a bundle"),
        ("text.sredge", "a zip archive"),
        ("text.zip", "a zip archive"),
        ("other.zip", "manifest.json"),
        ("folder", "manifest.json"),
    ],
)
def test_what_is_no_bundle_is_refused(tmp_path: Path, name: str, wanted: str) -> None:
    (tmp_path / "folder").mkdir()
    for file in ("text.sredge", "text.zip"):
        (tmp_path / file).write_text("hello")
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as other:
        other.writestr("notes.txt", "hello")
    with raises(BundleError, found=tmp_path / name, wanted=wanted):
        open_bundle(tmp_path / name)


def test_a_truncated_zip_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "net.zip")
    path.write_bytes(path.read_bytes()[:-200])
    with raises(BundleError, found=path, wanted="a zip archive"):
        open_bundle(path)


def test_a_zip_whose_bytes_flipped_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "net.zip")
    content = bytearray(path.read_bytes())
    content[60:64] = bytes(255 - value for value in content[60:64])
    path.write_bytes(bytes(content))
    with pytest.raises(BundleError), open_bundle(path) as bundle:
        bundle.verify()


@pytest.mark.parametrize("name", ["../evil.txt", "/tmp/evil.txt", "a/../../evil.txt"])
def test_zip_slip_is_refused(tmp_path: Path, name: str) -> None:
    archive = tmp_path / "inner" / "evil.zip"
    archive.parent.mkdir()
    with zipfile.ZipFile(archive, "w") as target:
        target.writestr(name, "evil")
    with raises(BundleError, found=name):
        open_bundle(archive)
    assert not list(tmp_path.rglob("evil.txt"))


def test_a_link_in_a_zip_is_refused(tmp_path: Path) -> None:
    entry = zipfile.ZipInfo("model.onnx")
    entry.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "link.zip", "w") as target:
        target.writestr(entry, "/etc/passwd")
    with raises(BundleError, found="model.onnx", wanted="a regular file"):
        open_bundle(tmp_path / "link.zip")


def test_a_zip_of_too_many_files_is_refused(tmp_path: Path) -> None:
    archive = tmp_path / "many.zip"
    with zipfile.ZipFile(archive, "w") as target:
        for index in range(MAX_FILES + 1):
            target.writestr(f"{index}.bin", b"x")
    with raises(BundleError, found=MAX_FILES + 1, wanted=MAX_FILES):
        open_bundle(archive)


@pytest.mark.parametrize("name", ["net.sredge", "net.zip"])
def test_an_older_bundle_is_replaced(tmp_path: Path, name: str) -> None:
    write(tmp_path / name)
    write(tmp_path / name, lambda manifest: replace(manifest, created="later"))
    with open_bundle(tmp_path / name) as bundle:
        assert bundle.manifest.created == "later"
    assert [item.name for item in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ["home", "notes.zip", "notes.sredge"])
def test_what_is_no_bundle_is_left_alone(tmp_path: Path, name: str) -> None:
    target = tmp_path / name
    if "." in name:
        target.write_text("mine")
    else:
        target.mkdir()
    with raises(BundleError, found=target, wanted="a bundle"), staging_folder(target):
        pass
    assert target.exists()
    assert [item.name for item in tmp_path.iterdir()] == [name]


def test_an_output_folder_that_is_absent_is_named(tmp_path: Path) -> None:
    with raises(BundleError, found=tmp_path / "absent"), staging_folder(tmp_path / "absent" / "net.sredge"):
        pass


def test_a_file_that_differs_from_its_digest_is_not_written(tmp_path: Path) -> None:
    out = tmp_path / "net.sredge"
    changed = hashlib.sha256(b"changed since").hexdigest()
    with raises(BundleError, found=changed), staging_folder(out) as staging:
        manifest = fill(staging)
        (staging / "model.onnx").write_bytes(b"changed since")
        write_bundle(out, manifest, staging)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("fault", [KeyboardInterrupt(), OSError(28, "No space left on device")])
@pytest.mark.parametrize("nth_move", [1, 3, 5, 6, 7])
def test_an_interrupted_write_keeps_the_old_bundle(
    bundle_path: Path, monkeypatch: pytest.MonkeyPatch, fault: BaseException, nth_move: int
) -> None:
    before = {file: file.read_bytes() for file in bundle_path.rglob("*") if file.is_file()}
    move, moves = Path.replace, 0

    def failing_move(source: Path, target: Path) -> Path:
        nonlocal moves
        moves += 1
        if moves == nth_move:
            raise fault
        return move(source, target)

    monkeypatch.setattr(Path, "replace", failing_move)
    with pytest.raises(type(fault)):
        write(bundle_path)
    assert {file: file.read_bytes() for file in bundle_path.rglob("*") if file.is_file()} == before
    assert list(bundle_path.parent.iterdir()) == [bundle_path]
