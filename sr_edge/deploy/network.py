"""The main job in one call: from a loaded network and pictures to a bundle that has been proven."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from sr_edge.bench.protocol import OpenOptions, Progress, no_progress
from sr_edge.bench.quality import pair_files
from sr_edge.bench.report import bench_bundle
from sr_edge.bench.rows import BenchReport
from sr_edge.bundle import Manifest, open_bundle, staging_folder, write_bundle
from sr_edge.calibration import PICTURES, HeldOut, calibration_patches, held_out_patches
from sr_edge.deploy.golden import GOLDEN_SEED, write_golden
from sr_edge.deploy.graphs import CACHE_FILE, export_all, quantize_all
from sr_edge.deploy.manifest import manifest_of, write_network_weights
from sr_edge.deploy.plan import DeployPlan, require_fitting_tile
from sr_edge.deploy.recommendation import Recommendation, recommend
from sr_edge.errors import BundleError, EngineError, NothingToQuantize, SrEdgeError
from sr_edge.export import ExportReport
from sr_edge.frames import frame_from_batch
from sr_edge.models import LoadedModel
from sr_edge.models.tile_safety import measured_size, with_tile_needs
from sr_edge.runtimes.variants import variants_of
from sr_edge.spec import Precision, TileSpec
from sr_edge.whole_file import require_output

_NOT_YOUR_PICTURES = "Calibrated on two pictures that come along: give pictures like those that the device will see."


@dataclass(frozen=True)
class DeployReport:
    """The bundle that was written and what was measured on it.

    `note` says what INT8 cost, or why it is not in it; `recommendations` what to run, one for each runtime.
    """

    path: Path
    manifest: Manifest
    exports: tuple[ExportReport, ...]
    bench: BenchReport
    note: str = ""
    recommendations: tuple[Recommendation, ...] = ()

    @property
    def failed(self) -> tuple[str, ...]:
        """Variants that ran and did not reproduce the golden frames."""
        tests = [row.self_test for row in self.bench.rows if row.self_test is not None]
        return tuple(f"{test.variant.runtime} {test.variant.label}" for test in tests if not test.passed)

    def require_reproduced(self) -> None:
        """Raises EngineError where a variant that ran did not reproduce the golden frames."""
        if self.failed:
            raise EngineError(
                f"{', '.join(self.failed)} did not reproduce the golden frames; {self.path} is kept for inspection, "
                "do not use it there"
            )


def deploy_network(
    model: LoadedModel, images: Path | None, out: Path, plan: DeployPlan, progress: Progress = no_progress
) -> DeployReport:
    """Exports, calibrates, writes the bundle in one move, then opens it in every runtime, tests and times it.

    Args:
        model: the network, from `load_model`.
        images: low-resolution pictures or a video to calibrate with and to cut golden frames from; None takes the two
            that come along, and the note says so.
        out: the bundle to write: a folder, or a file ending in .zip; an older bundle there is replaced.
        plan: tile, runtimes, precisions and settings.
        progress: called with (stage, steps done, steps in all).

    A network in which nothing can be INT8 is deployed in float only, and the report's note says so.

    Raises:
        SrEdgeError: whatever the stages raise; nothing is left behind unless the bundle was complete.
    """
    require_output(out)
    require_fitting_tile(plan.tile, model.card)
    pairs = pair_files(plan.hr, model.card.scale, plan.lr) if plan.hr else []
    pictures = images or PICTURES
    held_out = held_out_patches(pictures, plan.tile)
    built = _build(model, pictures, held_out, out, plan, progress)
    with open_bundle(out) as bundle:
        bench = bench_bundle(
            bundle,
            variants_of(bundle, plan.runtimes, built.precisions),
            OpenOptions(threads=plan.threads, trusted_architecture=built.manifest.architecture),
            plan.rounds,
            with_memory=plan.with_memory,
            pairs=pairs,
            progress=progress,
            patches=[held.patch for held in held_out],
        )
    note = built.note if images is not None else f"{built.note} {_NOT_YOUR_PICTURES}".strip()
    advice = recommend(bench, plan.max_drop_db, out, plan.threads)
    return DeployReport(out, built.manifest, built.exports, bench, note, advice)


@dataclass(frozen=True)
class _Built:
    """A bundle that was written, in the precisions that it could be made in."""

    manifest: Manifest
    exports: tuple[ExportReport, ...]
    precisions: Sequence[Precision]
    note: str


def _build(
    model: LoadedModel, images: Path, held_out: Sequence[HeldOut], out: Path, plan: DeployPlan, progress: Progress
) -> _Built:
    note, quantized = "", None
    with staging_folder(out) as staging, _errors_named_after(out, staging):
        patches = calibration_patches(images, plan.tile)
        if plan.with_tile_needs:
            model = _with_tile_needs(model, images, plan.tile, progress)
        exports = export_all(model, plan, patches, staging, progress)
        try:
            if Precision.INT8 in plan.precisions:
                account = quantize_all(plan, patches, held_out, staging, progress)
                quantized, note = account.calibration, " ".join((account.sentence, *account.warnings))
        except NothingToQuantize as error:
            if plan.include or plan.exclude:
                raise
            (staging / CACHE_FILE).unlink(missing_ok=True)
            plan, note = _without_int8(plan), f"float only: {error}"
        write_network_weights(model, staging)
        card = exports[0].metadata.card
        golden = write_golden(card, plan, images, staging, progress)
        manifest = manifest_of(card, plan, quantized, golden, staging)
        write_bundle(out, manifest, staging)
    return _Built(manifest, exports, plan.precisions, note)


def _with_tile_needs(model: LoadedModel, images: Path, tile: TileSpec, progress: Progress) -> LoadedModel:
    """What tiles do to a piece of one of the pictures, in the card."""
    progress("measuring what tiles do", 0, 1)
    (piece,) = calibration_patches(images, measured_size(tile, model.card.overlap_px), count=1, seed=GOLDEN_SEED)
    measured = with_tile_needs(model, tile, frame_from_batch(piece))
    progress("measuring what tiles do", 1, 1)
    return measured


def _without_int8(plan: DeployPlan) -> DeployPlan:
    return replace(plan, precisions=[precision for precision in plan.precisions if precision is not Precision.INT8])


@contextmanager
def _errors_named_after(out: Path, staging: Path) -> Iterator[None]:
    """A failure to write below `staging`, whose name says nothing to anybody, becomes one to write `out`."""
    try:
        yield
    except (OSError, SrEdgeError) as error:
        cause = error if isinstance(error, OSError) else error.__cause__
        is_ours = str(staging) in str(error) or getattr(error, "filename", "") is None  # a write names no file
        if not isinstance(cause, OSError) or not is_ours:
            raise
        raise BundleError(
            f"cannot write {out}: {cause.strerror or cause}; free some space or choose another output"
        ) from error
