"""Chooses the graph of each runtime by measurement, and writes those that differ from the graph of all runtimes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from sr_edge.bundle import PassMeasurement
from sr_edge.deploy.graphs import PARITY_PATCHES, FloatExports, GraphFile
from sr_edge.deploy.manifest import artifact_of
from sr_edge.deploy.pass_cache import CacheKey, PassCache
from sr_edge.deploy.pass_graphs import PassGraphs, write_float_graphs, write_int8_graphs
from sr_edge.deploy.pass_timing import Decision, Passes, Run
from sr_edge.deploy.plan import TIMED_RUNTIMES, DeployPlan
from sr_edge.errors import ExportError, PrecisionUnavailable
from sr_edge.frames import Batch
from sr_edge.models import LoadedModel
from sr_edge.printable import one_line
from sr_edge.runtimes import (
    Session,
    SessionRequest,
    availability,
    describe_machine,
    load_runtime,
    open_request,
    random_tile,
    supports,
)
from sr_edge.spec import FrameFormat, ModelCard, PassChoice, Precision, StageProgress

SCRATCH_FOLDER = "passes"


@dataclass(frozen=True)
class PassOutcome:
    """What the measurement of passes led to.

    Attributes:
        graphs: The files for certain runtimes that were added to the bundle.
        measurements: What the passes gain in each runtime and precision that was timed.
        notes: What went wrong without preventing the deployment.
    """

    graphs: tuple[GraphFile, ...] = ()
    measurements: tuple[PassMeasurement, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Job:
    """A runtime and a precision, with the file that it would open without a choice, and the graphs to choose from."""

    runtime: str
    file: GraphFile
    graphs: PassGraphs


def choose_passes(
    model: LoadedModel,
    plan: DeployPlan,
    exports: FloatExports,
    graphs: Sequence[GraphFile],
    patches: Sequence[Batch],
    staging: Path,
    progress: StageProgress,
    clock: Callable[[], float] = time.monotonic,
    cache: PassCache | None = None,
) -> PassOutcome:
    """Times the passes in each runtime of the plan that is quick to open, and writes the graphs that won.

    Args:
        model: The network.
        plan: The deployment, with the time limit.
        exports: The float graphs of all runtimes.
        graphs: The files of the bundle so far.
        patches: Patches, of which the first PARITY_PATCHES are compared.
        staging: The folder in which the bundle is built.
        progress: Called with (stage, steps done, number of steps).
        clock: Returns the time in seconds.
        cache: Where measurements are stored; None takes the user's cache folder.
    """
    if plan.passes is not PassChoice.MEASURED:
        return PassOutcome()
    card = exports.plain.metadata.card
    jobs = _jobs(plan, exports, graphs, card, staging)
    timer = _Timer(plan, card, cache or PassCache(), clock)
    deadline = clock() + plan.pass_budget_s
    measured: list[tuple[_Job, PassMeasurement]] = []
    for index, job in enumerate(jobs):
        progress("timing passes", index, len(jobs))
        measurement = timer.measure(job, (deadline - clock()) / (len(jobs) - index))
        measured += [(job, measurement)] if measurement is not None else []
    progress("timing passes", len(jobs), len(jobs))
    outcome = _written(measured, model, plan, exports, patches[:PARITY_PATCHES], staging)
    return replace(outcome, notes=(*outcome.notes, *timer.notes))


def _jobs(
    plan: DeployPlan, exports: FloatExports, graphs: Sequence[GraphFile], card: ModelCard, staging: Path
) -> list[_Job]:
    """Every runtime with fp32 and INT8 where passes would change the graph; equal files share their candidates."""
    shape = (1, card.channels, plan.tile.height, plan.tile.width)
    files = {graph.file: graph for graph in graphs if graph.io is FrameFormat.FLOAT_NCHW}
    artifacts = [artifact_of(graph, shape, staging) for graph in files.values()]
    made: dict[str, PassGraphs] = {}
    jobs = []
    for runtime in TIMED_RUNTIMES:
        if runtime not in plan.runtimes or not availability(runtime).works:
            continue
        for precision in (Precision.FP32, Precision.INT8):
            artifact = load_runtime(runtime).choose_artifact(artifacts, precision, Precision.FP32, None)
            if artifact is None:
                continue
            if artifact.file not in made:
                plain = exports.plain.path if precision is Precision.FP32 else None
                folder = staging / SCRATCH_FOLDER / artifact.file
                made[artifact.file] = PassGraphs(
                    staging / artifact.file, plain, exports.passes, plan.speed_passes, folder
                )
            if len(made[artifact.file].candidates.first) > 1:
                jobs.append(_Job(runtime, files[artifact.file], made[artifact.file]))
    return jobs


class _Timer:
    """Measures jobs, or takes their measurements from the cache."""

    def __init__(self, plan: DeployPlan, card: ModelCard, cache: PassCache, clock: Callable[[], float]) -> None:
        self.notes: list[str] = []
        self._plan = plan
        self._card = card
        self._cache = cache
        self._clock = clock
        self._cpu = describe_machine().cpu

    def measure(self, job: _Job, budget_s: float) -> PassMeasurement | None:
        """The measurement of a job; None where the runtime does not run the precision."""
        version = availability(job.runtime).version
        precision = job.file.precision
        threads = self._plan.threads or 0
        key = CacheKey(job.graphs.digests(), job.runtime, version, str(precision), self._cpu, threads)
        stored = self._cache.load(key)
        if stored is not None and job.graphs.has(stored.passes):
            return stored
        try:
            decision = self._plan.decide_passes(
                job.graphs.candidates, lambda passes: self._opened(job, passes), budget_s, self._clock
            )
        except PrecisionUnavailable:
            return None
        failures = (f"{name}: {reason}" for name, reason in job.graphs.failures.items())
        measurement = _measurement(job, decision, self._cpu, version, (*decision.remarks, *failures))
        if not measurement.remark:
            note = self._cache.store(key, measurement)
            self.notes += [note] if note else []
        return measurement

    @contextmanager
    def _opened(self, job: _Job, passes: Passes) -> Iterator[Run]:
        """The graph in its precision, and with bf16 for its float operators where the runtime computes in bf16."""
        request = SessionRequest(
            artifact=job.graphs.file(passes),
            card=self._card,
            tile=self._plan.tile,
            precision=job.file.precision,
            activation_type=job.file.activation_type,
            threads=self._plan.threads,
        )
        requests = [request]
        if supports(job.runtime, Precision.BF16):
            requests.append(in_bf16(request))
        with ExitStack() as stack:
            yield timed_run([stack.enter_context(open_request(job.runtime, each)) for each in requests])


def in_bf16(request: SessionRequest) -> SessionRequest:
    """The same graph with bf16 in place of fp32."""
    if request.precision is Precision.INT8:
        return replace(request, float_precision=Precision.BF16)
    return replace(request, precision=Precision.BF16)


def timed_run(sessions: Sequence[Session]) -> Run:
    """A function that runs a random tile in each session and returns the milliseconds of the engines alone."""
    tiles = [random_tile(each.spec.tile, each.spec.io, each.spec.channels) for each in sessions]
    return lambda: tuple(session.run_staged(tile)[1].compute_ms for session, tile in zip(sessions, tiles, strict=True))


def _measurement(job: _Job, decision: Decision, cpu: str, version: str, remarks: Sequence[str]) -> PassMeasurement:
    ratio = decision.ratio
    return PassMeasurement(
        runtime=job.runtime,
        precision=job.file.precision,
        passes=decision.passes,
        base=decision.base,
        time_ratio=ratio.median,
        interval=(ratio.low, ratio.high),
        rounds=decision.rounds,
        cpu=cpu,
        version=version,
        remark=one_line("; ".join(remarks)),
    )


def _written(
    measured: Sequence[tuple[_Job, PassMeasurement]],
    model: LoadedModel,
    plan: DeployPlan,
    exports: FloatExports,
    patches: Sequence[Batch],
    staging: Path,
) -> PassOutcome:
    """Writes each graph that won; runtimes that chose the same graph share it."""
    winners: dict[tuple[GraphFile, Passes], list[_Job]] = {}
    for job, measurement in measured:
        if measurement.passes != exports.passes:
            winners.setdefault((job.file, measurement.passes), []).append(job)
    graphs: list[GraphFile] = []
    failed: dict[tuple[str, Precision], str] = {}
    for (file, passes), jobs in winners.items():
        runtimes = tuple(job.runtime for job in jobs)
        try:
            if file.precision is Precision.INT8:
                made = jobs[0].graphs.file(passes)
                graphs += write_int8_graphs(file, plan, passes, runtimes, made, patches, staging)
            else:
                candidates = jobs[0].graphs
                graphs += write_float_graphs(exports, model, plan, candidates, passes, runtimes, patches, staging)
        except ExportError as error:
            failed |= {(runtime, file.precision): one_line(error.problem) for runtime in runtimes}
    kept = [_kept(measurement, exports.passes, failed) for _, measurement in measured]
    return PassOutcome(tuple(graphs), tuple(kept))


def _kept(measurement: PassMeasurement, shared: Passes, failed: dict[tuple[str, Precision], str]) -> PassMeasurement:
    """The measurement, or that of the shared graph where the chosen one failed its checks."""
    failure = failed.get((measurement.runtime, measurement.precision))
    if failure is None:
        return measurement
    remark = f"{', '.join(measurement.passes) or 'the plain graph'} was faster but failed its checks: {failure}"
    return replace(
        measurement, passes=shared, base=shared, time_ratio=1.0, interval=(1.0, 1.0), rounds=0, remark=remark
    )
