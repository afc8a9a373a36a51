"""Bundles of several tiles: what their manifests must have, which times decide here, and what the user is told."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from sr_edge.bundle import Bundle, Manifest, RecommendedEngine, TileTime, open_bundle
from sr_edge.errors import BundleError, TileError
from sr_edge.model_sources import EngineChoice, choose_engine, tile_reporter
from sr_edge.model_sources.tile_lines import fitted_share, tiles_line
from sr_edge.nv12.colour import Nv12Colour
from sr_edge.runtimes.measure.recommendations import store_recommendations
from sr_edge.runtimes.registry import tiles_for
from sr_edge.runtimes.session import SessionSpec
from sr_edge.spec import FrameFormat, ModelCard, Precision, TileSpec
from sr_edge.upscaler.tile_choice import TileChoice, choose_tiles
from tests.bundle.bundles import write
from tests.expected_errors import raises
from tests.model_sources.fake_runtimes import FakeRuntime, install

FP32, INT8 = Precision.FP32, Precision.INT8
MAIN, WIDE = TileSpec(16, 24), TileSpec(40, 60)
ONLY = FakeRuntime("only")
OLDER, NEWER = "2026-11-01T00:00:00+00:00", "2026-12-01T00:00:00+00:00"


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    install(monkeypatch, ONLY)
    monkeypatch.setenv("SR_EDGE_CACHE", str(tmp_path / "cache"))


def with_wide(manifest: Manifest, *engines: RecommendedEngine, only: Precision | None = None) -> Manifest:
    """The manifest with files of another tile, in one precision or all; they share the digests of the main tile's."""
    further = tuple(
        replace(each, file=f"40x60/{each.file}", shape=(1, 3, WIDE.height, WIDE.width))
        for each in manifest.artifacts
        if only in (None, each.precision)
    )
    return replace(manifest, artifacts=(*manifest.artifacts, *further), recommendations=engines)


def engine(measured_at: str, *times_ms: float, precision: Precision = INT8) -> RecommendedEngine:
    times = tuple(TileTime(*each) for each in zip((MAIN, WIDE), times_ms, strict=False))
    return RecommendedEngine(
        ONLY.name, precision, FP32, ONLY.fingerprint, 2.5, 0.01, 0.05, "deploy", measured_at, None, times
    )


@contextmanager
def bundle_of(folder: Path, *engines: RecommendedEngine, only: Precision | None = None) -> Iterator[Bundle]:
    with open_bundle(write(folder / "net.sredge")) as bundle:
        yield Bundle(bundle.path, bundle.folder, with_wide(bundle.manifest, *engines, only=only))


def test_the_tiles_of_a_bundle_are_those_of_its_graphs(tmp_path: Path) -> None:
    with bundle_of(tmp_path, only=INT8) as bundle:
        assert bundle.manifest.tiles == (MAIN, WIDE)
        assert [each.file for each in bundle.manifest.artifacts_of(WIDE)] == ["40x60/model.int8.onnx"]
        assert tiles_for(bundle, ONLY.name, INT8) == (MAIN, WIDE)
        assert tiles_for(bundle, ONLY.name, FP32) == (MAIN,)
        assert bundle.find(INT8) == bundle.manifest.artifacts[1]
        assert "tiles 16x24 and 40x60" in str(bundle.manifest)


def test_a_graph_of_a_further_tile_needs_one_of_the_main_tile(tmp_path: Path) -> None:
    with bundle_of(tmp_path) as bundle:
        further = [each for each in bundle.manifest.artifacts if each.tile == WIDE]
        with raises(BundleError, found=WIDE, wanted=MAIN):
            replace(bundle.manifest, artifacts=(bundle.manifest.artifacts[0], *further))


def test_tiles_that_cannot_be_are_refused(tmp_path: Path) -> None:
    with bundle_of(tmp_path) as bundle:
        manifest = bundle.manifest
    with raises(BundleError):
        replace(manifest, card=replace(manifest.card, multiple_px=16))
    with raises(BundleError):
        replace(manifest, recommendations=(replace(engine(OLDER), tile_times=(TileTime(TileSpec(8, 8), 1.0),)),))
    many = [replace(manifest.artifacts[0], file=f"{edge}.onnx", shape=(1, 3, edge, edge)) for edge in range(30, 60)]
    with raises(BundleError, found=32):
        replace(manifest, artifacts=(*manifest.artifacts, *many))


def test_the_times_of_the_recommended_engine_decide(tmp_path: Path) -> None:
    with bundle_of(tmp_path, engine(OLDER, 2.0, 9.0)) as bundle:
        assert choose_engine(bundle).tile_times == (TileTime(MAIN, 2.0), TileTime(WIDE, 9.0))
        assert choose_engine(bundle, EngineChoice(precision=INT8)).tile_times == (
            TileTime(MAIN, 2.0),
            TileTime(WIDE, 9.0),
        )
        assert choose_engine(bundle, EngineChoice(precision=FP32)).tile_times == ()


def test_what_bench_measured_later_decides(tmp_path: Path) -> None:
    with bundle_of(tmp_path, engine(OLDER, 2.0, 9.0)) as bundle:
        store_recommendations(bundle.manifest, [engine(NEWER, 3.0, 8.0)])
        for choice in (EngineChoice(), EngineChoice(precision=INT8)):
            assert [each.latency_ms for each in choose_engine(bundle, choice).tile_times] == [3.0, 8.0]


@pytest.mark.parametrize("damaged", ["-1", "0", "NaN", "Infinity", "1e999", "null", "[3.0]"])
def test_damaged_times_of_tiles_in_the_cache_break_nothing(tmp_path: Path, damaged: str) -> None:
    with bundle_of(tmp_path) as bundle:
        file = store_recommendations(bundle.manifest, [engine(NEWER, 3.0, 8.0)])
        assert choose_engine(bundle).tile_times != ()
        text = file.read_text()
        assert text.count("8.0") == 1
        file.write_text(text.replace("8.0", damaged))
        chosen = choose_engine(bundle)
        assert chosen.tile_times == () and "cache" in chosen.reason and "\n" not in chosen.reason


def test_times_of_another_machine_do_not_decide(tmp_path: Path) -> None:
    elsewhere = replace(engine(OLDER, 2.0, 9.0), fingerprint=replace(ONLY.fingerprint, hardware="another CPU"))
    with bundle_of(tmp_path, elsewhere) as bundle:
        assert choose_engine(bundle, EngineChoice(precision=INT8)).tile_times == ()


SPEC = SessionSpec("only", "1", "cpu", FP32, FP32, FP32, FrameFormat.FLOAT_NCHW, MAIN, 2, 1, 0.0, 0, overlap_px=4)


def choice_of(height: int, width: int, *tiles: TileSpec) -> TileChoice:
    return choose_tiles(replace(SPEC, tiles=tiles), height, width, 4)


def test_the_user_is_told_which_tile_was_chosen(tmp_path: Path) -> None:
    said: list[str] = []
    with bundle_of(tmp_path) as bundle:
        on_tiles = tile_reporter(bundle, said.append)
        for _ in range(2):
            on_tiles(choice_of(40, 60, MAIN, WIDE))
    assert len(said) == 1 and said[0].startswith("tile 40x60: 1 per frame of 60x40")
    assert "--frame" not in said[0]


def test_the_user_is_told_what_a_tile_that_fits_would_gain(tmp_path: Path) -> None:
    choice = choice_of(40, 60, MAIN)
    with bundle_of(tmp_path) as bundle:
        line, without = tiles_line(choice, bundle), tiles_line(choice, bundle, suggests_frame=False)
        assert "--frame 60x40" in line and "estimate" in line and "\n" not in line
        assert f"{fitted_share(choice, bundle.manifest.card):.2f} of the pixels" in line
        assert without == ""
        assert tiles_line(choice_of(16, 24, MAIN), bundle) == "", "nothing to gain"


def test_nv12_frames_are_told_what_makes_the_tile_of_their_graph_fit(tmp_path: Path) -> None:
    """`--frame` makes no NV12 graph: the frames would be converted before the graph, or the main tile has to fit."""
    choice = choose_tiles(replace(SPEC, io=FrameFormat.NV12, nv12_colour=Nv12Colour.BT709_LIMITED), 100, 64, 4)
    with bundle_of(tmp_path) as bundle:
        line = tiles_line(choice, bundle)
        assert "--frame 64x100" in line and "without nv12" in line and "--tile 100x64" in line and "\n" not in line
        fitting = choose_tiles(replace(SPEC, io=FrameFormat.NV12, nv12_colour=Nv12Colour.BT709_LIMITED), 40, 60, 4)
        assert tiles_line(fitting, bundle) == "", "the bundle has a tile that fits"


def test_the_estimate_respects_what_the_network_needs() -> None:
    choice = choice_of(40, 60, MAIN)
    assert fitted_share(choice, ModelCard("n", 2, 1)) == 40 * 60 / choice.chosen.pixels
    assert fitted_share(choice, ModelCard("n", 2, 1, multiple_px=48)) == 48 * 96 / choice.chosen.pixels
    assert fitted_share(choice, ModelCard("n", 2, 1, square_tiles=True)) > 1


def test_a_frame_without_pixels_has_no_tiles() -> None:
    with raises(TileError):
        choice_of(0, 60, MAIN, WIDE)
