"""Jobs on a Ray cluster of two simulated machines with one core each, in which things go wrong."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import sr_edge
from sr_edge.bundle import Bundle
from sr_edge.cluster import BatchProgress, BatchResult, upscale_many
from sr_edge.cluster.node import choose_here, pack_bundle
from sr_edge.cluster.ray_cluster import RayCluster
from sr_edge.cluster.ray_connection import connect
from sr_edge.cluster.storage.folders import list_files
from sr_edge.cluster.storage.locations import Location, read_bytes
from sr_edge.cluster.storage.transfer import publish
from sr_edge.cluster.worker import Worker
from sr_edge.errors import ClusterError
from sr_edge.model_sources import EngineChoice
from tests.cluster.conftest import CREDENTIALS, MODEL
from tests.cluster.faulty_workers import NODE_VARIABLE, FailingPart, FullDisk, Killed, Slow, UnableOn

pytestmark = [
    pytest.mark.services,
    # Ray leaves files open, and uses what other packages have deprecated.
    pytest.mark.filterwarnings("default"),
]
ray_cluster = pytest.importorskip("ray.cluster_utils")

ROOT = Path(__file__).resolve().parents[2]
ENGINE = EngineChoice("onnxruntime", sr_edge.Precision.FP32)


class Machines:
    """A head without cores and two machines with one core each."""

    def __init__(self) -> None:
        self._cluster = ray_cluster.Cluster(
            initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False}
        )
        self._nodes: dict[str, Any] = {}
        self.complete()

    @property
    def address(self) -> str:
        return str(self._cluster.address)

    def complete(self) -> None:
        """Starts the machines that are missing."""
        for name in {"first", "second"} - set(self._nodes):
            variables = {NODE_VARIABLE: name}
            self._nodes[name] = self._cluster.add_node(num_cpus=1, env_vars=variables)

    def remove(self, name: str) -> None:
        """Ends all processes of a machine at once."""
        self._cluster.remove_node(self._nodes.pop(name), allow_graceful=False)

    def stop(self) -> None:
        self._cluster.shutdown()


@pytest.fixture(scope="module")
def started_machines(tmp_path_factory: pytest.TempPathFactory, s3_server: str) -> Iterator[Machines]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("PYTHONPATH", str(ROOT))  # the processes of workers import sr_edge and the faults from here
        patch.setenv("SR_EDGE_CACHE", str(tmp_path_factory.mktemp("cache")))
        for name, value in {**CREDENTIALS, "AWS_ENDPOINT_URL": s3_server}.items():
            patch.setenv(name, value)
        machines = Machines()
        yield machines
        machines.stop()


@pytest.fixture
def machines(started_machines: Machines) -> Machines:
    started_machines.complete()
    return started_machines


def write_pictures(folder: Path, count: int, folders: int = 3, size: tuple[int, int] = (40, 56)) -> Path:
    """Writes pictures of noise. Each folder makes at least one item."""
    numbers = np.random.default_rng(3)
    for number in range(count):
        path = folder / f"album {number % folders}" / f"{number:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(numbers.integers(0, 256, (*size, 3), np.uint8)).save(path)
    return folder


def write_video(path: Path, frames: int) -> Path:
    av = pytest.importorskip("av")
    noise = np.random.default_rng(7).integers(0, 256, (96, 256, 3), np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"threads": "1", "g": "70", "preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        for number in range(frames):
            shift = number // 30  # frames that do not change take no time
            picture = np.ascontiguousarray(noise[shift % 60 : shift % 60 + 32, shift % 200 : shift % 200 + 32])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def on_one_machine(bundle: Bundle, source: Path, target: Path) -> Path:
    """Upscales the same files without a cluster."""
    from sr_edge.camera import NetworkFrameUpscaler, plan_video, upscale_video

    with sr_edge.open_upscaler(bundle, runtime=ENGINE.runtime, precision=ENGINE.precision, threads=1) as upscaler:
        for path in sorted(path for path in source.rglob("*") if path.is_file()):
            result = target / path.relative_to(source)
            result.parent.mkdir(parents=True, exist_ok=True)
            if path.suffix == ".mp4":
                upscale_video(plan_video(path, result, upscaler.scale), NetworkFrameUpscaler(upscaler.session, 3))
            else:
                sr_edge.upscale_file(upscaler, path, result)
    return target


def contents(folder: Path) -> dict[str, bytes]:
    """The results in a folder, without hidden files: what a job keeps for itself, and what a killed process leaves."""
    files = (path for path in folder.rglob("*") if path.is_file())
    names = {str(path.relative_to(folder)): path for path in files}
    return {name: path.read_bytes() for name, path in names.items() if not f"/{name}".count("/.")}


def records_in(target: Path) -> dict[str, dict[str, Any]]:
    """The last record of each file."""
    lines = (target / ".sr-edge-batch" / "records.jsonl").read_text(encoding="utf-8").splitlines()
    return {record["item"]: record for record in map(json.loads, lines) if "item" in record}


def run(
    machines: Machines,
    bundle: Bundle,
    source: Path | Location,
    target: Path | Location,
    worker: Any = Worker,
    **options: Any,
) -> BatchResult:
    places = (place.address if isinstance(place, Location) else place for place in (source, target))
    return upscale_many(bundle, *places, ray=machines.address, engine=ENGINE, make_worker=worker, **options)


@pytest.mark.parametrize(
    ("count", "is_time"),
    [(40, lambda progress: progress.frames > 100), (500, lambda progress: progress.pictures > 200)],
    ids=["within-the-video", "within-the-pictures"],
)
def test_results_are_those_of_one_machine_although_one_is_lost_in_the_middle(
    machines: Machines, bundle: Bundle, tmp_path: Path, count: int, is_time: Callable[[BatchProgress], bool]
) -> None:
    source = write_pictures(tmp_path / "source", count)
    write_video(source / "films" / "film.mp4", 1900)
    lost: list[bool] = []

    def lose_one(progress: BatchProgress) -> None:
        if is_time(progress) and not lost:
            lost.append(True)
            machines.remove("second")

    result = run(machines, bundle, source, tmp_path / "target", on_progress=lose_one)
    assert (result.done, result.failed, result.pictures, result.videos, result.frames) == (count + 1, 0, count, 1, 1900)
    assert len(result.lost_machines) == 1
    assert contents(tmp_path / "target") == contents(on_one_machine(bundle, source, tmp_path / "one"))


def test_both_machines_work_and_the_second_run_has_nothing_to_do(
    machines: Machines, bundle: Bundle, tmp_path: Path
) -> None:
    source = write_pictures(tmp_path / "source", 24)
    first = run(machines, bundle, source, tmp_path / "target", partial(Slow, seconds=0.1))
    assert len(first.machines) == 2
    assert sum(first.machines.values()) == first.done == 24
    assert {record["precision"] for record in records_in(tmp_path / "target").values()} == {"fp32"}
    again = run(machines, bundle, source, tmp_path / "target")
    assert (again.skipped, again.done) == (24, 0)


def test_a_killed_worker_costs_an_attempt_and_leaves_nothing_half_written(
    machines: Machines, bundle: Bundle, tmp_path: Path
) -> None:
    source = write_pictures(tmp_path / "source", 12)
    worker = partial(Killed, name="album 1/004.png", folder=tmp_path)
    result = run(machines, bundle, source, tmp_path / "target", worker)
    assert (result.done, result.failed) == (12, 0)
    records = records_in(tmp_path / "target")
    assert records["album 1/004.png"]["attempts"] == 2
    assert records["album 0/000.png"]["attempts"] == 1
    assert contents(tmp_path / "target") == contents(on_one_machine(bundle, source, tmp_path / "one"))


def test_poisoned_pictures_fail_alone(
    machines: Machines, bundle: Bundle, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    source = write_pictures(tmp_path / "source", 12)
    damaged = source / "album 2" / "005.png"
    damaged.write_bytes(damaged.read_bytes()[:200])
    worker = partial(Killed, name="album 1/004.png", folder=tmp_path, times=99)
    result = run(machines, bundle, source, tmp_path / "target", worker)
    assert (result.done, result.failed) == (10, 2)
    assert {Path(failure.source).name for failure in result.failures} == {"004.png", "005.png"}
    records = records_in(tmp_path / "target")
    assert {name for name, record in records.items() if record["result"] == "failed"} == {
        "album 1/004.png",
        "album 2/005.png",
    }
    assert records["album 1/004.png"]["attempts"] == records["album 2/005.png"]["attempts"] == 3
    assert set(contents(tmp_path / "target")) == set(records) - {"album 1/004.png", "album 2/005.png"}
    printed = capfd.readouterr()
    assert (printed.out, printed.err) == ("", "")  # nor does Ray explain the crashes on the terminal


def test_files_that_one_machine_cannot_write_are_written_by_the_other(
    machines: Machines, bundle: Bundle, tmp_path: Path
) -> None:
    source = write_pictures(tmp_path / "source", 12)
    result = run(machines, bundle, source, tmp_path / "target", partial(FullDisk, node="first"))
    assert (result.done, result.failed) == (12, 0)
    records = records_in(tmp_path / "target").values()
    assert len({record["machine"] for record in records}) == 1
    assert any(record["attempts"] == 2 for record in records)


@pytest.mark.parametrize("times", [2, 3])
def test_a_part_of_a_video_that_fails_is_tried_three_times(
    machines: Machines, bundle: Bundle, tmp_path: Path, times: int
) -> None:
    source = write_video(tmp_path / "source" / "film.mp4", 1900).parent
    result = run(machines, bundle, source, tmp_path / "target", partial(FailingPart, folder=tmp_path, times=times))
    if times == 2:
        assert (result.videos, result.frames) == (1, 1900)
        assert records_in(tmp_path / "target")["film.mp4"]["attempts"] == 3
        assert contents(tmp_path / "target") == contents(on_one_machine(bundle, source, tmp_path / "one"))
    else:
        assert (result.videos, result.failed, result.failures[0].error) == (0, 1, "injected fault")
        assert contents(tmp_path / "target") == {}
        again = run(machines, bundle, source, tmp_path / "target")  # of which the other parts are done already
        assert again.videos == 1
        assert contents(tmp_path / "target") == contents(on_one_machine(bundle, source, tmp_path / "one"))


class Driver:
    """`sr-edge batch` in a process of its own, with pictures that take so long that it can be interrupted."""

    def __init__(self, machines: Machines, source: Path, target: Path) -> None:
        write_pictures(source, 24, folders=24, size=(300, 300))
        options = ["--ray", machines.address, "--runtime", "onnxruntime", "--precision", "fp32"]
        command = [sys.executable, "-m", "sr_edge", "batch", str(MODEL), str(source), str(target), *options]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT)
        self._records = target / ".sr-edge-batch" / "records.jsonl"

    def wait_for_records(self, count: int) -> None:
        limit = time.monotonic() + 120
        while not (self._records.exists() and self._records.read_text().count("\n") > count):
            assert self.process.poll() is None
            assert time.monotonic() < limit
            time.sleep(0.02)

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait_for_line(self, text: str) -> None:
        assert self.process.stderr is not None
        assert any(text in line for line in self.process.stderr)

    def end(self) -> tuple[int, str, str]:
        stdout, stderr = self.process.communicate(timeout=60)
        return self.process.returncode, stdout, stderr


def test_the_first_interrupt_lets_running_files_end(machines: Machines, bundle: Bundle, tmp_path: Path) -> None:
    driver = Driver(machines, tmp_path / "source", tmp_path / "target")
    driver.wait_for_records(3)
    driver.signal(signal.SIGINT)
    code, stdout, _ = driver.end()
    assert code == 130
    assert "not tried" in stdout
    records = records_in(tmp_path / "target")
    assert 3 <= len(records) < 24
    assert set(contents(tmp_path / "target")) == {
        name for name, record in records.items() if record["result"] == "done"
    }
    assert run(machines, bundle, tmp_path / "source", tmp_path / "target").skipped == len(records)


def test_the_second_interrupt_ends_them_at_once(machines: Machines, bundle: Bundle, tmp_path: Path) -> None:
    driver = Driver(machines, tmp_path / "source", tmp_path / "target")
    driver.wait_for_records(2)
    driver.signal(signal.SIGINT)
    driver.wait_for_line("press Ctrl-C again")
    driver.signal(signal.SIGINT)
    code, stdout, _ = driver.end()
    assert (code, stdout) == (130, "")
    one = contents(on_one_machine(bundle, tmp_path / "source", tmp_path / "one"))
    assert all(one[name] == content for name, content in contents(tmp_path / "target").items())
    run(machines, bundle, tmp_path / "source", tmp_path / "target")
    assert contents(tmp_path / "target") == one
    assert not list((tmp_path / "target").rglob("*.part"))


def test_a_job_continues_after_its_driver_was_killed(machines: Machines, bundle: Bundle, tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    driver = Driver(machines, source, target)
    driver.wait_for_records(5)
    driver.signal(signal.SIGKILL)
    driver.end()
    result = run(machines, bundle, source, target)
    assert 5 <= result.skipped < 24
    assert result.skipped + result.done + result.kept == 24
    assert contents(target) == contents(on_one_machine(bundle, source, tmp_path / "one"))


def test_a_machine_that_cannot_run_the_model_gets_no_work(
    machines: Machines, bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_pictures(tmp_path / "source", 6)
    events: list[str] = []
    worker = partial(UnableOn, nodes=("first",))
    monkeypatch.setenv("RAY_ADDRESS", machines.address)  # where "auto" looks first
    result = upscale_many(
        bundle, source, tmp_path / "target", ray="auto", engine=ENGINE, make_worker=worker, on_event=events.append
    )
    assert result.done == 6
    assert len(result.machines) == 1
    assert [event for event in events if "a simulated obstacle" in event]


def test_a_model_that_no_machine_can_run_is_refused_with_all_reasons(
    machines: Machines, bundle: Bundle, tmp_path: Path
) -> None:
    source = write_pictures(tmp_path / "source", 2)
    with pytest.raises(ClusterError) as caught:
        run(machines, bundle, source, tmp_path / "target", partial(UnableOn, nodes=("first", "second")))
    reasons = caught.value.found
    assert isinstance(reasons, tuple)
    assert sum("a simulated obstacle" in reason for reason in reasons) == 2


def test_another_server_at_the_address_is_refused_without_messages_of_ray(
    bundle: Bundle, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    source = write_pictures(tmp_path / "source", 1)
    with socket.create_server(("0.0.0.0", 0)) as silent:  # Ray replaces 127.0.0.1 by another address of this machine
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(ClusterError) as caught:
            upscale_many(bundle, source, tmp_path / "target", ray=address, engine=ENGINE)
    assert caught.value.found == address
    assert capfd.readouterr() == ("", "")


def test_an_interrupt_ends_all_tasks_and_leaves_nothing_half_written(
    machines: Machines, bundle: Bundle, tmp_path: Path
) -> None:
    source = write_pictures(tmp_path / "source", 12)

    def interrupt(progress: BatchProgress) -> None:
        if progress.pictures >= 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(machines, bundle, source, tmp_path / "target", on_progress=interrupt)
    one = contents(on_one_machine(bundle, source, tmp_path / "one"))
    assert all(one[name] == content for name, content in contents(tmp_path / "target").items())
    assert run(machines, bundle, source, tmp_path / "target").failed == 0


def test_fail_fast_ends_after_the_first_failure(machines: Machines, bundle: Bundle, tmp_path: Path) -> None:
    from sr_edge.cluster import BatchOptions

    source = write_pictures(tmp_path / "source", 60, folders=60)
    first = source / "album 0" / "000.png"
    first.write_bytes(first.read_bytes()[:200])
    options = BatchOptions(is_failing_fast=True)
    result = run(machines, bundle, source, tmp_path / "target", partial(Slow, seconds=0.3), options=options)
    assert result.failed == 1
    assert result.is_stopped
    assert result.left > 0


def test_files_of_an_object_store_are_upscaled_like_local_ones(
    machines: Machines, bundle: Bundle, tmp_path: Path, s3: Location
) -> None:
    source, one = write_pictures(tmp_path / "source", 6), tmp_path / "one"
    write_video(source / "films" / "film.mp4", 1300)
    for path in (path for path in source.rglob("*") if path.is_file()):
        publish(path, s3.join("in", str(path.relative_to(source))))
    target = s3.join("out")
    result = run(machines, bundle, s3.join("in"), target)
    assert (result.done, result.pictures, result.videos, result.failed) == (7, 6, 1, 0)
    expected = contents(on_one_machine(bundle, source, one))
    results = {name: read_bytes(target.join(name)) for name, _ in list_files(target) if not name.startswith(".")}
    assert results == expected
    again = run(machines, bundle, s3.join("in"), target)
    assert (again.skipped, again.done) == (7, 0)


def test_a_machine_chooses_the_engine_where_the_driver_cannot(machines: Machines, bundle: Bundle) -> None:
    archive, digest = pack_bundle(bundle), bundle.manifest.digest()
    with connect(machines.address, len(archive)) as dashboard_url:
        cluster: RayCluster[object, object] = RayCluster(archive)
        engine = cluster.first_answer(partial(choose_here, EngineChoice("onnxruntime"), digest))
        with pytest.raises(ClusterError) as caught:
            cluster.first_answer(partial(choose_here, EngineChoice("onnxruntime", sr_edge.Precision.INT8), digest))
    assert (engine.runtime, engine.precision) == ("onnxruntime", sr_edge.Precision.FP32)
    assert isinstance(caught.value.found, tuple)
    assert dashboard_url == ""
