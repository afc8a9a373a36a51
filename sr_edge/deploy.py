"""The main job in one call: from a loaded network and pictures to a bundle that has been proven."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import cast

from sr_edge.bench.environment import tool_versions
from sr_edge.bench.protocol import OpenOptions, Progress, no_progress
from sr_edge.bench.quality import pair_files
from sr_edge.bench.report import bench_bundle
from sr_edge.bench.rows import BenchReport
from sr_edge.bench.variants import variants_of
from sr_edge.bundle import (
    Artifact,
    ArtifactKind,
    CalibrationRecord,
    GoldenFrame,
    Manifest,
    open_bundle,
    sha256_of,
    staging_folder,
    write_bundle,
)
from sr_edge.bundle.weights import write_weights
from sr_edge.calibration import (
    PICTURES,
    Account,
    Budget,
    Calibration,
    Order,
    calibrate_within,
    calibration_patches,
    held_out_patches,
    quantize_onnx,
    write_cache,
)
from sr_edge.calibration.search import SEARCH
from sr_edge.calibration.tuning import TIMED_RUNTIMES
from sr_edge.calibration.watched import Batch
from sr_edge.controls import Controls, telling_setting
from sr_edge.errors import BundleError, NothingToQuantize, SrEdgeError, TileError, UsageError
from sr_edge.export import ExportReport, derive_onnx, export_onnx
from sr_edge.export.onnx_file import take_uint8_frames
from sr_edge.frames import Picture, frame_from_batch
from sr_edge.image_files import write_picture
from sr_edge.models import LoadedModel
from sr_edge.models.loading import innermost
from sr_edge.models.tile_safety import measured_size, with_tile_needs
from sr_edge.runtimes import SessionRequest, open_request
from sr_edge.runtimes.session import Frame
from sr_edge.spec import FrameFormat, ModelCard, Precision, Spelling, TileSpec
from sr_edge.whole_file import require_output

PARITY_PATCHES = 2
GOLDEN_FRAMES = 3
GOLDEN_SEED = 1
_NOT_YOUR_PICTURES = "Calibrated on two pictures that come along: give pictures like those that the device will see."
"""Golden frames are cut at other places than calibration patches, from the same pictures."""

GOLDEN_MIN_PSNR_DB: Mapping[Precision, float] = {
    Precision.FP32: 60.0,
    Precision.FP16: 45.0,
    Precision.BF16: 35.0,
    Precision.INT8: 35.0,
}
"""What tells a sound kernel from a wrong one: rounding stays well above these, wrong arithmetic below 30 dB."""

WEIGHTS_FILE = "weights.safetensors"
CACHE_FILE = "calibration.json"


@dataclass(frozen=True)
class DeployPlan:
    """What to build and how to prove it.

    Every precision is built and, in every runtime, measured. `hr` is a folder of originals to measure quality
    on, `lr` their low-resolution halves (None makes them). `with_tile_needs` measures what tiles of this size do
    to pictures (`sr_edge.models.tile_safety`), which the card then tells. INT8 may cost `max_drop_db`, judged on
    held-out patches of the calibration pictures, never on `hr`, which stays an independent test. Layers are timed where
    the bundle is for one runtime that tells its layers' times; no one runtime's times hold for several.
    """

    tile: TileSpec
    runtimes: Sequence[str]
    precisions: Sequence[Precision]
    method: str = SEARCH
    include: Sequence[str] = ()
    exclude: Sequence[str] = ()
    max_drop_db: float = 0.05
    threads: int | None = None
    rounds: int = 20
    with_memory: bool = True
    hr: Path | None = None
    lr: Path | None = None
    with_tile_needs: bool = True

    def __post_init__(self) -> None:
        if Precision.FP32 not in self.precisions:
            raise UsageError("a bundle always holds fp32, which the others are made from; add fp32 to the precisions")


@dataclass(frozen=True)
class DeployReport:
    """The bundle that was written and what was measured on it; `note` says what INT8 cost, or why it is not in it."""

    path: Path
    manifest: Manifest
    exports: tuple[ExportReport, ...]
    bench: BenchReport
    note: str = ""

    @property
    def failed(self) -> tuple[str, ...]:
        """Variants that ran and did not reproduce the golden frames."""
        tests = [row.self_test for row in self.bench.rows if row.self_test is not None]
        return tuple(f"{test.variant.runtime} {test.variant.label}" for test in tests if not test.passed)


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
    _require_fitting_tile(plan.tile, model.card)
    pairs = pair_files(plan.hr, model.card.scale, plan.lr) if plan.hr else []
    own, images = images is not None, images or PICTURES
    note = ""
    with staging_folder(out) as staging, _errors_named_after(out, staging):
        patches = calibration_patches(images, plan.tile)
        if plan.with_tile_needs:
            model = _with_tile_needs(model, images, plan.tile, progress)
        exports = _export_all(model, plan, patches, staging, progress)
        try:
            quantized = None
            if Precision.INT8 in plan.precisions:
                account = _quantize_all(plan, patches, images, staging, progress)
                quantized, note = account.calibration, " ".join((account.sentence, *account.warnings))
        except NothingToQuantize as error:
            if plan.include or plan.exclude:
                raise
            plan, quantized, note = _without_int8(plan), None, f"float only: {error}"
        _write_weights(model, staging)
        card = exports[0].metadata.card
        golden = _write_golden(card, plan, images, staging, progress)
        manifest = _manifest(card, plan, quantized, golden, staging)
        write_bundle(out, manifest, staging)
    with open_bundle(out) as bundle:
        variants = variants_of(bundle, plan.runtimes, plan.precisions)
        options = OpenOptions(threads=plan.threads, trusted_architecture=manifest.architecture)
        bench = bench_bundle(
            bundle, variants, options, plan.rounds, with_memory=plan.with_memory, pairs=pairs, progress=progress
        )
    if not own:
        note = f"{note} {_NOT_YOUR_PICTURES}".strip()
    return DeployReport(out, manifest, exports, bench, note)


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


def _require_fitting_tile(tile: TileSpec, card: ModelCard) -> None:
    """Raises TileError unless the network takes the tile and neighbours can overlap as they should."""
    tile.require_multiple_of(card.multiple_px)
    if min(tile.height, tile.width) <= card.overlap_px:
        raise TileError(
            f"tile {tile} leaves nothing beside the {card.overlap_px} pixels by which tiles of {card.name} overlap; "
            f"both sides must be above {card.overlap_px}, better {4 * card.overlap_px}"
        )


@dataclass(frozen=True)
class _Graph:
    """One ONNX file to make, whatever makes it."""

    file: str
    precision: Precision
    io: FrameFormat = FrameFormat.FLOAT_NCHW
    rest: Precision = Precision.FP32
    spelling: Spelling | None = None


_FLOAT_GRAPHS = (
    _Graph("model.onnx", Precision.FP32),
    _Graph("model.uint8.onnx", Precision.FP32, FrameFormat.UINT8_NHWC),
    _Graph("model.fp16.onnx", Precision.FP16, rest=Precision.FP16),
    _Graph("model.fp16.uint8.onnx", Precision.FP16, FrameFormat.UINT8_NHWC, rest=Precision.FP16),
)
_INT8_GRAPHS = (
    _Graph("model.int8.onnx", Precision.INT8, spelling=Spelling.S8),
    _Graph("model.int8-u8.onnx", Precision.INT8, spelling=Spelling.U8),
    _Graph("model.int8-fp16.onnx", Precision.INT8, rest=Precision.FP16, spelling=Spelling.S8),
    _Graph("model.int8-u8.uint8.onnx", Precision.INT8, FrameFormat.UINT8_NHWC, spelling=Spelling.U8),
    _Graph("model.int8.uint8.onnx", Precision.INT8, FrameFormat.UINT8_NHWC, spelling=Spelling.S8),
    _Graph(
        "model.int8-fp16.uint8.onnx",
        Precision.INT8,
        FrameFormat.UINT8_NHWC,
        rest=Precision.FP16,
        spelling=Spelling.S8,
    ),
)


def _graphs(plan: DeployPlan) -> tuple[_Graph, ...]:
    return tuple(graph for graph in (*_FLOAT_GRAPHS, *_INT8_GRAPHS) if graph.precision in plan.precisions)


def _export_all(
    model: LoadedModel, plan: DeployPlan, patches: Sequence[Batch], staging: Path, progress: Progress
) -> tuple[ExportReport, ...]:
    """The float graphs: the first is traced and compared with PyTorch, the others are derived from it."""
    first, *others = [graph for graph in _FLOAT_GRAPHS if graph.precision in plan.precisions]
    pictures = patches[:PARITY_PATCHES]
    progress("exporting", 0, 1 + len(others))
    reports = [export_onnx(model, plan.tile, staging / first.file, patches=pictures)]
    for index, graph in enumerate(others, start=1):
        progress("exporting", index, 1 + len(others))
        file = staging / graph.file
        reports.append(derive_onnx(reports[0], file, io=graph.io, precision=graph.precision, patches=pictures))
    progress("exporting", 1 + len(others), 1 + len(others))
    return tuple(reports)


def _quantize_all(
    plan: DeployPlan, patches: Sequence[Batch], images: Path, staging: Path, progress: Progress
) -> Account:
    source = staging / _FLOAT_GRAPHS[0].file
    timed = plan.runtimes[0] if len(plan.runtimes) == 1 and plan.runtimes[0] in TIMED_RUNTIMES else ""
    order = Order(
        Budget(plan.max_drop_db), plan.method, tuple(plan.include), tuple(plan.exclude), timed, threads=plan.threads
    )
    held_out = held_out_patches(images, plan.tile)
    account = calibrate_within(source, patches, held_out, order, progress=progress)
    write_cache(staging / CACHE_FILE, account.calibration)
    for index, graph in enumerate(_INT8_GRAPHS):
        progress("quantizing", index, len(_INT8_GRAPHS))
        file = staging / graph.file
        quantize_onnx(source, account.calibration, file, graph.spelling or Spelling.S8, graph.rest)
        if graph.io is FrameFormat.UINT8_NHWC:
            take_uint8_frames(file)
    progress("quantizing", len(_INT8_GRAPHS), len(_INT8_GRAPHS))
    return account


def _write_weights(model: LoadedModel, staging: Path) -> None:
    state = innermost(model.module).state_dict()
    write_weights(staging / WEIGHTS_FILE, {name: value.cpu().numpy() for name, value in state.items()})


def _write_golden(
    card: ModelCard, plan: DeployPlan, images: Path, staging: Path, progress: Progress
) -> tuple[GoldenFrame, ...]:
    """Golden outputs by the two references: eager torch for floats, ONNX Runtime for INT8."""
    (staging / "golden").mkdir()
    batches = calibration_patches(images, plan.tile, count=GOLDEN_FRAMES, seed=GOLDEN_SEED)
    frames = [cast(Frame, frame_from_batch(batch)) for batch in batches]
    files = [_write_png(staging, f"golden/input{index}.png", frame) for index, frame in enumerate(frames)]
    settings = _golden_settings(card)
    runs = [(frame, setting) for setting in settings for frame in frames]
    sources = [(file, setting) for setting in settings for file in files]
    progress("golden frames", 0, 2)
    outputs = {Precision.FP32: _run_reference("torch", WEIGHTS_FILE, Precision.FP32, card, plan, runs, staging)}
    progress("golden frames", 1, 2)
    if Precision.INT8 in plan.precisions:
        file = _INT8_GRAPHS[0].file
        outputs[Precision.INT8] = _run_reference("onnxruntime", file, Precision.INT8, card, plan, runs, staging)
    progress("golden frames", 2, 2)
    written = {
        reference: [_write_png(staging, f"golden/{reference}{index}.png", frame) for index, frame in enumerate(found)]
        for reference, found in outputs.items()
    }
    return tuple(
        GoldenFrame(
            source,
            output,
            precision,
            GOLDEN_MIN_PSNR_DB[precision],
            sha256_of(staging / source),
            sha256_of(staging / output),
            setting,
        )
        for precision in plan.precisions
        for (source, setting), output in zip(sources, written.get(precision, written[Precision.FP32]), strict=True)
    )


def _golden_settings(card: ModelCard) -> list[dict[str, float]]:
    """The default setting, and of a network with controls one that tells each of them."""
    return [{}, telling_setting(card.controls)] if card.controls else [{}]


def _run_reference(
    runtime: str,
    file: str,
    precision: Precision,
    card: ModelCard,
    plan: DeployPlan,
    runs: Sequence[tuple[Frame, Controls]],
    staging: Path,
) -> list[Frame]:
    request = SessionRequest(
        artifact=staging / file,
        card=card,
        tile=plan.tile,
        precision=precision,
        spelling=Spelling.S8 if precision is Precision.INT8 else None,
        threads=plan.threads,
        allow_other_precision=True,
        architecture=card.name,
        options={"architecture": card.name} if runtime == "torch" else None,
    )
    with open_request(runtime, request) as session:
        return [cast(Frame, session.run(frame, setting)) for frame, setting in runs]


def _write_png(staging: Path, file: str, frame_hwc: Frame) -> str:
    write_picture(staging / file, Picture(frame_hwc))
    return file


def _manifest(
    card: ModelCard,
    plan: DeployPlan,
    calibration: Calibration | None,
    golden: tuple[GoldenFrame, ...],
    staging: Path,
) -> Manifest:
    shape = (1, 3, plan.tile.height, plan.tile.width)
    graphs = [
        Artifact(
            graph.file,
            ArtifactKind.ONNX,
            graph.precision,
            graph.rest,
            graph.spelling,
            graph.io,
            shape,
            sha256_of(staging / graph.file),
        )
        for graph in _graphs(plan)
    ]
    weights = Artifact(
        WEIGHTS_FILE,
        ArtifactKind.WEIGHTS,
        Precision.FP32,
        Precision.FP32,
        None,
        FrameFormat.FLOAT_NCHW,
        shape,
        sha256_of(staging / WEIGHTS_FILE),
    )
    return Manifest(
        card=card,
        tile=plan.tile,
        artifacts=(*graphs, weights),
        golden=golden,
        architecture=card.name,
        calibration=_calibration_record(calibration, staging) if calibration else None,
        tools=tool_versions(),
        licences={"weights": card.licence or "not stated by their maker"},
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
    )


def _calibration_record(calibration: Calibration, staging: Path) -> CalibrationRecord:
    made_from = calibration.provenance
    return CalibrationRecord(
        method=made_from.method,
        patches=len(made_from.patches_sha256),
        patches_sha256=hashlib.sha256("".join(made_from.patches_sha256).encode()).hexdigest(),
        float_layers={decision.node: decision.reason for decision in calibration.decisions if not decision.int8},
        cache=CACHE_FILE,
        cache_sha256=sha256_of(staging / CACHE_FILE),
    )
