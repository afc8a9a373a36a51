"""The measurement protocol: all variants are open and run in turn (A B A B); memory is that of a fresh process."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import TypeGuard

from sr_edge.bench.rows import Row
from sr_edge.bundle import Bundle
from sr_edge.controls import Controls
from sr_edge.errors import BundleError, EngineError, PrecisionUnavailable, SrEdgeError
from sr_edge.runtimes import (
    Session,
    SessionRequest,
    StageLatency,
    StageTimes,
    StartUp,
    find_entry,
    load_runtime,
    measure_interleaved,
    measure_memory,
    open_request,
    random_tile,
    request_from_bundle,
)
from sr_edge.runtimes.variants import Variant
from sr_edge.spec import FrameFormat, Precision, StageProgress, TileSpec, take_names

MEMORY_RUNS = 3


def no_progress(stage: str, done: int, total: int) -> None:
    """Ignores the progress.

    Args:
        stage: Ignored.
        done: Ignored.
        total: Ignored.
    """


@dataclass(frozen=True)
class OpenOptions:
    """How all variants are opened.

    Attributes:
        device: device of the runtimes; None takes the default of each.
        io: frame format of the graph; None prefers float frames.
        threads: number of threads on the CPU; None leaves it to the runtime.
        trusted_architecture: a factory of the user, package.module:factory, that the torch runtime may call.
        controls: values for image quality and latency; golden frames have their own.
    """

    device: str | None = None
    io: FrameFormat | None = None
    threads: int | None = None
    trusted_architecture: str = ""
    controls: Controls = field(default_factory=dict)

    def __post_init__(self) -> None:
        take_names(self, io=FrameFormat)


@dataclass(frozen=True)
class OpenVariant:
    """A variant that runs, with its request and session; `open_variants` closes it.

    Where the runtime computes a file of the requested precision in another one, `remarks` says so, and
    `session.spec.ran` is that precision.
    """

    variant: Variant
    request: SessionRequest
    session: Session
    start_up: StartUp
    remarks: tuple[str, ...] = ()

    @property
    def is_timed(self) -> bool:
        """False for an fp16 file that the runtime computes in another precision: its time would not be that of fp16."""
        return self.variant.precision is not Precision.FP16 or self.session.spec.ran is Precision.FP16


@contextmanager
def open_variants(
    bundle: Bundle, variants: Sequence[Variant], options: OpenOptions, progress: StageProgress = no_progress
) -> Iterator[list[OpenVariant | Row]]:
    """Opens every variant and runs one tile on each; a variant that cannot run is a Row with the reason.

    Args:
        bundle: the open bundle.
        variants: what to open.
        options: how all of them are opened.
        progress: called with (stage, steps done, number of steps).

    Raises:
        BundleError: the bundle, or any file in it, is damaged.
    """
    prepared = [_prepared(bundle, variant, options) for variant in variants]
    total = sum(not isinstance(entry, Row) for entry in prepared)
    with ExitStack() as stack:
        opened: list[OpenVariant | Row] = []
        done = 0
        for variant, request in zip(variants, prepared, strict=True):
            if isinstance(request, Row):
                opened.append(request)
                continue
            progress("opening sessions", done, total)
            opened.append(_open_variant(bundle, variant, request, stack))
            done += 1
        if total:
            progress("opening sessions", total, total)
        yield opened


def _prepared(bundle: Bundle, variant: Variant, options: OpenOptions) -> SessionRequest | Row:
    """The request of a variant; a Row with the reason where it is known without opening it that it cannot run."""
    device = options.device or find_entry(variant.runtime).device
    try:
        request = request_from_bundle(
            bundle,
            variant.runtime,
            variant.precision,
            device,
            float_precision=variant.float_precision,
            io=options.io,
            threads=options.threads,
            options=_trust(variant.runtime, options.trusted_architecture),
        )
        obstacle = load_runtime(variant.runtime).obstacle(variant.precision, device)
    except BundleError:
        raise
    except SrEdgeError as error:
        return Row(variant, reason=str(error))
    if obstacle is not None and _file_precision(bundle, request) is not variant.precision:
        return Row(variant, reason=str(obstacle))
    return request


def _open_variant(bundle: Bundle, variant: Variant, request: SessionRequest, stack: ExitStack) -> OpenVariant | Row:
    try:
        return _started(variant, request, stack)
    except PrecisionUnavailable as error:
        if _file_precision(bundle, request) is not variant.precision:
            return Row(variant, reason=str(error))
        try:
            return _started(variant, replace(request, allow_other_precision=True), stack, remarks=(str(error),))
        except SrEdgeError as other:
            return Row(variant, reason=str(other))
    except BundleError:
        raise
    except SrEdgeError as error:
        return Row(variant, reason=str(error))


def _file_precision(bundle: Bundle, request: SessionRequest) -> Precision | None:
    """Precision of the artifact itself: an INT8 file is measured even where the runtime computes it in fp32."""
    files = {bundle.file(artifact): artifact.precision for artifact in bundle.manifest.artifacts}
    return files.get(request.artifact)


def _started(variant: Variant, request: SessionRequest, stack: ExitStack, remarks: tuple[str, ...] = ()) -> OpenVariant:
    started = time.perf_counter()
    session = stack.enter_context(open_request(variant.runtime, request))
    opened = time.perf_counter()
    session.run(random_tile(session.spec.tile, session.spec.io, session.spec.channels))
    finished = time.perf_counter()
    start_up = StartUp(1e3 * (opened - started), 1e3 * (finished - started))
    return OpenVariant(variant, request, session, start_up, remarks)


def open_further(bundle: Bundle, entry: OpenVariant, tile: TileSpec) -> Session:
    """Opens a variant that runs for another tile of its bundle; raises as `request_from_bundle` and `open_request` do.

    Args:
        bundle: the open bundle.
        entry: the open variant.
        tile: the other tile.
    """
    runtime, request = entry.variant.runtime, entry.request
    further = request_from_bundle(
        bundle,
        runtime,
        request.precision,
        request.device,
        float_precision=request.float_precision,
        io=request.io,
        threads=request.threads,
        allow_other_precision=request.allow_other_precision,
        options=request.options,
        tile=tile,
    )
    return open_request(runtime, further)


def _trust(runtime: str, architecture: str) -> dict[str, str] | None:
    """The option that lets the torch runtime build a network of the user's own code."""
    return {"architecture": architecture} if architecture and runtime == "torch" else None


def with_latency(
    rows: Sequence[Row],
    opened: Sequence[OpenVariant | Row],
    rounds: int,
    warm_up: int,
    controls: Controls,
    progress: StageProgress = no_progress,
) -> list[Row]:
    """Adds latencies to `rows`, one for each entry of `opened`; all timed variants are run in turn."""
    sessions = [entry.session for entry in opened if is_timed(entry)]

    def on_round(done: int, total: int) -> None:
        progress("timing rounds", done, total)

    times = iter(measure_interleaved(sessions, rounds, warm_up, controls, on_round) if sessions else ())
    if sessions:
        on_round(warm_up + rounds, warm_up + rounds)
    pairs = zip(rows, opened, strict=True)
    return [_row_with_latency(row, next(times)) if is_timed(entry) else _not_timed(row) for row, entry in pairs]


def _not_timed(row: Row) -> Row:
    if row.spec is None:
        return row
    remark = f"self-tested in {row.spec.ran}, in which {row.variant.runtime} computes this file here, and not timed"
    return replace(row, remarks=(*row.remarks, remark))


def is_timed(entry: OpenVariant | Row) -> TypeGuard[OpenVariant]:
    """Whether an entry runs here and is to be timed."""
    return isinstance(entry, OpenVariant) and entry.is_timed


def _row_with_latency(row: Row, times: Sequence[StageTimes]) -> Row:
    return replace(row, latency=StageLatency.of(times), rounds_ms=tuple(sample.total_ms for sample in times))


def with_peak_memory(
    rows: Sequence[Row], opened: Sequence[OpenVariant | Row], progress: StageProgress = no_progress
) -> list[Row]:
    """Adds peak memory to `rows`; each engine is opened once more, in a process of its own."""
    measured, done, total = [], 0, sum(map(is_timed, opened))
    for row, entry in zip(rows, opened, strict=True):
        if not is_timed(entry):
            measured.append(row)
            continue
        progress("memory", done, total)
        measured.append(_row_with_memory(row, entry))
        done += 1
    if total:
        progress("memory", total, total)
    return measured


def _row_with_memory(row: Row, entry: OpenVariant) -> Row:
    try:
        return replace(row, memory=measure_memory(entry.variant.runtime, entry.request, MEMORY_RUNS))
    except EngineError as error:
        return replace(row, remarks=(*row.remarks, str(error)))
