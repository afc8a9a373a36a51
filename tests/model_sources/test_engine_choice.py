"""The engine that runs where the user names none: what was measured here, or else the default, and why."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sr_edge.bundle import Bundle, Fingerprint, Manifest, RecommendedEngine, open_bundle
from sr_edge.errors import BundleError, RuntimeUnavailable, UnknownNameError, UsageError
from sr_edge.model_sources import EngineChoice, choose_engine
from sr_edge.runtimes.measure.recommendations import measurement_file, store_recommendations
from sr_edge.spec import Precision
from tests.bundle.bundles import write
from tests.expected_errors import raises
from tests.model_sources.fake_runtimes import FakeRuntime, install

FP32, BF16, FP16, INT8 = Precision
FAST = FakeRuntime("fast")
SLOW = FakeRuntime("slow")
ABSENT = FakeRuntime("absent", version="")
ON_GPU = FakeRuntime("on-gpu", device="cuda", precisions=(FP32, FP16, INT8))
OLDER, NEWER = "2026-11-01T00:00:00+00:00", "2026-12-01T00:00:00+00:00"


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine with two runtimes on the CPU, and a cache of its own."""
    install(monkeypatch, FAST, SLOW)
    monkeypatch.setenv("SR_EDGE_CACHE", str(tmp_path / "cache"))


def recommended(
    runtime: FakeRuntime = FAST, precision: Precision = INT8, measured_by: str = "deploy", measured_at: str = OLDER
) -> RecommendedEngine:
    return RecommendedEngine(
        runtime.name, precision, FP32, runtime.fingerprint, 2.5, 0.01, 0.05, measured_by, measured_at
    )


@contextmanager
def bundle_with(folder: Path, *engines: RecommendedEngine, half: bool = False) -> Iterator[Bundle]:
    """A bundle with an fp32 and an INT8 graph, and with these recommendations."""

    def change(manifest: Manifest) -> Manifest:
        plain, quantized = manifest.artifacts
        second = replace(quantized, precision=FP16, activation_type=None) if half else quantized
        return replace(manifest, artifacts=(plain, second), recommendations=engines)

    with open_bundle(write(folder / "net.sredge", change)) as bundle:
        yield bundle


def test_what_deploy_recommended_runs_where_it_was_measured(tmp_path: Path) -> None:
    with bundle_with(tmp_path, recommended(), recommended(SLOW)) as bundle:
        engine = choose_engine(bundle)
    assert (engine.runtime, engine.precision, engine.device) == ("fast", INT8, "cpu")
    assert str(engine) == "fast int8: fastest within 0.05 dB here, measured by deploy on 2026-11-01"


@pytest.mark.parametrize("field", [{"latency_ms": -1.0}, {"threads": 0}, {"threads": -1}])
def test_a_recommendation_with_impossible_numbers_cannot_be_made(field: dict[str, Any]) -> None:
    with raises(BundleError):
        replace(recommended(), **field)


@pytest.mark.parametrize(
    "field", [{"threads": 1.5}, {"threads": "2"}, {"slots": math.inf}, {"device": 5}, {"runtime": 5}]
)
def test_what_is_no_number_or_name_is_refused_before_anything_is_opened(field: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        EngineChoice.read(**field)


def test_threads_of_the_measurement_are_named(tmp_path: Path) -> None:
    with bundle_with(tmp_path, replace(recommended(), threads=1)) as bundle:
        engine = choose_engine(bundle, EngineChoice(threads=4, slots=3))
    assert engine.reason.endswith("on 2026-11-01 with 1 thread")
    assert (engine.threads, engine.slots) == (4, 3)


def test_of_two_recommendations_that_of_the_named_runtime_is_taken(tmp_path: Path) -> None:
    with bundle_with(tmp_path, recommended(), recommended(SLOW, FP32)) as bundle:
        engine = choose_engine(bundle, EngineChoice.read("slow"))
        assert (engine.runtime, engine.precision) == ("slow", FP32)
        assert "fastest in slow" in engine.reason


@pytest.mark.parametrize(("in_cache", "in_bundle", "taken"), [(NEWER, OLDER, "bench"), (OLDER, NEWER, "deploy")])
def test_the_newest_measurement_decides(in_cache: str, in_bundle: str, taken: str, tmp_path: Path) -> None:
    with bundle_with(tmp_path, recommended(measured_at=in_bundle)) as bundle:
        store_recommendations(bundle.manifest, [recommended(SLOW, FP32, "bench", in_cache)])
        assert f"measured by {taken}" in choose_engine(bundle).reason


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda each: replace(each, hardware="Other CPU"), "on another CPU (Other CPU)"),
        (lambda each: replace(each, instructions=("amx_int8",)), "with other instructions (amx_int8)"),
        (lambda each: replace(each, version="0.9"), "with version 0.9, and 1.0 is installed"),
        (lambda each: replace(each, device="npu"), "in fast, which does not work here"),
    ],
)
def test_a_measurement_of_another_machine_is_ignored_with_its_reason(
    change: Callable[[Fingerprint], Fingerprint], named: str, tmp_path: Path
) -> None:
    engine = recommended()
    with bundle_with(tmp_path, replace(engine, fingerprint=change(engine.fingerprint))) as bundle:
        chosen = choose_engine(bundle)
    assert (chosen.runtime, chosen.precision) == ("fast", FP32)
    assert f"measured by deploy {named}; run `sr-edge bench {bundle.path}`" in chosen.reason


def test_a_slower_runtime_is_not_taken_because_the_faster_one_was_updated(tmp_path: Path) -> None:
    outdated = recommended()
    outdated = replace(outdated, fingerprint=replace(outdated.fingerprint, version="0.9"))
    with bundle_with(tmp_path, outdated, recommended(SLOW)) as bundle:
        assert (choose_engine(bundle).runtime, choose_engine(bundle).precision) == ("fast", FP32)


def test_the_next_runtime_is_taken_where_the_fastest_is_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, ABSENT, SLOW)
    unknown = replace(recommended(), runtime="of-a-newer-version")
    with bundle_with(tmp_path, unknown, recommended(ABSENT), recommended(SLOW)) as bundle:
        assert (choose_engine(bundle).runtime, choose_engine(bundle).precision) == ("slow", INT8)


def test_a_precision_without_a_graph_is_ignored(tmp_path: Path) -> None:
    with bundle_with(tmp_path, recommended(), half=True) as bundle:
        chosen = choose_engine(bundle)
    assert chosen.precision is FP32
    assert "in fast int8, which cannot run here" in chosen.reason


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"bundle_digest": 1}', '{"bundle_digest": "x"}', "\x00", "[" * 10**5]
)
def test_a_damaged_cache_breaks_nothing(content: str, tmp_path: Path) -> None:
    with bundle_with(tmp_path) as bundle:
        file = store_recommendations(bundle.manifest, [recommended(measured_by="bench")])
        assert file == measurement_file(bundle.manifest)
        assert choose_engine(bundle).precision is INT8
        file.write_text(content)
        engine = choose_engine(bundle)
    assert engine.precision is FP32
    assert "cache" in engine.reason and "\n" not in engine.reason


def test_the_measurement_of_another_bundle_is_not_taken(tmp_path: Path) -> None:
    with bundle_with(tmp_path) as bundle:
        file = store_recommendations(bundle.manifest, [recommended(measured_by="bench")])
        file.write_text(file.read_text().replace(bundle.manifest.digest(), 64 * "0"))
        assert choose_engine(bundle).precision is FP32
        file.unlink()
        file.mkdir()
        assert choose_engine(bundle).precision is FP32


@pytest.mark.parametrize(("half", "precision"), [(True, FP16), (False, FP32)])
def test_on_a_gpu_the_fp16_file_is_the_default(
    half: bool, precision: Precision, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, ON_GPU, FAST)
    with bundle_with(tmp_path, half=half) as bundle:
        engine = choose_engine(bundle)
        assert (engine.runtime, engine.device, engine.precision) == ("on-gpu", "cuda", precision)
        assert "not measured here yet" in engine.reason
        on_cpu = choose_engine(bundle, EngineChoice.read(device="cpu"))
        assert (on_cpu.runtime, on_cpu.device, on_cpu.precision) == ("fast", "cpu", FP32)


def test_a_recommendation_for_a_gpu_is_one_for_that_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, ON_GPU)
    elsewhere = recommended(ON_GPU)
    elsewhere = replace(elsewhere, fingerprint=replace(elsewhere.fingerprint, hardware="NVIDIA T4"))
    with bundle_with(tmp_path, recommended(ON_GPU)) as bundle:
        assert (choose_engine(bundle).precision, choose_engine(bundle).device) == (INT8, "cuda")
    with bundle_with(tmp_path, elsewhere) as bundle:
        assert "NVIDIA T4" in choose_engine(bundle).reason


def test_a_named_precision_runs_in_the_first_runtime_that_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, ON_GPU, FAST)
    with bundle_with(tmp_path, recommended()) as bundle:
        assert choose_engine(bundle, EngineChoice.read(precision="int8")).runtime == "on-gpu"
        assert choose_engine(bundle, EngineChoice.read(precision="int8", float_precision="bf16")).runtime == "fast"
        assert choose_engine(bundle, EngineChoice.read("fast", "fp32")).reason == ""


def test_what_does_not_exist_is_named_with_what_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with bundle_with(tmp_path) as bundle:
        with raises(RuntimeUnavailable, found="cuda", wanted=("fast on cpu", "slow on cpu")):
            choose_engine(bundle, EngineChoice.read(device="cuda"))
        install(monkeypatch, ABSENT)
        with raises(RuntimeUnavailable, wanted=("absent",)):
            choose_engine(bundle)
    with raises(UnknownNameError, found="turbo"):
        EngineChoice.read(runtime="turbo")
    with raises(UnknownNameError, found="int9"):
        EngineChoice.read(precision="int9")
    with raises(UsageError, found=FP32, wanted=INT8):
        EngineChoice.read(precision="fp32", float_precision="bf16")
