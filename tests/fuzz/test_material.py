"""The files that fuzzers damage are valid: a campaign with files that are refused at once would prove nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from sr_edge.camera import open_source
from sr_edge.models.checkpoints import read_checkpoint
from tests.command_line import SrEdge
from tests.fuzz import material


def test_bundle_and_pictures_are_valid(sr_edge: SrEdge, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    bundle = material.bundle(tmp_path / "toy.sredge")
    assert sr_edge("inspect", bundle).code == 0
    assert sr_edge("selftest", bundle, "--runtimes", "onnxruntime", "--precisions", "fp32").code == 0
    for suffix in (".png", ".jpg", ".webp", ".tif"):
        source = tmp_path / f"in{suffix}"
        source.write_bytes(material.pictures()[suffix])
        outcome = sr_edge("upscale", bundle, source, tmp_path / f"{suffix[1:]}.png", "--runtime", "onnxruntime")
        assert outcome.code == 0, outcome.stderr


def test_clips_and_checkpoints_are_valid(tmp_path: Path) -> None:
    for suffix in material.clips(tmp_path):
        assert len(list(open_source(str(tmp_path / f"clip{suffix}")).frames())) == 12
    for suffix, content in material.checkpoints(tmp_path).items():
        (tmp_path / f"weights{suffix}").write_bytes(content)
        assert read_checkpoint(tmp_path / f"weights{suffix}").sets
