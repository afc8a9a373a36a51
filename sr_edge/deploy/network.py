"""The main job in one call: from a loaded network and pictures to a bundle that has been proven."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sr_edge.bench.protocol import OpenOptions, StageProgress, no_progress
from sr_edge.bench.quality import pair_files
from sr_edge.bench.report import bench_bundle
from sr_edge.bench.rows import BenchReport
from sr_edge.bundle import Manifest, open_bundle, staging_folder, write_bundle
from sr_edge.calibration import CalibrationReport, HeldOut, calibration_patches, held_out_patches
from sr_edge.calibration.patch import Batch
from sr_edge.calibration.variety import require_usable
from sr_edge.deploy.golden import GOLDEN_SEED, write_golden
from sr_edge.deploy.graphs import FloatExports, export_all, graph_files, quantize_all
from sr_edge.deploy.manifest import manifest_of, write_network_weights
from sr_edge.deploy.plan import DeployPlan, require_fitting_tile
from sr_edge.deploy.recommendation import Recommendation, recommend
from sr_edge.errors import (
    BundleError,
    CalibrationError,
    CalibrationInterrupted,
    EngineError,
    ExportError,
    NotDeployable,
    SrEdgeError,
    WeightsError,
)
from sr_edge.export import ExportReport
from sr_edge.export.patches import PICTURES
from sr_edge.frames import frame_from_batch
from sr_edge.models import LoadedModel
from sr_edge.models.tile_safety import measured_size, with_tile_needs
from sr_edge.runtimes.variants import variants_of
from sr_edge.spec import ModelCard, Precision
from sr_edge.whole_file import require_output

_NOT_YOUR_PICTURES = "Calibrated on two pictures that come along: give pictures like those that the device will see."


VISIBLE_TILES_DB = 45.0
"""PSNR between tiled and whole below which seams or levels are seen."""


@dataclass(frozen=True)
class DeployReport:
    """The bundle that was written and what was measured on it.

    `notes` say what INT8 cost and what else must be known of the bundle, such as precisions that were left out of it
    (`Manifest.left_out`); `recommendations` what to run, one for each runtime.
    """

    path: Path
    manifest: Manifest
    exports: tuple[ExportReport, ...]
    bench: BenchReport
    notes: tuple[str, ...] = ()
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
                f"{', '.join(self.failed)} did not reproduce the golden frames of {self.path}",
                found=self.failed,
                wanted="the golden frames",
                remedy="do not deploy the bundle for them; it is kept for inspection",
            )


def deploy_network(
    model: LoadedModel, images: Path | None, out: Path, plan: DeployPlan, progress: StageProgress = no_progress
) -> DeployReport:
    """Exports, calibrates, writes the bundle in one move, then opens it in every runtime, tests and times it.

    Args:
        model: the network, from `load_model`.
        images: low-resolution pictures or a video to calibrate with and to cut golden frames from; None takes the two
            that come along, and the note says so.
        out: the bundle to write: a folder, or a file ending in .zip; an older bundle there is replaced.
        plan: tile, runtimes, precisions and settings.
        progress: called with (stage, steps done, steps in all).

    A precision that the network cannot be deployed in, such as INT8 where no layer keeps the budget, is left out with
    its reason; fp32 is always there.

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
    notes = built.notes if images is not None else (*built.notes, _NOT_YOUR_PICTURES)
    advice = recommend(bench, plan.max_drop_db, out, plan.threads)
    return DeployReport(out, built.manifest, built.exports, bench, notes, advice)


@dataclass(frozen=True)
class _Built:
    """A bundle that was written, in the precisions that it could be made in."""

    manifest: Manifest
    exports: tuple[ExportReport, ...]
    precisions: Sequence[Precision]
    notes: tuple[str, ...]


def _build(
    model: LoadedModel, images: Path, held_out: Sequence[HeldOut], out: Path, plan: DeployPlan, progress: StageProgress
) -> _Built:
    with staging_folder(out) as staging, _errors_named_after(out, staging):
        patches = calibration_patches(images, plan.tile)
        require_usable(patches)
        model, tile_note = _with_tile_needs(model, images, plan, progress)
        floats = export_all(model, plan, patches, staging, progress)
        left_out = {Precision.FP16: floats.no_half_precision} if floats.no_half_precision else {}
        int8 = _quantized(plan, not left_out, patches, held_out, staging, progress)
        if isinstance(int8, SrEdgeError):
            left_out[Precision.INT8] = str(int8)
        precisions = [precision for precision in plan.precisions if precision not in left_out]
        graphs = graph_files(precisions, half_precision=Precision.FP16 not in left_out)
        if model.architecture:
            write_network_weights(model, staging)
        golden = write_golden(model, plan, precisions, images, staging, progress)
        if golden.no_bf16:
            left_out[Precision.BF16] = golden.no_bf16
            precisions.remove(Precision.BF16)
        calibration_report = int8 if isinstance(int8, CalibrationReport) else None
        card, calibration = (
            floats.reports[0].metadata.card,
            calibration_report.calibration if calibration_report else None,
        )
        manifest = manifest_of(card, model.architecture, plan, graphs, calibration, golden.frames, left_out, staging)
        write_bundle(out, manifest, staging)
    notes = _notes(model, floats, tile_note, calibration_report, left_out)
    return _Built(manifest, floats.reports, precisions, notes)


def _notes(
    model: LoadedModel,
    floats: FloatExports,
    tile_note: str,
    calibration_report: CalibrationReport | None,
    left_out: Mapping[Precision, str],
) -> tuple[str, ...]:
    """What must be known of a bundle, each sentence once."""
    first = floats.reports[0]
    notes = [*model.remarks, first.form_reason, tile_note]
    notes += [remark for report in floats.reports for remark in report.remarks]
    notes += [calibration_report.sentence, *calibration_report.warnings] if calibration_report else []
    notes += [f"{precision} is left out: {reason}" for precision, reason in left_out.items()]
    return tuple(dict.fromkeys(filter(None, notes)))


def _quantized(
    plan: DeployPlan,
    half_precision: bool,
    patches: Sequence[Batch],
    held_out: Sequence[HeldOut],
    staging: Path,
    progress: StageProgress,
) -> CalibrationReport | SrEdgeError | None:
    """What INT8 became, why it could not be made, or None where it was not asked for.

    Layers that the user named must become INT8, or the whole fails.
    """
    if Precision.INT8 not in plan.precisions:
        return None
    try:
        return quantize_all(plan, half_precision, patches, held_out, staging, progress)
    except (NotDeployable, CalibrationInterrupted):
        raise
    except (CalibrationError, ExportError, EngineError) as error:
        if plan.include or plan.exclude or isinstance(error.__cause__, OSError):
            raise
        return error


def _with_tile_needs(
    model: LoadedModel, images: Path, plan: DeployPlan, progress: StageProgress
) -> tuple[LoadedModel, str]:
    """What tiles do to a piece of one of the pictures, in the card; or a note that says why that is not known."""
    if not plan.with_tile_needs:
        return model, ""
    progress("measuring what tiles do", 0, 1)
    size = measured_size(plan.tile, model.card.overlap_px, model.card.multiple_px)
    (piece,) = calibration_patches(images, size, count=1, seed=GOLDEN_SEED)
    try:
        measured = with_tile_needs(model, plan.tile, frame_from_batch(piece))
        note = _tiling_note(measured.card)
    except WeightsError as error:
        measured, note = model, f"what tiles do to pictures is not known: {error}"
    progress("measuring what tiles do", 1, 1)
    return measured, note


def _tiling_note(card: ModelCard) -> str:
    """That tiles change what the network makes of a picture, where they do."""
    needs = card.tile_needs
    if needs is None or needs.own_db >= VISIBLE_TILES_DB:
        return ""
    return (
        f"tiles change the picture: {needs.own_db:.1f} dB between {needs.tile} tiles and the whole of "
        f"{needs.measured_on}, and less on larger pictures if the network looks at all of a picture; choose a larger "
        "tile"
    )


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
            f"cannot write {out}: {cause.strerror or cause}",
            found=out,
            remedy="free some space or choose another output",
        ) from error
