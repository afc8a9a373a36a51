"""The graphs of further tile sizes (`--frame`): exported again, with the weights and calibration of the main tile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import psutil  # type: ignore[import-untyped]

from sr_edge.bundle import Artifact, GoldenFrame, PassMeasurement, sha256_of
from sr_edge.calibration import Calibration, calibration_patches, held_out_patches
from sr_edge.calibration.data.patches import ignore_warning
from sr_edge.calibration.graph.im2col import quantizable_layers
from sr_edge.calibration.graph.load import load_graph
from sr_edge.calibration.selection.quality import best_known_db, cost_of_pictures_db
from sr_edge.controls import checked_pairs
from sr_edge.deploy.frame_tiles import FrameTile, TileMeter, choose_frame_tile, require_frames
from sr_edge.deploy.golden import write_golden_frames
from sr_edge.deploy.graphs import (
    FLOAT_GRAPHS,
    INT8_GRAPHS,
    PARITY_PATCHES,
    FloatExports,
    export_float_graphs,
    shared_graphs,
    write_int8_files,
)
from sr_edge.deploy.manifest import artifact_of
from sr_edge.deploy.pass_choice import repeat_passes
from sr_edge.deploy.plan import TIMED_RUNTIMES, DeployPlan
from sr_edge.errors import CalibrationError, NothingToQuantize, UsageError
from sr_edge.export.graph.file_network import FileNetwork
from sr_edge.export.graph.inputs import feed_of
from sr_edge.export.graph.metadata import Form
from sr_edge.export.graph.onnxruntime_run import open_onnxruntime, run_session
from sr_edge.files.unfinished import temporary_folder
from sr_edge.frames import Batch
from sr_edge.models import LoadedModel
from sr_edge.runtimes import preferred_runtime, supports
from sr_edge.spec import ModelCard, Precision, StageProgress, TileSpec

QUALITY_PATCHES = 4
"""Number of held-out patches on which the loss of INT8 is measured at each further tile."""

GOLDEN_FRAMES = 1


@dataclass(frozen=True)
class MainTile:
    """What the further tiles share with the main one.

    Attributes:
        floats: Its float graphs.
        calibration: Its calibration; None without INT8.
        passes: The passes that were chosen for its graphs by measurement.
        precisions: The precisions that its graphs have.
    """

    floats: FloatExports
    calibration: Calibration | None
    passes: Sequence[PassMeasurement]
    precisions: Sequence[Precision]


@dataclass(frozen=True)
class TileFiles:
    """The files of further tiles, those of each in a folder of the bundle that is named after it.

    Attributes:
        artifacts: Their entries for the manifest.
        golden: The golden frames of these sizes.
        notes: What was chosen, and what a tile does not have and why.
    """

    artifacts: tuple[Artifact, ...]
    golden: tuple[GoldenFrame, ...]
    notes: tuple[str, ...]


def require_further_tiles(model: LoadedModel, plan: DeployPlan) -> None:
    """Checks the sizes of frames before anything is exported.

    Raises:
        UsageError: A size is repeated, or the network is a file that fixes its input size.
        TileError: A size is too small for the network.
    """
    require_frames(plan.frame_sizes, model.card)
    fixed = model.module.file.fixed_tile if isinstance(model.module, FileNetwork) else None
    if plan.frame_sizes and fixed is not None:
        raise UsageError(
            f"{model.card.name} takes tiles of {fixed} only, so that it cannot have further ones for certain frames",
            found=fixed,
            wanted="a network that takes any size",
            remedy="leave --frame out, or export the network again with dynamic height and width",
        )


def choose_further_tiles(
    plan: DeployPlan,
    card: ModelCard,
    meter: TileMeter,
    progress: StageProgress,
    memory_limit_bytes: int | None = None,
) -> tuple[FrameTile, ...]:
    """The tile for each size of frames of the plan.

    Args:
        plan: The deployment.
        card: The model card.
        meter: Exports and measures tiles.
        progress: Called with (stage, steps done, number of steps).
        memory_limit_bytes: The memory that an engine may need; None allows half of what is available.

    Raises:
        TileError: No tile fits a frame, or the memory.
        SrEdgeError: The main tile cannot be run, or no tile that fits can be exported.
    """
    limit_bytes = memory_limit_bytes or int(psutil.virtual_memory().available) // 2
    return tuple(choose_frame_tile(frame, plan.tile, card, meter, limit_bytes, progress) for frame in plan.frame_sizes)


def _measured_runtime(plan: DeployPlan) -> str:
    """The first runtime of the plan that opens a graph within seconds, or else the preferred one."""
    quick = (name for name in plan.runtimes if name in TIMED_RUNTIMES and supports(name, Precision.FP32))
    return next(quick, None) or preferred_runtime("cpu")


def write_further_tiles(
    model: LoadedModel, plan: DeployPlan, main: MainTile, images: Path, staging: Path, progress: StageProgress
) -> TileFiles:
    """Exports the network for a tile that fits each size of frames of the plan, unless the main one does.

    The INT8 of the main tile is inserted into the new graphs, and all of them are verified.

    Args:
        model: The network.
        plan: The deployment.
        main: What is shared with the main tile.
        images: The images or video from which patches are cut.
        staging: The folder in which the bundle is built.
        progress: Called with (stage, steps done, number of steps).

    Returns:
        The files of all further tiles.

    Raises:
        TileError: No tile fits a frame.
        ExportError: The outputs of an fp32 graph differ from those of the network, or a target refuses a graph.
    """
    if not plan.frame_sizes:
        return TileFiles((), (), ())
    with temporary_folder("tiles") as folder:
        meter = plan.tile_meter(model, main.floats.reports[0], _measured_runtime(plan), folder)
        chosen = choose_further_tiles(plan, model.card, meter, progress)
    notes = [note for each in chosen for note in (*each.notes, _choice_note(each, plan.tile))]
    tiles = dict.fromkeys(each.tile for each in chosen if each.tile != plan.tile)
    if tiles and plan.nv12_colour is not None:
        notes.append(f"only the main tile {plan.tile} has NV12 graphs: NV12 frames are cut into it")
    files = [_written_tile(model, plan, tile, main, images, staging, progress) for tile in tiles]
    return TileFiles(
        tuple(artifact for each in files for artifact in each.artifacts),
        tuple(frame for each in files for frame in each.golden),
        (*notes, *(note for each in files for note in each.notes)),
    )


def _choice_note(chosen: FrameTile, main: TileSpec) -> str:
    if chosen.tile == main:
        return f"frames of {chosen.frame} fit the main tile {main}"
    return f"frames of {chosen.frame} are cut into {chosen.tiles} tile{'s' * (chosen.tiles > 1)} of {chosen.tile}"


def _written_tile(
    model: LoadedModel,
    plan: DeployPlan,
    tile: TileSpec,
    main: MainTile,
    images: Path,
    staging: Path,
    progress: StageProgress,
) -> TileFiles:
    folder = staging / str(tile)
    folder.mkdir()
    form = main.floats.plain.metadata.form
    plan = replace(plan, tile=tile, form=plan.form if form is Form.IMPORTED else form, nv12_colour=None)
    channels = model.card.channels
    patches = calibration_patches(images, tile, PARITY_PATCHES, channels=channels, warn=ignore_warning)
    floats = export_float_graphs(model, plan, patches, folder, progress)
    left_out = {Precision.FP16: floats.fp16_failure} if floats.fp16_failure else {}
    half_precision = main.floats.half_precision_for_int8 and floats.half_precision_for_int8
    if main.calibration is not None:
        held_out = [
            each.patch
            for each in held_out_patches(images, tile, QUALITY_PATCHES, channels=channels, warn=ignore_warning)
        ]
        card = floats.plain.metadata.card
        failure = _int8_failure(main.calibration, plan, half_precision, held_out, folder, card, progress)
        left_out |= {Precision.INT8: failure} if failure else {}
    precisions = [precision for precision in main.precisions if precision not in left_out]
    shared = shared_graphs(floats, precisions, half_precision)
    graphs = (*shared, *repeat_passes(main.passes, model, plan, floats, shared, patches, folder))
    golden = write_golden_frames(model, plan, precisions, images, folder, progress, GOLDEN_FRAMES)
    if golden.bf16_failure:  # bf16 runs the fp32 graph, which cannot be left out alone
        return TileFiles((), (), (f"tiles of {tile} are left out: {golden.bf16_failure}",))
    shape = (1, channels, tile.height, tile.width)
    return TileFiles(
        tuple(artifact_of(replace(graph, file=f"{tile}/{graph.file}"), shape, staging) for graph in graphs),
        tuple(replace(each, input=f"{tile}/{each.input}", output=f"{tile}/{each.output}") for each in golden.frames),
        tuple(f"tiles of {tile} are without {precision}: {reason}" for precision, reason in left_out.items()),
    )


def _int8_failure(
    calibration: Calibration,
    plan: DeployPlan,
    half_precision: bool,
    held_out: Sequence[Batch],
    folder: Path,
    card: ModelCard,
    progress: StageProgress,
) -> str:
    """Writes the INT8 graphs of a tile; returns why it has none, empty if they are within the budget."""
    source = folder / FLOAT_GRAPHS[0].file
    try:
        fitted = fitted_calibration(calibration, source)
        write_int8_files(fitted, plan, half_precision, folder, progress)
    except CalibrationError as error:
        return error.problem
    cost_db = _cost_db(folder / INT8_GRAPHS[0].file, source, held_out, card)
    if cost_db > plan.max_drop_db:
        return f"INT8 costs {cost_db:.3f} dB at this tile, {plan.max_drop_db:g} dB are allowed"
    return ""


def fitted_calibration(calibration: Calibration, source: Path) -> Calibration:
    """The calibration of the main tile for the fp32 graph of another tile, whose layers have the same names.

    A layer that the other graph does not have stays float there.

    Args:
        calibration: The calibration of the main tile.
        source: The fp32 graph of the other tile.

    Raises:
        NothingToQuantize: The graphs have no INT8 layer in common.
    """
    layers = quantizable_layers(load_graph(source))
    absent = [
        name
        for name in calibration.int8_nodes
        if name not in layers or layers[name].op.activation not in calibration.ranges
    ]
    provenance = replace(calibration.provenance, model_sha256=sha256_of(source))
    fitted = replace(calibration.keep_float(absent, "not part of the graph of this tile"), provenance=provenance)
    if not fitted.int8_nodes:
        raise NothingToQuantize(
            "no layer that is INT8 at the main tile is part of the graph of this tile",
            found=tuple(layers),
            wanted=calibration.int8_nodes,
            remedy="leave --frame out, or deploy with that tile as the main one",
        )
    return fitted


def _cost_db(int8: Path, fp32: Path, patches: Sequence[Batch], card: ModelCard) -> float:
    """The loss in dB of an INT8 graph against the fp32 graph in ONNX Runtime, with several settings of the controls."""
    outputs, references = (_outputs(file, patches, card) for file in (int8, fp32))
    return cost_of_pictures_db(outputs, references, best_known_db(card.scale))


def _outputs(file: Path, patches: Sequence[Batch], card: ModelCard) -> list[Batch]:
    session = open_onnxruntime(file)
    name, output = session.get_inputs()[0].name, session.get_outputs()[0].name
    runs = checked_pairs(patches, card.controls)
    return [cast(Batch, run_session(session, feed_of(name, patch, setting))[output]) for patch, setting in runs]
