"""What tiles do to a network's pictures: measured at deploy, at export where asked for, and shown."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sr_edge.bundle import open_bundle
from sr_edge.spec import TileSpec

SrEdge = Callable[..., Any]

TINY = ("convnet-tiny", "--scale", "2", "--random-weights", "--tile", "24")


def test_deploy_measures_and_inspect_shows(sr_edge: SrEdge, bundle: Path) -> None:
    with open_bundle(bundle) as opened:
        needs = opened.manifest.card.tile_needs
    assert needs is not None
    with open_bundle(bundle) as opened:
        assert opened.manifest.card.overlap_px == needs.overlap_px
    assert needs.halo_px is not None
    assert needs.overlap_px == min(24 // 4, max(4, 2 * needs.halo_px))
    assert (needs.measured_on, needs.tile) == (TileSpec(24, 48 - needs.overlap_px), TileSpec(24, 24))
    assert (needs.reference_db, needs.statistics_change) == (None, 0.0)
    assert (
        f"acts up to {needs.reach_px} px; 24x24 against whole: {needs.own_db:.1f} dB"
        in sr_edge("inspect", bundle).stdout
    )


def test_deploy_can_leave_it_out(sr_edge: SrEdge, pictures: Path, tmp_path: Path) -> None:
    fixed = ("--runs", "1", "--no-memory", "--runtimes", "onnxruntime", "--precisions", "fp32", "--no-tile-needs")
    assert sr_edge("deploy", *TINY, *fixed, "--images", pictures, "-o", tmp_path / "tiny.sredge").code == 0
    with open_bundle(tmp_path / "tiny.sredge") as opened:
        assert opened.manifest.card.tile_needs is None
    assert "was not measured" in sr_edge("inspect", tmp_path / "tiny.sredge").stdout


def test_export_measures_where_asked(sr_edge: SrEdge, tmp_path: Path) -> None:
    outcome = sr_edge("export", *TINY, "-o", tmp_path / "tiny.onnx", "--tile-needs", "--json")
    assert outcome.code == 0, outcome.stderr
    assert json.loads(outcome.stdout)["metadata"]["card"]["tile_needs"]["reach_px"] > 0
