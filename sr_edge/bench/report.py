"""Benchmarks a bundle: every variant is opened once, tested against the golden frames, timed and scored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

from sr_edge.bench.census_rows import require_census, with_censuses
from sr_edge.bench.environment import caveats, describe_environment
from sr_edge.bench.golden import SelfTest, fidelity_db, replay_golden
from sr_edge.bench.on_device import with_device_figures
from sr_edge.bench.protocol import OpenOptions, OpenVariant, no_progress, open_variants, with_latency, with_peak_memory
from sr_edge.bench.quality import HrScores, PairFiles, bicubic, score_upscalers
from sr_edge.bench.rows import BenchReport, Quality, Row
from sr_edge.bundle import Bundle
from sr_edge.calibration.selection.quality import best_known_db, cost_of_pictures_db
from sr_edge.controls import Controls, control_values
from sr_edge.errors import EngineError, FrameError, UsageError
from sr_edge.frames import Batch
from sr_edge.runtimes import Machine
from sr_edge.runtimes.session import Session
from sr_edge.runtimes.variants import Variant
from sr_edge.spec import FrameFormat, Precision, StageProgress
from sr_edge.upscaler import Upscaler


def bench_bundle(
    bundle: Bundle,
    variants: Sequence[Variant],
    options: OpenOptions,
    rounds: int = 20,
    warm_up: int = 3,
    with_memory: bool = True,
    pairs: Sequence[PairFiles] = (),
    progress: StageProgress = no_progress,
    patches: Sequence[Batch] = (),
    with_census: bool = False,
) -> BenchReport:
    """Measures self-test, fidelity, quality, latency (interleaved) and memory (fresh processes) of every variant.

    A GPU session is timed once more on its own, by the GPU's clock.

    Args:
        bundle: an opened bundle.
        variants: what to run; a variant that cannot run here becomes a row with the reason.
        options: device, threads and frame format of all variants.
        rounds: timed runs of each variant, A B A B; with 0, neither latency nor memory is measured.
        warm_up: untimed runs of each before them.
        with_memory: whether to measure peak memory, which opens each engine once more.
        pairs: test images with originals; without any, quality is not measured.
        progress: called with (stage, steps done, steps in all).
        with_census: whether to time the layers of every variant, which opens each engine once more.
        patches: tiles in [0, 1] for measuring the noise of every variant against fp32; without any, it is not measured.

    Raises:
        UsageError: the network has no such control, or does not accept its value; or a census without rounds was
            asked for, or quality with NV12 graphs.
        RuntimeUnavailable: a census was asked for, but none of the runtimes reports the time of each layer.
        BundleError: the bundle is damaged.
    """
    if with_census:
        require_census([variant.runtime for variant in variants], rounds)
    environment = describe_environment()
    card, tile = bundle.manifest.card, bundle.manifest.tile
    control_values(card.controls, options.controls)
    if pairs and options.io is FrameFormat.NV12:
        raise UsageError(
            "quality is measured on RGB pictures, which NV12 graphs do not take",
            found=str(options.io),
            wanted=(str(FrameFormat.FLOAT_NCHW), str(FrameFormat.UINT8_NHWC)),
            remedy="measure it with another frame format",
        )
    with open_variants(bundle, variants, options, progress) as opened:
        rows = [_tested(bundle, entry, environment.machine) for entry in opened]
        if options.io is not FrameFormat.NV12:  # the patches are RGB
            rows = _with_costs(rows, opened, patches, card.scale, options.controls)
        rows, baseline = _scored(rows, opened, pairs, card.scale, options.controls, progress)
        if rounds:
            rows = with_latency(rows, opened, rounds, warm_up, options.controls, progress)
            rows = with_device_figures(rows, opened, rounds, warm_up, progress)
        if rounds and with_memory:
            rows = with_peak_memory(rows, opened, progress)
        if with_census:
            rows = with_censuses(rows, opened, rounds, options.controls, progress)
    return BenchReport(card, tile, environment, rounds, warm_up, tuple(rows), baseline)


def _tested(bundle: Bundle, entry: OpenVariant | Row, machine: Machine) -> Row:
    """The row of an open variant, with the self-test and the fidelity to the float reference."""
    if isinstance(entry, Row):
        return entry
    spec = entry.session.spec
    row = Row(entry.variant, spec, entry.start_up, remarks=(*entry.remarks, *caveats(spec, machine)))
    row = replace(row, self_test=replay_golden(bundle, entry.variant, entry.session))
    try:
        return replace(row, quality=Quality(*fidelity_db(bundle, entry.session)))
    except (EngineError, FrameError) as error:
        return replace(row, remarks=(*row.remarks, str(error)))


def _with_costs(
    rows: Sequence[Row], opened: Sequence[OpenVariant | Row], patches: Sequence[Batch], scale: int, controls: Controls
) -> list[Row]:
    """The rows with `Quality.cost_db`: what a variant's noise beside the first fp32 variant costs, in decibels.

    It is measured on float outputs, before any rounding to 8 bits: rounding turns a hundredth of a level here and there
    into a whole one, which would count ten times as much. `sr_edge.calibration.selection.quality` defines how noise
    becomes decibels. Without patches, or where no variant runs in fp32, the rows are returned as they are.
    """
    sessions = {entry.variant: entry.session for entry in opened if isinstance(entry, OpenVariant)}
    scored = [row.variant for row in rows if row.quality]
    fp32 = next(
        (variant for variant in scored if variant.precision is sessions[variant].spec.ran is Precision.FP32), None
    )
    if not patches or fp32 is None:
        return list(rows)
    references = _outputs(sessions[fp32], patches, controls)

    def with_cost(row: Row) -> Row:
        if row.quality is None:
            return row
        try:
            outputs = _outputs(sessions[row.variant], patches, controls)
        except EngineError as error:
            return replace(row, remarks=(*row.remarks, str(error)))
        cost_db = cost_of_pictures_db(outputs, references, best_known_db(scale))
        return replace(row, quality=replace(row.quality, cost_db=cost_db))

    return [with_cost(row) for row in rows]


def _outputs(session: Session, patches: Sequence[Batch], controls: Controls) -> list[Batch]:
    return [cast(Batch, session.run(patch, controls)) for patch in patches]


def _scored(
    rows: Sequence[Row],
    opened: Sequence[OpenVariant | Row],
    pairs: Sequence[PairFiles],
    scale: int,
    controls: Controls,
    progress: StageProgress,
) -> tuple[list[Row], HrScores | None]:
    """Adds the scores on the test images to the rows, and returns those of bicubic interpolation too."""
    if not pairs:
        return list(rows), None
    tested = {row.variant for row in rows if row.quality}
    running = [
        Upscaler(entry.session, controls=controls).upscale
        for entry in opened
        if isinstance(entry, OpenVariant) and entry.variant in tested
    ]
    baseline, *scores = score_upscalers(
        [bicubic(scale), *running], pairs, scale, lambda done, total: progress("evaluating", done, total)
    )
    remaining = iter(scores)
    scored = [replace(row, quality=replace(row.quality, hr=next(remaining))) if row.quality else row for row in rows]
    return scored, baseline


def self_test_bundle(
    bundle: Bundle, variants: Sequence[Variant], options: OpenOptions, progress: StageProgress = no_progress
) -> list[SelfTest]:
    """Replays the golden frames in every variant; a variant that cannot run here has the reason instead of results.

    Args:
        bundle: the open bundle.
        variants: what to open.
        options: how all of them are opened.
        progress: called with (stage, steps done, number of steps).
    """
    tests = []
    for index, variant in enumerate(variants):
        progress("self-test", index, len(variants))
        with open_variants(bundle, [variant], options) as (entry,):
            if isinstance(entry, Row):
                tests.append(SelfTest(variant, reason=entry.reason))
            else:
                tests.append(replay_golden(bundle, variant, entry.session))
    progress("self-test", len(variants), len(variants))
    return tests
