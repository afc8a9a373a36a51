"""What a worker process keeps: the unpacked bundle, and its one engine."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import sr_edge
from sr_edge.bundle import Bundle
from sr_edge.cluster.node import (
    JobModel,
    NodeUnable,
    choose_here,
    close_session,
    open_session,
    pack_bundle,
    require_able,
    unpacked_bundle,
)
from sr_edge.installation import VERSION
from sr_edge.model_sources import ChosenEngine, EngineChoice
from sr_edge.spec import Precision
from tests.expected_errors import raises


@pytest.fixture(scope="module")
def archive(bundle: Bundle) -> bytes:
    return pack_bundle(bundle)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache for this machine, and no engine that is open."""
    monkeypatch.setenv("SR_EDGE_CACHE", str(tmp_path))
    yield tmp_path
    close_session()


def model_of(bundle: Bundle, precision: Precision = Precision.FP32, runtime: str = "onnxruntime") -> JobModel:
    engine = ChosenEngine(runtime, precision, Precision.FP32, "cpu", threads=1)
    return JobModel("tiny", 2, bundle.manifest.digest(), engine)


def refuse() -> bytes:
    raise AssertionError("the archive was loaded again")


def test_a_packed_bundle_is_the_same_each_time_and_has_the_same_digest(
    bundle: Bundle, archive: bytes, tmp_path: Path
) -> None:
    assert pack_bundle(bundle) == archive
    (tmp_path / "packed.zip").write_bytes(archive)
    with sr_edge.open_bundle(tmp_path / "packed.zip") as packed:
        assert packed.manifest.digest() == bundle.manifest.digest()


def test_only_files_that_the_manifest_lists_are_packed(bundle: Bundle, archive: bytes, tmp_path: Path) -> None:
    folder = unpacked_folder(archive, tmp_path)
    (folder / "notes.txt").write_text("not a part of the bundle")
    with sr_edge.open_bundle(folder) as opened:
        assert pack_bundle(opened) == archive


def unpacked_folder(archive: bytes, folder: Path) -> Path:
    import zipfile

    (folder / "packed.zip").write_bytes(archive)
    with zipfile.ZipFile(folder / "packed.zip") as packed:
        packed.extractall(folder / "folder.sredge")
    return folder / "folder.sredge"


def test_a_bundle_is_unpacked_once_by_one_of_several_processes(bundle: Bundle, archive: bytes, cache: Path) -> None:
    loaded: list[int] = []

    def load() -> bytes:
        loaded.append(1)
        return archive

    digest = bundle.manifest.digest()
    threads = [threading.Thread(target=unpacked_bundle, args=(digest, load)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert loaded == [1]
    with sr_edge.open_bundle(unpacked_bundle(digest, refuse)) as unpacked:
        unpacked.verify()
    assert not [path for path in cache.rglob("*") if path.name.endswith(".part")]


def test_another_bundle_than_that_of_the_job_is_refused(bundle: Bundle, archive: bytes, cache: Path) -> None:
    with raises(NodeUnable, wanted="0" * 64):
        unpacked_bundle("0" * 64, lambda: archive)
    assert not list((cache / "bundles").glob("*.sredge"))


def test_a_node_that_can_run_the_job_says_nothing(bundle: Bundle, archive: bytes, cache: Path) -> None:
    require_able(model_of(bundle), lambda: archive)


@pytest.mark.parametrize("precision", [Precision.INT8, Precision.FP16])
def test_a_node_without_the_precision_is_unable(
    bundle: Bundle, archive: bytes, cache: Path, precision: Precision
) -> None:
    with pytest.raises(NodeUnable):
        require_able(model_of(bundle, precision), lambda: archive)


def test_another_version_of_sr_edge_is_unable(bundle: Bundle, cache: Path) -> None:
    model = replace(model_of(bundle), version="0.0.1")
    with raises(NodeUnable, found=VERSION, wanted="0.0.1"):
        require_able(model, refuse)
    with raises(NodeUnable, found=VERSION, wanted="0.0.1"):
        open_session(model, refuse)


def test_a_node_without_space_for_the_bundle_is_unable(
    bundle: Bundle, archive: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the place of a folder")
    monkeypatch.setenv("SR_EDGE_CACHE", str(tmp_path / "file"))
    with pytest.raises(NodeUnable):
        require_able(model_of(bundle), lambda: archive)


def test_the_engine_is_opened_once_and_closed_for_another_job(bundle: Bundle, archive: bytes, cache: Path) -> None:
    model = model_of(bundle)
    session = open_session(model, lambda: archive)
    assert session.spec.threads == 1
    assert open_session(replace(model, overlap_px=4), refuse) is session
    other = open_session(replace(model, engine=replace(model.engine, threads=2)), refuse)
    assert other is not session
    assert other.spec.threads == 2


def test_a_node_chooses_what_it_can_run(bundle: Bundle, archive: bytes, cache: Path) -> None:
    engine = choose_here(EngineChoice("onnxruntime"), bundle.manifest.digest(), lambda: archive)
    assert (engine.runtime, engine.precision) == ("onnxruntime", Precision.FP32)
    with pytest.raises(NodeUnable):
        choose_here(EngineChoice("onnxruntime", Precision.INT8), bundle.manifest.digest(), refuse)
