"""`upscale_many`: upscales archives of pictures and videos on many machines."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from sr_edge.bundle import Bundle
from sr_edge.camera.file.settings import VideoSettings
from sr_edge.cluster.batch import Batch, BatchProgress, FailedFile
from sr_edge.cluster.node import JobModel, choose_here, pack_bundle, require_choice
from sr_edge.cluster.ray_cluster import RayCluster, Resources, unable_cluster
from sr_edge.cluster.ray_connection import LOCAL, connect
from sr_edge.cluster.scheduler import Node, Scheduler
from sr_edge.cluster.storage.folders import remove_folder
from sr_edge.cluster.storage.listing import Listing, list_source
from sr_edge.cluster.storage.locations import Location, require_target
from sr_edge.cluster.storage.lock import target_lock
from sr_edge.cluster.storage.records import DONE, FAILED, KEPT, TargetSizes, new_job_id, open_records
from sr_edge.cluster.work import JobPlan, Result, Work, parts_folder
from sr_edge.cluster.worker import Worker
from sr_edge.controls import control_values
from sr_edge.errors import EngineError, RuntimeUnavailable, UsageError
from sr_edge.model_sources import ChosenEngine, EngineChoice, open_model
from sr_edge.quantities import whole_number
from sr_edge.runtimes.engine.cores import usable_cores
from sr_edge.spec import OnEvent
from sr_edge.upscaler.reuse_options import EXACT, OFF

OnProgress = Callable[[BatchProgress], None]


@dataclass(frozen=True)
class BatchOptions:
    """Settings of a job.

    Attributes:
        workers: The most tasks that run at the same time; None for as many as the machines have room for.
        overlap_px: Minimum overlap of tiles in low-resolution pixels; None for the network's own.
        controls: Values of the network's controls.
        video: How videos are encoded; `resume=False` also upscales files again that are finished.
        reuse: "exact" or "off", see `Upscaler`. A bound is refused: results would depend on how a video is divided.
        is_failing_fast: Whether no more work is sent after the first file that failed.
    """

    workers: int | None = None
    overlap_px: int | None = None
    controls: Mapping[str, float] = field(default_factory=dict)
    video: VideoSettings = field(default_factory=VideoSettings)
    reuse: str = EXACT
    is_failing_fast: bool = False

    def __post_init__(self) -> None:
        if self.workers is not None:
            whole_number(self.workers, "workers", 1, "pass 1 or more, or leave it out")
        if self.reuse not in (OFF, EXACT):
            raise UsageError(
                f"--reuse {self.reuse} is refused for a batch: with a bound, frames depend on where a part begins",
                found=self.reuse,
                wanted=(OFF, EXACT),
                remedy="choose off or exact",
            )
        if not self.video.frames.is_all:
            raise UsageError(
                "a range of frames is for one video, not for a batch",
                found=str(self.video.frames),
                remedy="use `sr-edge upscale --frames`",
            )


@dataclass(frozen=True)
class BatchResult:
    """What a job did.

    Attributes:
        job: The name of the job in the records.
        target: The folder of the results.
        engine: The runtime, precision and device that all machines used.
        done: Number of files that were written.
        skipped: Number of files that an earlier job had finished.
        kept: Number of files whose source has another date, but the same content; their results were kept.
        failed: Number of files that failed.
        failures: The first of them; the records have all.
        pictures: Number of pictures that were written.
        videos: Number of videos that were written.
        frames: Number of frames of videos that were upscaled.
        seconds: Duration of the job.
        machines: Number of files that each machine wrote, or took part in.
        lost_machines: Machines that were lost during the job.
        is_stopped: Whether the job ended before all files were tried.
        left: Number of files that were not tried.
        records: Where the records are.
        notes: What was converted or left out, one sentence each, with the number of files.
    """

    job: str
    target: str
    engine: ChosenEngine
    done: int
    skipped: int
    kept: int
    failed: int
    failures: tuple[FailedFile, ...]
    pictures: int
    videos: int
    frames: int
    seconds: float
    machines: Mapping[str, int]
    lost_machines: tuple[str, ...]
    is_stopped: bool
    left: int
    records: str
    notes: tuple[str, ...]


def upscale_many(
    model: Bundle | Path | str,
    source: Path | str,
    target: Path | str,
    *,
    ray: str = LOCAL,
    engine: EngineChoice | None = None,
    options: BatchOptions | None = None,
    on_progress: OnProgress = lambda progress: None,
    on_event: OnEvent = lambda event: None,
    is_stopping: Callable[[], bool] = lambda: False,
    make_worker: Callable[[JobPlan], Worker] = Worker,
) -> BatchResult:
    """Upscales an archive of pictures and videos on one or many machines.

    Files keep their names and folders. Each result appears under its name when it is complete, and is recorded; the
    same call continues after an interruption, and does again only what changed. What fails is tried again on another
    machine, three times in all. Long videos are divided, and the parts joined to what one machine would write.

    Args:
        model: An open bundle, or the path of a bundle or an ONNX file.
        source: A folder, a pattern, a file or a list of files (.txt); a path or a URL, such as s3://bucket/photos.
        target: The folder of the results; a path or a URL.
        ray: "local" for this machine alone; "auto" for the Ray cluster of this machine; or HOST:PORT of its head.
        engine: What is chosen of runtime, precision, device and threads. What is left open is resolved once for all
            machines: by this one, or by the first that can run the model where this one cannot.
        options: Further settings.
        on_progress: Called now and then.
        on_event: Called with what a person should know before the work ends, such as what was chosen.
        is_stopping: Asked again and again whether no more work should be sent; tasks that have begun are ended.
        make_worker: Makes the program of the worker processes from the plan of the job. A test may derive from `Worker`
            to inject faults.

    Raises:
        UsageError: An argument is wrong: two files have one name in the target, or the target is in the source.
        FrameError: The source contains no pictures and videos.
        StorageError: Source or target cannot be read or written, or another job writes to the target.
        ClusterError: There is no cluster, or none of its machines can run the model.
        SrEdgeError: The model cannot be opened, as in `open_session`.
        KeyboardInterrupt: All tasks are ended first, and no half-written file remains.
    """
    started, options, choice = time.perf_counter(), options or BatchOptions(), engine or EngineChoice()
    place, job = Location.parse(str(target)), new_job_id()
    require_target(place)
    with ExitStack() as resources:
        listing = list_source(str(source), place)
        lock = resources.enter_context(target_lock(place, job))
        bundle = model if isinstance(model, Bundle) else resources.enter_context(open_model(model))
        control_values(bundle.manifest.card.controls, options.controls)
        after_ray = resources.enter_context(ExitStack())
        connection = _Connection(resources, ray, bundle)
        chosen, needs = _engine_and_resources(connection, choice, options.workers)
        plan = job_plan(bundle, chosen, options, place)
        records = resources.enter_context(open_records(place, job))
        batch = Batch(plan, listing.files, records, TargetSizes(place), on_progress, lock.require_held)
        for failure in listing.failures:
            batch.record_unlisted(failure)
        after_ray.callback(batch.remove_leftovers)

        def should_stop() -> bool:
            return is_stopping() or (options.is_failing_fast and bool(batch.failures or listing.failures))

        lost: set[str] = set()
        if batch.unfinished:
            cluster = connection.cluster()
            nodes = cluster.start(make_worker(plan), needs)
            engines = _require_able(nodes)
            for line in _description(chosen, nodes, engines, connection.dashboard_url):
                on_event(line)
            batch.workers = min(engines, options.workers or engines)
            Scheduler(cluster, batch, options.workers, should_stop, lost_nodes=lost).run()
        seconds = time.perf_counter() - started
        result = _result(job, plan, batch, listing, lost, str(records.place), seconds)
        if not result.failed and not result.is_stopped:
            remove_folder(parts_folder(place))  # also parts of videos that have changed since
        return result


class _Connection:
    """The cluster, which is connected to when it is needed: a job of which all files are finished does not need it."""

    def __init__(self, resources: ExitStack, address: str, bundle: Bundle) -> None:
        self._resources, self.address, self.bundle = resources, address, bundle
        self._cluster: RayCluster[Work, Result] | None = None
        self.dashboard_url = ""

    def cluster(self) -> RayCluster[Work, Result]:
        if self._cluster is None:
            archive = pack_bundle(self.bundle)
            self.dashboard_url = self._resources.enter_context(connect(self.address, len(archive)))
            self._cluster = RayCluster(archive)
        return self._cluster


def job_plan(bundle: Bundle, engine: ChosenEngine, options: BatchOptions, target: Location) -> JobPlan:
    card, sha256 = bundle.manifest.card, bundle.manifest.digest()
    model = JobModel(bundle.path.name, card.scale, sha256, engine, options.overlap_px, options.controls)
    return JobPlan(model, target, options.video, options.reuse)


def _engine_and_resources(
    connection: _Connection, choice: EngineChoice, workers: int | None
) -> tuple[ChosenEngine, Resources]:
    """The engine that all machines use, and what a task occupies: its threads, or one GPU.

    Where this machine cannot run the model itself, the first one of the cluster that can chooses.
    """
    bundle = connection.bundle
    try:
        engine = require_choice(bundle, choice)
    except (RuntimeUnavailable, EngineError):
        if connection.address == LOCAL:
            raise
        engine = connection.cluster().first_answer(partial(choose_here, choice, bundle.manifest.digest()))
    if engine.device.startswith(("cuda", "gpu")):
        return engine, Resources(cpus=1, gpus=1)
    threads = choice.threads
    if threads is None:
        is_shared = workers is not None and connection.address == LOCAL
        threads = max(1, usable_cores() // (workers or 1)) if is_shared else 1
    return replace(engine, threads=threads), Resources(cpus=threads)


def _require_able(nodes: Mapping[str, Node]) -> int:
    """The number of engines in a cluster; raises ClusterError if no machine can run the job."""
    engines = sum(node.engines for node in nodes.values() if not node.obstacle)
    if not engines:
        raise unable_cluster({node.name: node.obstacle for node in nodes.values()})
    return engines


def _description(engine: ChosenEngine, nodes: Mapping[str, Node], engines: int, dashboard_url: str) -> Iterator[str]:
    able = sum(1 for node in nodes.values() if not node.obstacle)
    yield str(engine)
    yield f"machines: {able}, with room for {engines} worker{'s' if engines > 1 else ''} in all"
    yield from (f"{node.name} gets no work: {node.obstacle}" for node in nodes.values() if node.obstacle)
    if dashboard_url:
        yield f"Ray's dashboard: {dashboard_url}"


def _result(
    job: str,
    plan: JobPlan,
    batch: Batch,
    listing: Listing,
    lost_machines: set[str],
    records: str,
    seconds: float,
) -> BatchResult:
    counts = batch.counts
    unlisted = tuple(FailedFile(failure.source, failure.reason) for failure in listing.failures)
    failed = counts[FAILED] + len(unlisted)
    tried = counts[DONE] + counts[KEPT] + counts[FAILED] + counts["skipped"]
    left = len(listing.files) - tried
    notes = [f"{note} ({count} files)" if count > 1 else note for note, count in batch.notes.items()]
    return BatchResult(
        job=job,
        target=str(plan.target),
        engine=plan.model.engine,
        done=counts[DONE],
        skipped=counts["skipped"],
        kept=counts[KEPT],
        failed=failed,
        failures=(*unlisted, *batch.failures),
        pictures=batch.pictures,
        videos=batch.videos,
        frames=batch.frames,
        seconds=seconds,
        machines=dict(batch.files_of_machine),
        lost_machines=tuple(sorted(lost_machines)),
        is_stopped=left > 0,
        left=left,
        records=records,
        notes=(*listing.notes, *notes),
    )
