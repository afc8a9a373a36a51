"""What a MODEL argument is: by the content of a file, otherwise by how it is written."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path

import onnx
import pytest
import torch
from safetensors.torch import save_file

from sr_edge.model_sources import SourceKind, source_kind
from tests.model_sources.onnx_variants import saved

WEIGHTS = {"weight": torch.zeros(2)}


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("convnet-tiny", SourceKind.NAME),
        ("my.module:factory", SourceKind.FACTORY),
        ("absent.onnx", SourceKind.ONNX),
        ("absent.pth", SourceKind.CHECKPOINT),
        ("folder/absent", SourceKind.CHECKPOINT),
        ("absent.sredge", SourceKind.BUNDLE),
        ("absent.zip", SourceKind.BUNDLE),
    ],
)
def test_what_does_not_exist_is_judged_by_how_it_is_written(text: str, kind: SourceKind) -> None:
    assert source_kind(text) is kind


@pytest.mark.parametrize("name", ["net.onnx", "net.pth", "net.sredge", "net"])
def test_content_decides_over_the_suffix(name: str, model: onnx.ModelProto, tmp_path: Path) -> None:
    path = tmp_path / name
    assert source_kind(saved(model, path)) is SourceKind.ONNX
    torch.save(WEIGHTS, path)
    expected = SourceKind.BUNDLE if name == "net.sredge" else SourceKind.CHECKPOINT
    assert source_kind(path) is expected, "a zip archive without a manifest is read as what its suffix says"
    torch.save(WEIGHTS, path, _use_new_zipfile_serialization=False)
    assert source_kind(path) is SourceKind.CHECKPOINT
    save_file(WEIGHTS, path)
    assert source_kind(path) is SourceKind.CHECKPOINT
    path.write_bytes(pickle.dumps({"weight": [1.0]}))
    assert source_kind(path) is SourceKind.CHECKPOINT
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("net.sredge/manifest.json", "{}")
    assert source_kind(path) is SourceKind.BUNDLE


@pytest.mark.parametrize(
    ("name", "kind"),
    [("a.onnx", SourceKind.ONNX), ("a.pth", SourceKind.CHECKPOINT), ("a.zip", SourceKind.BUNDLE)],
)
def test_content_that_tells_nothing_leaves_it_to_the_suffix(name: str, kind: SourceKind, tmp_path: Path) -> None:
    path = tmp_path / name
    for content in (b"", b"text", b"\x08"):
        path.write_bytes(content)
        assert source_kind(path) is kind


def test_folders(tmp_path: Path) -> None:
    assert source_kind(tmp_path) is SourceKind.BUNDLE
    (tmp_path / "x.onnx").mkdir()
    assert source_kind(tmp_path / "x.onnx") is SourceKind.ONNX
