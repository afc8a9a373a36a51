"""`bench` keeps what it recommends in the user's cache, if it compared all that works on the machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from sr_edge.bench import OpenOptions, Row, Variant, with_recommendation
from sr_edge.bundle import Manifest, RecommendedEngine, open_bundle
from sr_edge.model_sources import choose_engine
from sr_edge.runtimes import describe_machine
from sr_edge.runtimes.measure.recommendations import measurement_file
from sr_edge.spec import FrameFormat
from tests.bench.test_headline import timed
from tests.bench.test_recommendation import FP32, INT8, report, row
from tests.bundle.bundles import write
from tests.model_sources.fake_runtimes import FakeRuntime, install

ONLY = FakeRuntime("only", precisions=(FP32, INT8))


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    install(monkeypatch, ONLY)
    monkeypatch.setenv("SR_EDGE_CACHE", str(tmp_path / "cache"))


def measured(rows: Sequence[Row], folder: Path, options: OpenOptions | None = None) -> tuple[str, bool]:
    """What is said about the recommendation for these rows, and whether it decides from now on."""
    versioned = [replace(each, spec=replace(each.spec, version=ONLY.version) if each.spec else None) for each in rows]
    of = report(*(timed(each) if each.rounds_ms else each for each in versioned))
    of = replace(of, environment=replace(of.environment, machine=describe_machine()))
    with open_bundle(write(folder / "net.sredge")) as bundle:
        of, sentence = with_recommendation(bundle, of, options or OpenOptions())
        reason = choose_engine(bundle).reason
        assert measurement_file(bundle.manifest).exists() is sentence.startswith("kept")
    return sentence, "measured by bench on 2026-01-01" in reason


def both() -> list[Row]:
    return [row(FP32, 10.0, runtime="only"), row(INT8, 5.0, 0.01, runtime="only")]


def test_a_comparison_of_all_variants_decides_from_now_on(tmp_path: Path) -> None:
    assert measured(both(), tmp_path)[1]


def test_a_comparison_of_some_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sentence, decides = measured(both()[:1], tmp_path)
    assert not decides and sentence.endswith("this run left out only int8, which can run here")
    install(monkeypatch, ONLY, FakeRuntime("other", precisions=(FP32,)))
    sentence, decides = measured(both(), tmp_path)
    assert not decides and sentence.endswith("this run left out other fp32, which can run here")


@pytest.mark.parametrize("options", [OpenOptions(io=FrameFormat.UINT8_NHWC), OpenOptions(controls={"alpha": 1.0})])
def test_measurements_with_other_options_do_not(options: OpenOptions, tmp_path: Path) -> None:
    assert not measured(both(), tmp_path, options)[1]


def test_too_few_rounds_and_nothing_timed_do_not(tmp_path: Path) -> None:
    assert not measured([row(FP32, 10.0, runtime="only", rounds=1)], tmp_path)[1]
    assert not measured([Row(Variant("only", FP32), reason="no library")], tmp_path)[1]


def test_a_cache_that_cannot_be_written_breaks_nothing(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file in its place")
    sentence, decides = measured(both(), tmp_path)
    assert not decides and "cannot be written" in sentence


def test_the_budget_is_that_of_the_deployment(tmp_path: Path) -> None:
    def change(manifest: Manifest) -> Manifest:
        engine = RecommendedEngine("only", FP32, FP32, ONLY.fingerprint, 1.0, 0.0, 0.5, "deploy", "2025-01-01")
        return replace(manifest, recommendations=(engine,))

    costly = [row(FP32, 10.0, runtime="only"), row(INT8, 5.0, 0.2, runtime="only")]
    for out, precision in ((write(tmp_path / "a.sredge"), FP32), (write(tmp_path / "b.sredge", change), INT8)):
        with open_bundle(out) as bundle:
            of, _ = with_recommendation(bundle, report(*map(timed, costly)), OpenOptions())
        assert of.recommended[0].precision is precision
