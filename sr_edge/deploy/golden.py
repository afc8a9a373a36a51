"""Golden frames: the outputs of the reference runtimes for a few tiles, which every other runtime must reproduce."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from sr_edge.bench.golden import frames_psnr_db
from sr_edge.bundle import GOLDEN_MIN_PSNR_DB, GoldenFrame, sha256_of
from sr_edge.calibration import calibration_patches
from sr_edge.calibration.data.patches import ignore_warning
from sr_edge.channels import picture_of
from sr_edge.controls import Controls, non_default_setting
from sr_edge.deploy.graphs import FLOAT_GRAPHS, INT8_GRAPHS
from sr_edge.deploy.plan import DeployPlan
from sr_edge.errors import SrEdgeError
from sr_edge.export.graph.file_network import FileNetwork
from sr_edge.frames import Uint8Frame, frame_from_batch
from sr_edge.image_files import write_picture
from sr_edge.models import LoadedModel
from sr_edge.models.reference import reference_frame
from sr_edge.nv12.colour import Nv12Colour
from sr_edge.nv12.frames import nv12_tile_from_rgb, rgb_from_nv12_tile
from sr_edge.runtimes import SessionRequest, open_request, supports
from sr_edge.spec import ActivationType, FrameFormat, ModelCard, Precision, StageProgress

GOLDEN_FRAMES = 3
GOLDEN_SEED = 1
"""Golden frames are cut from the images used for calibration, but at other positions."""


@dataclass(frozen=True)
class GoldenSet:
    """The golden frames that were written.

    Attributes:
        frames: The entries for the manifest.
        bf16_failure: Why there are none for bf16; empty if there are, or if bf16 was not requested.
    """

    frames: tuple[GoldenFrame, ...]
    bf16_failure: str = ""


def write_golden_frames(
    model: LoadedModel,
    plan: DeployPlan,
    precisions: Sequence[Precision],
    images: Path,
    staging: Path,
    progress: StageProgress,
) -> GoldenSet:
    """Writes golden outputs of the two references: PyTorch for float precisions, ONNX Runtime for INT8.

    bf16 has no file of its own but is computed from the fp32 file. Where the outputs of a network in bf16 are too far
    from fp32, it gets no golden frames for bf16, since no runtime could reproduce them.

    Args:
        model: The network.
        plan: The deployment.
        precisions: The precisions of the bundle.
        images: The folder or video from which the tiles are cut.
        staging: The folder in which the bundle is built, with its graphs.
        progress: Called with (stage, steps done, number of steps).
    """
    card = model.card
    (staging / "golden").mkdir()
    batches = calibration_patches(
        images, plan.tile, count=GOLDEN_FRAMES, seed=GOLDEN_SEED, channels=card.channels, warn=ignore_warning
    )
    inputs = _write_inputs([cast(Uint8Frame, frame_from_batch(batch)) for batch in batches], plan.nv12_colour, staging)
    settings = _golden_settings(card)
    runs = [(source.frame, setting) for setting in settings for source in inputs]
    sources = [(source, setting) for setting in settings for source in inputs]
    progress("golden frames", 0, 2)
    outputs = {Precision.FP32: [reference_frame(model, frame, setting) for frame, setting in runs]}
    progress("golden frames", 1, 2)
    if Precision.INT8 in precisions:
        outputs[Precision.INT8] = _int8_frames(card, plan, runs, staging)
    needs_bf16 = Precision.BF16 in precisions
    bf16_failure = _bf16_failure(model, plan, runs, outputs[Precision.FP32], staging) if needs_bf16 else ""
    progress("golden frames", 2, 2)
    written = {
        reference: [_write_png(staging, f"golden/{reference}{index}.png", frame) for index, frame in enumerate(results)]
        for reference, results in outputs.items()
    }
    entries = tuple(
        GoldenFrame(
            source.file,
            output,
            precision,
            GOLDEN_MIN_PSNR_DB[precision],
            sha256_of(staging / source.file),
            sha256_of(staging / output),
            setting,
            source.io,
        )
        for precision in precisions
        if not (precision is Precision.BF16 and bf16_failure)
        for (source, setting), output in zip(sources, written.get(precision, written[Precision.FP32]), strict=True)
    )
    return GoldenSet(entries, bf16_failure)


@dataclass(frozen=True)
class _Input:
    """An input that was written, and the RGB frame that the network gets from it."""

    file: str
    io: FrameFormat
    frame: Uint8Frame


def _write_inputs(frames: Sequence[Uint8Frame], nv12_colour: Nv12Colour | None, staging: Path) -> list[_Input]:
    """Writes the frames and, for a bundle with NV12 graphs, the same as packed NV12 tiles."""
    inputs = [
        _Input(_write_png(staging, f"golden/input{index}.png", frame), FrameFormat.UINT8_NHWC, frame)
        for index, frame in enumerate(frames)
    ]
    if nv12_colour is None:
        return inputs
    for index, frame in enumerate(frames):
        packed = nv12_tile_from_rgb(frame, nv12_colour)
        file = _write_png(staging, f"golden/nv12-{index}.png", packed)
        inputs.append(_Input(file, FrameFormat.NV12, rgb_from_nv12_tile(packed, nv12_colour)))
    return inputs


def _bf16_failure(
    model: LoadedModel,
    plan: DeployPlan,
    runs: Sequence[tuple[Uint8Frame, Controls]],
    reference: Sequence[Uint8Frame],
    staging: Path,
) -> str:
    """Why bf16 is unusable in a runtime that supports it on this machine; empty if it is usable."""
    min_db = GOLDEN_MIN_PSNR_DB[Precision.BF16]
    for runtime in plan.runtimes:
        if not supports(runtime, Precision.BF16) or (runtime == "torch" and isinstance(model.module, FileNetwork)):
            continue
        try:
            psnr_db = frames_psnr_db(_bf16_frames(runtime, model, plan, runs, staging), reference)
        except SrEdgeError:  # the benchmark reports runtimes that fail
            continue
        if psnr_db < min_db:
            return f"bf16 in {runtime} reaches {psnr_db:.1f} dB against fp32 on golden frames, {min_db:g} required"
    return ""


def _bf16_frames(
    runtime: str, model: LoadedModel, plan: DeployPlan, runs: Sequence[tuple[Uint8Frame, Controls]], staging: Path
) -> list[Uint8Frame]:
    if runtime == "torch":
        return [reference_frame(model, frame, setting, bfloat16=True) for frame, setting in runs]
    request = SessionRequest(
        artifact=staging / FLOAT_GRAPHS[0].file,
        card=model.card,
        tile=plan.tile,
        precision=Precision.BF16,
        threads=plan.threads,
    )
    return _frames_of(runtime, request, runs)


def _golden_settings(card: ModelCard) -> list[dict[str, float]]:
    """The control settings of golden frames: the defaults, and, if there are controls, one that sets all of them."""
    return [{}, non_default_setting(card.controls)] if card.controls else [{}]


def _int8_frames(
    card: ModelCard, plan: DeployPlan, runs: Sequence[tuple[Uint8Frame, Controls]], staging: Path
) -> list[Uint8Frame]:
    request = SessionRequest(
        artifact=staging / INT8_GRAPHS[0].file,
        card=card,
        tile=plan.tile,
        precision=Precision.INT8,
        activation_type=ActivationType.INT8,
        threads=plan.threads,
        allow_other_precision=True,
    )
    return _frames_of("onnxruntime", request, runs)


def _frames_of(runtime: str, request: SessionRequest, runs: Sequence[tuple[Uint8Frame, Controls]]) -> list[Uint8Frame]:
    with open_request(runtime, request) as session:
        return [cast(Uint8Frame, session.run(frame, setting)) for frame, setting in runs]


def _write_png(staging: Path, file: str, frame_hwc: Uint8Frame) -> str:
    write_picture(staging / file, picture_of(frame_hwc))
    return file
