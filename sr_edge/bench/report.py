"""A bundle examined: every variant opened once, tested against the golden frames, timed and compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sr_edge.bench.environment import describe_environment
from sr_edge.bench.golden import SelfTest, fidelity_db, replay_golden
from sr_edge.bench.protocol import OpenOptions, OpenVariant, Progress, measure, no_progress, open_variants
from sr_edge.bench.rows import BenchReport, Quality, Row
from sr_edge.bench.variants import Variant
from sr_edge.bundle import Bundle
from sr_edge.errors import EngineError


def bench_bundle(
    bundle: Bundle,
    variants: Sequence[Variant],
    options: OpenOptions,
    rounds: int = 20,
    warm_up: int = 3,
    with_memory: bool = True,
    progress: Progress = no_progress,
) -> BenchReport:
    """Self-test, latency (interleaved), memory (fresh processes) and fidelity of every variant.

    Args:
        bundle: an opened bundle.
        variants: what to run; one that cannot run here becomes a row that says why.
        options: device, threads and frame format of all variants.
        rounds: timed runs of each variant, A B A B.
        warm_up: runs of each before that.
        with_memory: measure peak memory, which opens each engine once more.
        progress: called with (stage, steps done, steps in all).

    Raises:
        BundleError: the bundle is damaged.
        UsageError: there are no rounds.
    """
    environment = describe_environment()
    with open_variants(bundle, variants, options, progress) as opened:
        tested = [_tested(bundle, entry) for entry in opened]
        measured = measure(opened, rounds, warm_up, with_memory, progress)
    rows = tuple(
        row
        if row.reason
        else replace(row, quality=check.quality, self_test=check.self_test, remarks=(*row.remarks, *check.remarks))
        for row, check in zip(measured, tested, strict=True)
    )
    return BenchReport(bundle.manifest.card, bundle.manifest.tile, environment, rounds, warm_up, rows)


def _tested(bundle: Bundle, entry: OpenVariant | Row) -> Row:
    """A row with the self-test and the fidelity only."""
    if isinstance(entry, Row):
        return entry
    self_test = replay_golden(bundle, entry.variant, entry.session)
    try:
        psnr_db, tiles = fidelity_db(bundle, entry.session)
    except EngineError as error:
        return Row(entry.variant, self_test=self_test, remarks=(str(error),))
    return Row(entry.variant, self_test=self_test, quality=Quality(psnr_db, tiles=tiles))


def self_test_bundle(
    bundle: Bundle, variants: Sequence[Variant], options: OpenOptions, progress: Progress = no_progress
) -> list[SelfTest]:
    """Replays the golden frames in every variant; one that cannot run here says why."""
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
