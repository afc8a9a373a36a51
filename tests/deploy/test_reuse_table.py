"""The reuse table that `deploy` measures, and its way from the bundle to the upscaler."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sr_edge.bundle import open_bundle
from sr_edge.calibration import calibration_patches
from sr_edge.deploy import DeployPlan, deploy_network
from sr_edge.deploy.placement_table import PlacementFigures
from sr_edge.deploy.reuse_table import CHANGES, PATCHES, measure_reuse_table
from sr_edge.errors import BundleError, UsageError
from sr_edge.export.graph.patches import PICTURES
from sr_edge.frames import Frame, frame_from_batch
from sr_edge.metrics import psnr_y_db
from sr_edge.model_sources import open_frame_session
from sr_edge.models import load_model
from sr_edge.resize import downscale_bicubic
from sr_edge.reuse_table import BLOCK_PX
from sr_edge.spec import ModelCard, PassChoice, Precision, TileSpec
from sr_edge.upscaler import Upscaler
from sr_edge.upscaler.tile_change import block_change
from tests.expected_errors import raises

PLAN = DeployPlan(
    TileSpec(32, 40),
    ("onnxruntime",),
    (Precision.FP32,),
    rounds=1,
    with_memory=False,
    with_tile_needs=False,
    passes=PassChoice.STRUCTURE,
)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("reuse") / "tiny.sredge"
    deploy_network(load_model("convnet-tiny", 2), None, out, PLAN)
    return out


def test_larger_changes_cost_more(bundle: Path) -> None:
    with open_bundle(bundle) as opened:
        table = opened.manifest.card.reuse_table
    assert table is not None
    assert tuple(row.change for row in table.losses) == CHANGES
    assert table.patches == PATCHES
    assert 25 < table.psnr_db < 45
    first, last = table.losses[0], table.losses[-1]
    assert first.mean_db < 0.05 < last.mean_db <= last.worst_db
    assert first.level_db < 0.05 < last.level_db
    # A network magnifies the picture and leaves its levels as they are.
    assert all(0.5 < row.local_error / row.change < 4 for row in table.losses[2:])


def test_what_placed_tiles_cost_is_measured(bundle: Path) -> None:
    with open_bundle(bundle) as opened:
        card = opened.manifest.card
    assert card.reuse_table is not None and card.reuse_table.placement is not None
    placement = card.reuse_table.placement
    assert (placement.height, placement.width) == (32, 40)
    (row,) = placement.losses
    assert (row.margin_px, row.align_px) == (8, 1)
    assert 0 < row.mean_db <= row.worst_db < 0.05
    assert 0 < row.local_error < 3
    assert placement.within(0.05) == row


def test_placed_tiles_of_a_network_stay_within_the_bound(bundle: Path) -> None:
    """A small object that moves over a picture, against full computation and the original."""
    (batch,) = calibration_patches(PICTURES, TileSpec(180, 200), count=1)
    scene, losses_db = frame_from_batch(batch), []
    with open_frame_session(bundle, "onnxruntime") as session:
        placing, off = Upscaler(session, reuse=0.05), Upscaler(session)
        placement = session.spec.reuse_table.placement if session.spec.reuse_table else None
        assert placement is not None
        placing.upscale(downscale_bicubic(scene, 2))
        for step in range(6):
            original = scene.copy()
            original[80 + 2 * step : 96 + 2 * step, 90 + 4 * step : 106 + 4 * step] ^= 64
            frame = downscale_bicubic(original, 2)
            upscaled, expected = placing.upscale(frame), off.upscale(frame)
            losses_db.append(psnr_y_db(expected, original, 2) - psnr_y_db(upscaled, original, 2))
            assert block_change(expected, upscaled, 2 * BLOCK_PX) <= 2 * placement.losses[0].local_error
        statistics = placing.reuse_statistics
    assert np.mean(losses_db) <= 0.05 and max(losses_db) <= 0.3
    assert statistics.placed >= 6 and not statistics.placement_obstacle


def _figures(run: Callable[[Frame], Frame], multiple_px: int = 1, **fields: Any) -> PlacementFigures:
    """The figures of a network that is a function, on pictures of noise."""
    card = replace(ModelCard("fake", 2, 1), overlap_px=8, multiple_px=multiple_px, **fields)
    figures = PlacementFigures(card, TileSpec(48, 64))
    size, random = figures.frame_size, np.random.default_rng(0)
    for _ in range(4):
        now = random.integers(60, 180, (size.height, size.width, 3)).astype(np.uint8)
        original = now.repeat(2, axis=0).repeat(2, axis=1)
        noisy = (original + random.integers(-6, 7, original.shape)).astype(np.uint8)
        figures.add(noisy, now, run, random)
    return figures


def test_a_network_that_looks_at_single_pixels_can_be_placed_anywhere() -> None:
    table = _figures(lambda tile: tile.repeat(2, axis=0).repeat(2, axis=1)).table()
    assert table is not None
    assert [(row.margin_px, row.align_px) for row in table.losses] == [(4, 1), (8, 1)]
    assert table.least_db == pytest.approx(0, abs=1e-9)


def test_a_wider_margin_costs_less() -> None:
    """A network whose outputs depend on neighbours at a distance of up to 6 pixels."""

    def run(tile: Frame) -> Frame:
        padded = np.pad(tile.astype(np.float64), ((6, 6), (6, 6), (0, 0)), mode="edge")
        shifts = [padded[6:-6, 6 + by : padded.shape[1] - 6 + by] for by in (-6, 0, 6)]
        return np.rint(np.mean(shifts, axis=0)).astype(np.uint8).repeat(2, axis=0).repeat(2, axis=1)

    table = _figures(run).table()
    assert table is not None
    narrow, wide = table.losses
    assert 0 < wide.mean_db < narrow.mean_db
    assert 0 < wide.local_error <= narrow.local_error


@pytest.mark.parametrize("period_px", [8, 48])
def test_a_network_that_depends_on_the_origin_is_placed_only_where_it_gives_the_same(period_px: int) -> None:
    """A pattern over the tile, as of windows: aligned origins give the same if the period is that of the alignment."""

    def run(tile: Frame) -> Frame:
        pattern = 6 * (np.arange(2 * tile.shape[1]) % (2 * period_px) < period_px)
        large = tile.repeat(2, axis=0).repeat(2, axis=1)
        return np.asarray(large + pattern[:, np.newaxis].astype(np.uint8), dtype=np.uint8)

    table = _figures(run, multiple_px=8).table()
    assert table is not None
    any_origin = [row for row in table.losses if row.align_px == 1]
    aligned = [row for row in table.losses if row.align_px == 8]
    assert len(any_origin) == len(aligned) == 2
    assert min(row.mean_db for row in any_origin) > 0.5
    row = table.within(0.05)
    assert row == (aligned[0] if period_px == 8 else None)


def test_a_network_with_statistics_over_its_input_is_not_measured() -> None:
    assert _figures(lambda tile: tile.repeat(2, axis=0).repeat(2, axis=1), global_statistics=True).table() is None


def test_the_same_pictures_give_the_same_table(bundle: Path) -> None:
    with open_bundle(bundle) as opened:
        card = opened.manifest.card
    assert measure_reuse_table(card, PLAN, PICTURES, bundle, lambda *_: None) == card.reuse_table


def test_without_pyav_the_table_is_measured_with_jpeg_only(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Changes as H.264 makes them are further ones: they leave the others as they are, and can only add to the loss."""
    with open_bundle(bundle) as opened:
        card = opened.manifest.card
    monkeypatch.setitem(sys.modules, "av", None)  # as if it were not installed
    table = measure_reuse_table(card, PLAN, PICTURES, bundle, lambda *_: None)
    assert table.compression == "JPEG"
    with_h264 = card.reuse_table
    assert with_h264 is not None and with_h264.placement == table.placement
    for row, other in zip(with_h264.losses, table.losses, strict=True):
        assert row.level_db == other.level_db
        assert row.mean_db >= other.mean_db and row.worst_db >= other.worst_db


def test_changes_as_h264_makes_them_are_measured(bundle: Path) -> None:
    pytest.importorskip("av")
    with open_bundle(bundle) as opened:
        table = opened.manifest.card.reuse_table
    assert table is not None and table.compression == "JPEG and H.264"


def test_after_the_time_is_over_one_picture_is_enough(bundle: Path) -> None:
    seconds = iter(range(0, 10_000, 1000))
    with open_bundle(bundle) as opened:
        card = opened.manifest.card
    table = measure_reuse_table(card, PLAN, PICTURES, bundle, lambda *_: None, lambda: float(next(seconds)))
    assert table.patches == 1


def test_the_bound_is_that_of_the_bundle(bundle: Path) -> None:
    frame = np.random.default_rng(0).integers(40, 200, (60, 70, 3)).astype(np.uint8)
    with open_frame_session(bundle, "onnxruntime") as session:
        upscaler = Upscaler(session, reuse=0.05)
        upscaler.upscale(frame)
        frame[3, 3] ^= 1
        upscaler.upscale(frame)
        statistics = upscaler.reuse_statistics
        assert (statistics.reused, statistics.changed) == (statistics.tiles // 2, 1)
        with raises(UsageError, found=50.0):
            Upscaler(session, reuse=50.0)


@pytest.mark.parametrize("how", ["random weights", "not wanted"])
def test_a_bundle_without_a_table_says_how_to_get_one(how: str, tmp_path: Path) -> None:
    model = load_model("convnet-tiny", 2, random_weights=how == "random weights")
    report = deploy_network(model, None, tmp_path / "x.sredge", replace(PLAN, with_reuse_table=how != "not wanted"))
    assert report.manifest.card.reuse_table is None
    with open_frame_session(report.path, "onnxruntime") as session, raises(UsageError, found=0.05) as caught:
        Upscaler(session, reuse=0.05)
    assert "sr-edge deploy" in (caught.value.remedy or "")


@pytest.mark.parametrize(
    "damage",
    [
        lambda table: table["losses"].clear(),
        lambda table: table["losses"][0].update(mean_db=-1.0),
        lambda table: table["losses"][0].update(change=100.0),
        lambda table: table.update(losses="none"),
        lambda table: table["placement"]["losses"].clear(),
        lambda table: table["placement"]["losses"][0].update(margin_px=16),
    ],
)
def test_a_damaged_table_is_refused(bundle: Path, tmp_path: Path, damage: Any) -> None:
    copy = tmp_path / "copy.sredge"
    shutil.copytree(bundle, copy)
    manifest = json.loads((copy / "manifest.json").read_text())
    damage(manifest["card"]["reuse_table"])
    (copy / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError), open_bundle(copy):
        pass
