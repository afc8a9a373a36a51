"""`sr-edge deploy NAME` with no file of the user's: weights, pictures and the bundle's name come along."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sr_edge.bundle import open_bundle
from sr_edge.models.registry import WEIGHTS_FOLDER
from tests.cli.conftest import SrEdge

BUNDLED = sorted(path.stem for path in WEIGHTS_FOLDER.glob("*.safetensors"))
QUICKLY = ("--tile", "48", "--runtimes", "onnxruntime", "--precisions", "fp32", "--runs", "1", "--no-memory")


@pytest.mark.parametrize("title", BUNDLED)
def test_every_bundled_network_is_deployed_by_its_name(
    title: str, sr_edge: SrEdge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    name, _, scale = title.rpartition("-x")
    outcome = sr_edge("deploy", name, "--scale", scale, *QUICKLY, "--no-tile-needs", "--json")
    assert outcome.code == 0, outcome.stderr
    assert [path.name for path in tmp_path.iterdir()] == [f"{title}.sredge"]
    with open_bundle(tmp_path / f"{title}.sredge") as bundle:
        assert (bundle.manifest.card.name, bundle.manifest.card.scale) == (name, int(scale))
    assert "two pictures that come along" in json.loads(outcome.stdout)["note"]


def test_a_bundle_of_that_name_is_not_overwritten_by_chance(
    sr_edge: SrEdge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "convnet-tiny-x2.sredge").mkdir()
    (tmp_path / "convnet-tiny-x2.sredge" / "mine.txt").write_text("mine")
    outcome = sr_edge("deploy", "convnet-tiny", "--scale", "2", *QUICKLY, "--no-tile-needs")
    assert outcome.code == 1
    assert "convnet-tiny-x2.sredge" in outcome.error
    assert (tmp_path / "convnet-tiny-x2.sredge" / "mine.txt").read_text() == "mine"
