"""Deploys a network in one call: from a loaded network and images to a bundle that is tested and timed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from sr_edge.bench.html_report import html_report
from sr_edge.bench.protocol import OpenOptions, no_progress
from sr_edge.bench.quality import PairFiles, files_without_image, pair_files
from sr_edge.bench.recommendation import Recommendation, recommend, recommended_engines
from sr_edge.bench.report import bench_bundle
from sr_edge.bench.rows import BenchReport
from sr_edge.bench.tile_times import with_tile_times
from sr_edge.bundle import Bundle, Manifest, staging_folder, write_bundle
from sr_edge.calibration import CalibrationReport, HeldOut, calibration_patches, held_out_patches
from sr_edge.calibration.data.patch_checks import require_usable
from sr_edge.calibration.data.patches import Warn, ignore_warning
from sr_edge.deploy.further_tiles import MainTile, require_further_tiles, write_further_tiles
from sr_edge.deploy.golden import GOLDEN_SEED, write_golden_frames
from sr_edge.deploy.graphs import FloatExports, export_float_graphs, export_int8_graphs, shared_graphs
from sr_edge.deploy.manifest import build_manifest, write_network_weights
from sr_edge.deploy.pass_choice import choose_passes
from sr_edge.deploy.plan import DeployPlan, require_fitting_nv12, require_fitting_tile
from sr_edge.deploy.reuse_table import with_reuse_table
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
from sr_edge.export.graph.patches import PICTURES
from sr_edge.files.whole_file import require_output
from sr_edge.frames import Batch, frame_from_batch
from sr_edge.models import LoadedModel
from sr_edge.models.tiles.tile_safety import SMALLEST_OVERLAP_PX, measured_size, overlap_note, with_tile_needs
from sr_edge.printable import html_list
from sr_edge.runtimes.variants import variants_of
from sr_edge.spec import ModelCard, Precision, StageProgress

_BUNDLED_IMAGES_NOTE = (
    "Calibrated on the two bundled images: pass --images with images like those that the device will process."
)

VISIBLE_TILES_DB = 45.0
"""PSNR between the tiled and the whole image below which seams or different levels become visible."""


@dataclass(frozen=True)
class DeployReport:
    """The bundle that was written, and its measurements.

    Attributes:
        path: The bundle.
        manifest: Its manifest.
        exports: The reports of the float graphs; their paths are those in the bundle.
        bench: Self-tests, times and quality of each variant.
        notes: The cost of INT8 and everything else to know about the bundle, such as precisions that it does not
            contain (`Manifest.left_out`).
        recommendations: What to run, one for each runtime.
    """

    path: Path
    manifest: Manifest
    exports: tuple[ExportReport, ...]
    bench: BenchReport
    notes: tuple[str, ...] = ()
    recommendations: tuple[Recommendation, ...] = ()

    @property
    def failed(self) -> tuple[str, ...]:
        """The variants that ran but did not reproduce the golden frames."""
        tests = [row.self_test for row in self.bench.rows if row.self_test is not None]
        return tuple(f"{test.variant.runtime} {test.variant.label}" for test in tests if not test.passed)

    def __repr__(self) -> str:
        best = next((advice.variant for advice in self.recommendations if advice.variant), None)
        advice = f"; recommended here: {best.runtime} {best.label}" if best else ""
        failed = f"; self-test failed in {', '.join(self.failed)}" if self.failed else ""
        return f"<DeployReport {self.path}: {self.manifest}{advice}{failed}>"

    def _repr_html_(self) -> str:
        advice = [f"{advice.runtime}: {advice.summary}" for advice in self.recommendations]
        failed = [f"The self-test failed in {', '.join(self.failed)}."] if self.failed else []
        return html_report(self.bench) + html_list(f"{self.path}: {self.manifest}", [*failed, *advice, *self.notes])

    def require_reproduced(self) -> None:
        """Checks that all variants that ran reproduced the golden frames.

        Raises:
            EngineError: A variant did not.
        """
        if self.failed:
            raise EngineError(
                f"the self-test failed in {', '.join(self.failed)}: the output differs from the golden frames stored "
                f"in {self.path}",
                found=self.failed,
                wanted="the golden frames",
                remedy="do not use the bundle with these runtimes (it was kept for inspection)",
            )


def deploy_network(
    model: LoadedModel, images: Path | None, out: Path, plan: DeployPlan, progress: StageProgress = no_progress
) -> DeployReport:
    """Exports and calibrates a network, writes the complete bundle, then tests and times it in every runtime.

    A precision in which the network cannot be deployed, such as INT8 where no layer stays within the budget, is left
    out and the reason is recorded; fp32 is always part of the bundle.

    Args:
        model: The network, from `load_model`.
        images: Low-resolution images or a video to calibrate with and to cut golden frames from; None uses the two
            bundled images, which a note says.
        out: The bundle to write: a folder, or a file ending in .zip; an existing bundle is replaced.
        plan: Tile, runtimes, precisions and settings.
        progress: Called with (stage, steps done, number of steps).

    Raises:
        SrEdgeError: A stage failed; `out` is unchanged unless the bundle was complete.
    """
    require_output(out)
    require_fitting_tile(plan.tile, model.card)
    require_further_tiles(model, plan)
    require_fitting_nv12(plan, model.card)
    pairs = pair_files(plan.hr, model.card.scale, plan.lr) if plan.hr else []
    calibration_images = images or PICTURES
    warnings: list[str] = []
    held_out = held_out_patches(calibration_images, plan.tile, channels=model.card.channels, warn=warnings.append)
    with staging_folder(out) as staging, _write_errors_as(out, staging):
        built = _build(model, calibration_images, held_out, staging, plan, warnings.append, progress)
        measured = _measured(built, held_out, pairs, out, staging, plan, progress)
    bundled_note = () if images is not None else (_BUNDLED_IMAGES_NOTE,)
    notes = tuple(dict.fromkeys((*built.notes, *warnings, *bundled_note)))
    exports = tuple(replace(report, path=Path(report.path.name)) for report in built.exports)  # the folder is gone
    return DeployReport(out, measured.manifest, exports, measured.bench, notes, measured.recommendations)


@dataclass(frozen=True)
class _BuiltBundle:
    """The manifest of a bundle whose files are in the staging folder, and the precisions that it contains."""

    manifest: Manifest
    exports: tuple[ExportReport, ...]
    precisions: Sequence[Precision]
    notes: tuple[str, ...]


def _build(
    model: LoadedModel,
    images: Path,
    held_out: Sequence[HeldOut],
    staging: Path,
    plan: DeployPlan,
    warn: Warn,
    progress: StageProgress,
) -> _BuiltBundle:
    patches = calibration_patches(images, plan.tile, channels=model.card.channels, warn=warn)
    require_usable(patches)
    model, tile_note = _measure_tile_needs(model, images, plan, progress)
    floats = export_float_graphs(model, plan, patches, staging, progress)
    left_out = {Precision.FP16: floats.fp16_failure} if floats.fp16_failure else {}
    int8 = _export_int8(plan, floats.half_precision_for_int8, patches, held_out, staging, progress)
    if isinstance(int8, SrEdgeError):
        left_out[Precision.INT8] = str(int8)
    precisions = [precision for precision in plan.precisions if precision not in left_out]
    shared = shared_graphs(floats, precisions, floats.half_precision_for_int8, plan.nv12_colour)
    chosen = choose_passes(model, plan, floats, shared, patches, staging, progress)
    graphs = (*shared, *chosen.graphs)
    if model.architecture:
        write_network_weights(model, staging)
    golden = write_golden_frames(model, plan, precisions, images, staging, progress)
    if golden.bf16_failure:
        left_out[Precision.BF16] = golden.bf16_failure
        precisions.remove(Precision.BF16)
    calibration_report = int8 if isinstance(int8, CalibrationReport) else None
    card, reuse_note = with_reuse_table(floats.reports[0].metadata.card, plan, images, staging, progress)
    calibration = calibration_report.calibration if calibration_report else None
    main = MainTile(floats, calibration, chosen.measurements, precisions)
    further = write_further_tiles(model, plan, main, images, staging, progress)
    manifest = build_manifest(
        card,
        model.architecture,
        plan,
        graphs,
        calibration,
        (*golden.frames, *further.golden),
        left_out,
        chosen.measurements,
        staging,
        further.artifacts,
    )
    notes = _notes(model, floats, (tile_note, reuse_note), calibration_report, left_out)
    notes = (*notes, *chosen.notes, *further.notes)
    return _BuiltBundle(manifest, floats.reports, precisions, notes)


@dataclass(frozen=True)
class _Measured:
    """The manifest of the bundle that was written, and what was measured on it before."""

    manifest: Manifest
    bench: BenchReport
    recommendations: tuple[Recommendation, ...]


def _measured(
    built: _BuiltBundle,
    held_out: Sequence[HeldOut],
    pairs: Sequence[PairFiles],
    out: Path,
    staging: Path,
    plan: DeployPlan,
    progress: StageProgress,
) -> _Measured:
    """Writes the bundle, measures it in its staging folder, and writes it again with what the measurement recommends.

    A measurement that fails, is interrupted or killed therefore leaves a complete bundle without recommendations.
    """
    write_bundle(out, built.manifest, staging, keep_files=True)
    bundle = Bundle(out, staging, built.manifest)
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
    advice = recommend(bench, plan.max_drop_db, out, plan.threads)
    engines = recommended_engines(bench, advice, plan.max_drop_db, "deploy", plan.threads)
    engines = with_tile_times(bundle, engines, plan.rounds, progress)
    if plan.hr:
        bench = replace(bench, not_images=files_without_image(plan.hr, plan.lr))
    manifest = replace(built.manifest, recommendations=engines)
    write_bundle(out, manifest, staging)
    return _Measured(manifest, replace(bench, recommended=engines), advice)


def _notes(
    model: LoadedModel,
    floats: FloatExports,
    measured: tuple[str, ...],
    calibration_report: CalibrationReport | None,
    left_out: Mapping[Precision, str],
) -> tuple[str, ...]:
    """The notes on a bundle, without repetitions."""
    first = floats.reports[0]
    notes = [*model.remarks, first.form_reason, *measured]
    notes += [remark for report in floats.reports for remark in report.remarks]
    notes += [calibration_report.sentence, *calibration_report.warnings] if calibration_report else []
    notes += [f"{precision} is left out: {reason}" for precision, reason in left_out.items()]
    return tuple(dict.fromkeys(filter(None, notes)))


def _export_int8(
    plan: DeployPlan,
    half_precision: bool,
    patches: Sequence[Batch],
    held_out: Sequence[HeldOut],
    staging: Path,
    progress: StageProgress,
) -> CalibrationReport | SrEdgeError | None:
    """The calibration report of the INT8 graphs, the error that prevented them, or None if INT8 was not requested.

    The error is raised where the user named layers to include or exclude.
    """
    if Precision.INT8 not in plan.precisions:
        return None
    try:
        return export_int8_graphs(plan, half_precision, patches, held_out, staging, progress)
    except (NotDeployable, CalibrationInterrupted):
        raise
    except (CalibrationError, ExportError, EngineError) as error:
        if plan.include or plan.exclude or isinstance(error.__cause__, OSError):
            raise
        return error


def _measure_tile_needs(
    model: LoadedModel, images: Path, plan: DeployPlan, progress: StageProgress
) -> tuple[LoadedModel, str]:
    """Measures the effect of tiles for the model card; a note says if it is visible or could not be measured."""
    if not plan.with_tile_needs:
        return model, ""
    progress("measuring the effect of tiles", 0, 1)
    card = model.card
    size = measured_size(plan.tile, SMALLEST_OVERLAP_PX, card.multiple_px)
    (piece,) = calibration_patches(images, size, count=1, seed=GOLDEN_SEED, channels=card.channels, warn=ignore_warning)
    try:
        measured = with_tile_needs(model, plan.tile, frame_from_batch(piece))
        note = _tiling_note(measured.card)
    except WeightsError as error:
        measured, note = model, f"the effect of tiles on images could not be measured: {error}"
    progress("measuring the effect of tiles", 1, 1)
    return measured, note


def _tiling_note(card: ModelCard) -> str:
    """A note where tiles change the result visibly, or are too small for the overlap; empty otherwise."""
    needs = card.tile_needs
    if needs is None or needs.own_db >= VISIBLE_TILES_DB:
        return overlap_note(needs)
    return (
        f"tiles change the result: {needs.own_db:.1f} dB between {needs.tile} tiles and the whole image of "
        f"{needs.measured_on}, and less on larger images if the network uses global statistics; choose a larger tile"
    )


@contextmanager
def _write_errors_as(out: Path, staging: Path) -> Iterator[None]:
    """Reports a failed write in the temporary staging folder as a failure to write `out`."""
    try:
        yield
    except (OSError, SrEdgeError) as error:
        cause = error if isinstance(error, OSError) else error.__cause__
        is_ours = str(staging) in str(error) or getattr(error, "filename", "") is None  # write() names no file
        if not isinstance(cause, OSError) or not is_ours:
            raise
        raise BundleError(
            f"cannot write {out}: {cause.strerror or cause}",
            found=out,
            remedy="free some space or choose another output",
        ) from error
