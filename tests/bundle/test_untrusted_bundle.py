"""Bundles of unknown origin: only verified files are loaded, and no value of a manifest is taken on trust."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from sr_edge.bundle import open_bundle, sha256_of
from sr_edge.errors import BundleError
from tests.bundle.bundles import edit_manifest, onnx_file, write
from tests.expected_errors import raises

Change = Callable[[dict[str, Any]], object]


@pytest.fixture
def bundle_path(tmp_path: Path) -> Path:
    return write(tmp_path / "net.sredge")


def replace_graph(bundle: Path, content: bytes) -> None:
    """Puts another graph into a bundle, with the digest and the size that belong to it."""
    file = bundle / "model.onnx"
    file.write_bytes(content)
    edit_manifest(
        bundle,
        lambda d: (d["artifacts"][0].update(sha256=sha256_of(file)), d["sizes"].update({"model.onnx": len(content)})),
    )


def zipped(bundle: Path, *extra: tuple[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> Path:
    archive = bundle.with_suffix(".zip")
    with zipfile.ZipFile(archive, "w", compression) as target:
        for file in sorted(bundle.rglob("*")):
            if file.is_file():
                target.write(file, file.relative_to(bundle))
        for name, content in extra:
            target.writestr(name, content)
    return archive


def external_tensor(location: str = "../secret.bin") -> onnx.TensorProto:
    tensor = numpy_helper.from_array(np.zeros(4, np.float32), "weight")
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    return tensor


def model_with_node(node: onnx.NodeProto) -> bytes:
    return helper.make_model(helper.make_graph([node], "graph", [], [])).SerializeToString()


def subgraph_with_external_tensor() -> bytes:
    branch = helper.make_graph([], "branch", [], [], [external_tensor()])
    return model_with_node(helper.make_node("If", ["a"], ["b"], then_branch=branch, else_branch=branch))


@pytest.mark.parametrize(
    "content",
    [
        onnx_file("graph", external_tensor()),
        model_with_node(helper.make_node("Constant", [], ["c"], value=external_tensor("model.bin"))),
        subgraph_with_external_tensor(),
        model_with_node(helper.make_node("EPContext", ["a"], ["b"], domain="com.microsoft", ep_cache_context="x.so")),
    ],
    ids=["initializer", "constant", "subgraph", "engine"],
)
def test_a_graph_that_refers_to_another_file_is_refused(bundle_path: Path, content: bytes) -> None:
    replace_graph(bundle_path, content)
    with open_bundle(bundle_path) as bundle:
        with raises(BundleError, wanted="an ONNX file that contains all of its data"):
            bundle.file(bundle.manifest.artifacts[0])
        with raises(BundleError, wanted="an ONNX file that contains all of its data"):
            bundle.verify()


def test_a_graph_may_contain_the_word_location(bundle_path: Path) -> None:
    replace_graph(bundle_path, onnx_file("location", numpy_helper.from_array(np.zeros(4), "EPContext")))
    with open_bundle(bundle_path) as bundle:
        bundle.verify()


@pytest.mark.parametrize(
    "content", [b"", b"<?xml version='1.0'?><net name='n'/>", b"\x80\x02K\x05.", b"\x08\x07", b"\x08\x07\x3a\x7f"]
)
def test_a_graph_of_another_format_is_refused(bundle_path: Path, content: bytes) -> None:
    """A runtime that detects the format by content would load the .bin beside an .xml, which no digest covers."""
    replace_graph(bundle_path, content)
    with open_bundle(bundle_path) as bundle, raises(BundleError, found="model.onnx", wanted="an ONNX model"):
        bundle.verify()


def test_only_listed_files_are_unpacked(bundle_path: Path) -> None:
    with open_bundle(zipped(bundle_path, ("model.bin", b"x"), ("deep/er.txt", b"y"))) as bundle:
        unpacked = {str(file.relative_to(bundle.folder)) for file in bundle.folder.rglob("*") if file.is_file()}
        assert unpacked == {*bundle.manifest.digests(), "manifest.json"}


def test_a_file_that_unpacks_to_more_than_its_size_is_refused(bundle_path: Path) -> None:
    """A file of zeros takes a thousandth of its size in an archive."""
    (bundle_path / "model.onnx").write_bytes(bytes(1 << 20))
    wanted = json.loads((bundle_path / "manifest.json").read_text())["sizes"]["model.onnx"]
    with raises(BundleError, found=wanted + 1, wanted=wanted):
        open_bundle(zipped(bundle_path))


def test_a_file_of_another_size_is_not_even_read(bundle_path: Path) -> None:
    with (bundle_path / "model.onnx").open("r+b") as file:
        file.truncate(1 << 40)
    with open_bundle(bundle_path) as bundle, raises(BundleError, found=1 << 40):
        bundle.file(bundle.manifest.artifacts[0])


def test_a_zip_that_contains_a_name_twice_is_refused(bundle_path: Path) -> None:
    with pytest.warns(UserWarning):
        archive = zipped(bundle_path, ("model.onnx", b"other"))
    with raises(BundleError, found=["model.onnx"], wanted="each file once"):
        open_bundle(archive)


def test_a_zip_whose_directory_takes_too_much_memory_is_refused(tmp_path: Path) -> None:
    archive = tmp_path / "directory.zip"
    with zipfile.ZipFile(archive, "w") as target:
        for index in range(30):
            entry = zipfile.ZipInfo(f"{index}")
            entry.comment = bytes(60_000)
            target.writestr(entry, b"")
    with raises(BundleError, found=archive, wanted="a zip archive"):
        open_bundle(archive)


@pytest.mark.parametrize("compression", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_damaged_content_of_any_compression_is_a_damaged_zip(bundle_path: Path, compression: int) -> None:
    archive = zipped(bundle_path, compression=compression)
    content = bytearray(archive.read_bytes())
    content[45:200] = bytes(255 - value for value in content[45:200])
    archive.write_bytes(bytes(content))
    with raises(BundleError):
        open_bundle(archive)


@pytest.mark.parametrize(
    "name", ["a\nb", "a\x1b[2J", "a\u202eb", "a\ud800", "./model.onnx", "golden//in.png", "x" * 300, "manifest.json"]
)
def test_a_name_that_misleads_is_refused(bundle_path: Path, name: str) -> None:
    edit_manifest(bundle_path, lambda d: d["artifacts"][0].update(file=name))
    with raises(BundleError):
        open_bundle(bundle_path)


@pytest.mark.parametrize("name", ["golden", "golden/in.png/x"])
def test_a_path_through_another_file_is_refused(bundle_path: Path, name: str) -> None:
    edit_manifest(bundle_path, lambda d: d["artifacts"][0].update(file=name))
    with raises(BundleError):
        open_bundle(bundle_path)


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d["artifacts"][0].update(shape=[1, 3, 16, 25]),
        lambda d: d["artifacts"][0].update(shape=[2, 3, 16, 24]),
        lambda d: d["artifacts"][0].update(shape=[1, 1, 16, 24]),
        lambda d: d["tile"].update(width=1 << 30),
        lambda d: d["card"].update(input_channels=4),
        lambda d: d["card"].update(output_channels=0),
        lambda d: d["card"].update(scale=17),
        lambda d: d["card"].update(scale=10**60),
        lambda d: d["card"].update(multiple_px=0),
        lambda d: d["card"].update(multiple_px=7),
        lambda d: d["card"].update(minimum_px=100),
        lambda d: d["card"].update(square_tiles=True),
        lambda d: d["card"].update(overlap_px=-1),
        lambda d: d["card"].update(parameters=-1),
        lambda d: d["card"].update(input_range=0),
        lambda d: d["card"].update(input_range=float("nan")),
        lambda d: d["card"].update(input_range=float("inf")),
        lambda d: d["card"].update(baked={"alpha": float("nan")}),
        lambda d: d["golden"][0].update(min_psnr_db=float("nan")),
        lambda d: d["golden"][0].update(min_psnr_db=-1),
        lambda d: d["golden"][0].update(min_psnr_db=10**400),
        lambda d: d["golden"][0].update(controls={"alpha": 1}),
        lambda d: d["sizes"].update({"model.onnx": -1}),
        lambda d: d["sizes"].update({"other": 1}),
        lambda d: d["sizes"].pop("model.onnx"),
        lambda d: d["card"].update(controls=[{"name": "a", "default": 0, "minimum": 0, "maximum": float("inf")}]),
        lambda d: d["card"].update(controls=[{"name": "a", "default": 0, "minimum": 0, "maximum": 1}] * 2),
        lambda d: d["card"].update(name="net\x1b[2J"),
        lambda d: d["card"].update(licence="MIT\nweights   none"),
        lambda d: d["tools"].update({"onnx\u202e": "1"}),
    ],
)
def test_values_that_cannot_be_are_refused(bundle_path: Path, change: Change) -> None:
    edit_manifest(bundle_path, change)
    with raises(BundleError):
        open_bundle(bundle_path)


def test_what_cannot_be_printed_is_not_written(tmp_path: Path) -> None:
    path = write(tmp_path / "odd.sredge", lambda manifest: replace(manifest, created="a\x1b[2J\nb"))
    with open_bundle(path) as bundle:
        assert bundle.manifest.created == "a?[2J b"


def test_messages_about_a_zip_name_the_zip(bundle_path: Path) -> None:
    edit_manifest(bundle_path, lambda d: d.update(schema_version=2))
    archive = zipped(bundle_path)
    with raises(BundleError, found=2) as caught:
        open_bundle(archive)
    assert str(archive) in str(caught.value)
    edit_manifest(bundle_path, lambda d: d.pop("schema_version"))
    with raises(BundleError, found=None) as caught:
        open_bundle(bundle_path)
    assert "None" not in caught.value.problem


@pytest.mark.parametrize("path", ["a\0b", "x" * 5000])
def test_a_path_that_cannot_exist_is_no_bundle(path: str) -> None:
    with raises(BundleError):
        open_bundle(path)
