"""`upscale_many` and `sr-edge batch` before anything is sent to a cluster, and where nothing has to be sent."""

from __future__ import annotations

import json
import socket
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import sr_edge.cluster
from sr_edge.bundle import Bundle, sha256_of
from sr_edge.camera.file.settings import FrameRange, VideoSettings
from sr_edge.cluster import BatchOptions, upscale_many
from sr_edge.cluster.job import job_plan
from sr_edge.cluster.storage.locations import Location, stamp
from sr_edge.cluster.storage.lock import target_lock
from sr_edge.cluster.storage.media_kinds import Kind
from sr_edge.cluster.storage.records import Record, open_records
from sr_edge.errors import ClusterError, FrameError, RuntimeUnavailable, StorageError, UsageError
from sr_edge.model_sources import ChosenEngine, EngineChoice
from sr_edge.spec import Precision
from tests.cluster.conftest import MODEL
from tests.command_line import SrEdge
from tests.expected_errors import raises

ENGINE = EngineChoice("onnxruntime", Precision.FP32)
CHOICE = ("--runtime", "onnxruntime", "--precision", "fp32")
"""The same on the command line."""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    Image.fromarray(np.full((20, 30, 3), 90, np.uint8)).save(folder / "a.png")
    return folder


def test_the_public_names_are_these() -> None:
    assert sr_edge.cluster.__all__ == ["BatchOptions", "BatchProgress", "BatchResult", "FailedFile", "upscale_many"]
    assert all(hasattr(sr_edge.cluster, name) for name in sr_edge.cluster.__all__)


def test_two_jobs_on_one_target_are_refused(bundle: Bundle, source: Path, tmp_path: Path) -> None:
    target = Location(str(tmp_path / "target"))
    with target_lock(target, "other"), pytest.raises(StorageError) as caught:
        upscale_many(bundle, source, target.path, engine=ENGINE)
    assert isinstance(caught.value.found, dict)
    assert caught.value.found["job"] == "other"


def test_a_target_in_the_source_is_refused(bundle: Bundle, source: Path) -> None:
    with pytest.raises(UsageError):
        upscale_many(bundle, source, source / "target", engine=ENGINE)


def test_two_sources_with_one_target_name_are_refused(bundle: Bundle, source: Path, tmp_path: Path) -> None:
    (source / "A.PNG").write_bytes((source / "a.png").read_bytes())
    with raises(UsageError, found=(str(source / "A.PNG"), str(source / "a.png"))):
        upscale_many(bundle, source, tmp_path / "target", engine=ENGINE)


def test_a_source_without_pictures_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(FrameError):
        upscale_many(bundle, tmp_path / "empty", tmp_path / "target", engine=ENGINE)


def test_an_address_without_a_cluster_is_refused_at_once(bundle: Bundle, source: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # and does not listen
        address = f"127.0.0.1:{unused.getsockname()[1]}"
        with raises(ClusterError, found=address):
            upscale_many(bundle, source, tmp_path / "target", ray=address, engine=ENGINE)


def test_a_cluster_that_refuses_the_token_is_told_from_one_that_is_not_there(
    bundle: Bundle, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray")

    def refuse(command: list[str], **options: object) -> None:
        problem = "AuthenticationError: RPC error: InvalidAuthToken: Authentication token is missing or incorrect"
        raise subprocess.CalledProcessError(1, command, stderr=problem)  # as the health check of Ray 2.60 does

    monkeypatch.setattr(subprocess, "run", refuse)
    with socket.create_server(("127.0.0.1", 0)) as server, pytest.raises(ClusterError) as caught:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        upscale_many(bundle, source, tmp_path / "target", ray=address, engine=ENGINE)
    assert caught.value.remedy
    assert "RAY_AUTH_MODE" in caught.value.remedy


@pytest.mark.parametrize("address", ["ray://head:10001", "head", "head:port", ""])
def test_what_is_no_address_is_refused(bundle: Bundle, source: Path, tmp_path: Path, address: str) -> None:
    pytest.importorskip("ray")
    with raises(UsageError, found=address):
        upscale_many(bundle, source, tmp_path / "target", ray=address, engine=ENGINE)


def test_a_precision_that_the_model_does_not_have_is_refused(bundle: Bundle, source: Path, tmp_path: Path) -> None:
    with pytest.raises(RuntimeUnavailable):
        upscale_many(bundle, source, tmp_path / "target", engine=EngineChoice("onnxruntime", Precision.INT8))


def test_controls_that_the_network_does_not_have_are_refused(bundle: Bundle, source: Path, tmp_path: Path) -> None:
    with raises(UsageError, found="alpha"):
        upscale_many(bundle, source, tmp_path / "target", engine=ENGINE, options=BatchOptions(controls={"alpha": 1.0}))


def test_a_bound_of_reuse_and_a_range_of_frames_are_refused() -> None:
    with raises(UsageError, found="0.05", wanted=("off", "exact")):
        BatchOptions(reuse="0.05")
    with raises(UsageError, found="0:10"):
        BatchOptions(video=VideoSettings(frames=FrameRange(0, 10)))
    with pytest.raises(UsageError):
        BatchOptions(workers=0)


def finish(bundle: Bundle, source: Path, target: Path) -> None:
    """Writes the result of a picture and its record, as an earlier job would."""
    place = Location(str(target))
    target.mkdir()
    (target / source.name).write_bytes(b"12345")
    found = stamp(Location(str(source)))
    assert found is not None
    engine = ChosenEngine("onnxruntime", Precision.FP32, Precision.FP32, "cpu", threads=1)
    plan = job_plan(bundle, engine, BatchOptions(), place)
    record = Record(
        item=source.name,
        source=str(source),
        target=str(place.join(source.name)),
        source_stamp=found,
        source_sha256=sha256_of(source),
        target_bytes=5,
        bundle_sha256=plan.model.sha256,
        options_sha256=plan.options_sha256(Kind.PICTURE),
        machine="here",
        seconds=1.0,
        precision="fp32",
        runtime="onnxruntime",
        attempts=1,
        result="done",
    )
    with open_records(place, "earlier") as records:
        records.append(record)


def test_without_anything_to_do_no_cluster_is_needed(bundle: Bundle, source: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    finish(bundle, source / "a.png", target)
    result = upscale_many(bundle, source, target, ray="127.0.0.1:1", engine=ENGINE)
    assert (result.skipped, result.done, result.failed, result.is_stopped) == (1, 0, 0, False)
    assert (target / "a.png").read_bytes() == b"12345"


def test_the_summary_of_a_job_without_anything_to_do_names_the_target(
    sr_edge: SrEdge, bundle: Bundle, source: Path, tmp_path: Path
) -> None:
    target = tmp_path / "target"
    finish(bundle, source / "a.png", target)
    outcome = sr_edge("batch", MODEL, source, target, *CHOICE)
    assert outcome.code == 0
    assert outcome.stdout.splitlines() == [f"nothing to do: 1 file is finished in {target}"]


def test_a_failure_is_listed_once_and_the_last_line_names_the_records(
    sr_edge: SrEdge, bundle: Bundle, source: Path, tmp_path: Path
) -> None:
    target, missing = tmp_path / "target", source / "missing.png"
    finish(bundle, source / "a.png", target)
    missing.symlink_to("nowhere.png")
    outcome = sr_edge("batch", MODEL, source, target, *CHOICE)
    assert outcome.code == 1
    assert [line.count(str(missing)) for line in outcome.stdout.splitlines()] == [0, 1]
    assert str(missing) not in outcome.error
    assert str(target / ".sr-edge-batch" / "records.jsonl") in outcome.error
    assert "run the same command again" in outcome.error
    (record,) = map(json.loads, (target / ".sr-edge-batch" / "records.jsonl").read_text().splitlines()[-1:])
    assert (record["source"], record["result"]) == (str(missing), "failed")
    assert record["error"]


def test_the_command_refuses_bad_input_in_one_line(sr_edge: SrEdge, source: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    assert sr_edge("batch", MODEL, source, target, "--reuse", "0.1").code == 2
    assert sr_edge("batch", MODEL, source, source / "target").code == 2
    assert sr_edge("batch", MODEL, source, "ftp://host/target").code == 2
    assert sr_edge("batch", MODEL, tmp_path / "nothing", target).error
    outcome = sr_edge("batch", MODEL, source, target, "--ray", "host", *CHOICE)
    assert outcome.code == 2
    assert outcome.error
