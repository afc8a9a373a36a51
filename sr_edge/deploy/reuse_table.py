"""Measures what it costs to reuse the result of a tile that has changed a little: the table for `--reuse DB`.

The pictures that calibration uses are taken as originals. Each is downscaled to a tile, which gets noise and JPEG
compression, as the pictures of cameras have them. Then it is changed by a shift, by other noise, by other compression,
by what H.264 makes of a still scene with noise, and by a change of the level, each of them scaled to given sizes of the
change, and both tiles run in the network. H.264 needs PyAV, which is optional; the table says whether it was there.
Larger pictures show what it costs to place tiles (`placement_table`).
"""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt

from sr_edge.calibration import calibration_patches
from sr_edge.calibration.data.patches import ignore_warning
from sr_edge.deploy.graphs import FLOAT_GRAPHS
from sr_edge.deploy.placement_table import PlacementFigures
from sr_edge.deploy.plan import TIMED_RUNTIMES, DeployPlan
from sr_edge.errors import EngineError
from sr_edge.frames import Frame, frame_from_batch
from sr_edge.metrics import psnr_y_db
from sr_edge.resize import downscale_bicubic
from sr_edge.reuse_table import BLOCK_PX, ReuseLoss, ReuseTable
from sr_edge.runtimes import SessionRequest, open_request
from sr_edge.spec import ModelCard, Precision, StageProgress, TileSpec
from sr_edge.training.degradations.filters import compress_jpeg
from sr_edge.upscaler.tile_change import block_change

STAGE = "measuring the reuse of changed tiles"
CHANGES = (0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
PATCHES = 4
BUDGET_S = 30.0
"""After this time no further picture is measured."""

_SEED = 3
_NOISE_LEVELS, _JPEG_QUALITY, _OTHER_QUALITY = 1.5, 80, 50
_H264_CRF, _H264_FRAMES = 23, 6
_SHIFTS = ((0, 1), (1, 0), (1, 1))
_FACTORS, _STEPS = (2.0**-8, 2.0**6), 12

Levels = npt.NDArray[np.float64]
"""Samples in 8-bit levels, not rounded: (height, width, channels)."""

Run = Callable[[Frame], Frame]


@dataclass(frozen=True)
class _Pair:
    """A tile whose result was kept, the current tile at its place, and the kind and size of the change."""

    kind: str
    change: float
    kept: Frame
    now: Frame


def with_reuse_table(
    card: ModelCard, plan: DeployPlan, images: Path, staging: Path, progress: StageProgress
) -> tuple[ModelCard, str]:
    """The card with the table if it is wanted, and a note if it could not be measured.

    A network with random weights gets no table, since the loss of its output has no meaning.
    """
    if not plan.with_reuse_table or card.random_weights:
        return card, ""
    try:
        return replace(card, reuse_table=measure_reuse_table(card, plan, images, staging, progress)), ""
    except EngineError as error:
        return card, f"what it costs to reuse the results of changed tiles could not be measured: {error}"


def measure_reuse_table(
    card: ModelCard,
    plan: DeployPlan,
    images: Path,
    staging: Path,
    progress: StageProgress,
    clock: Callable[[], float] = time.monotonic,
) -> ReuseTable:
    """Runs the fp32 graph of a bundle on pairs of tiles.

    Args:
        card: The model card.
        plan: The deployment.
        images: The folder or video whose pictures are taken as originals.
        staging: The folder in which the bundle is built, with its graphs.
        progress: Called with (stage, steps done, number of steps).
        clock: Seconds, for the limit of time.

    Raises:
        EngineError: The runtime failed.
    """
    tile, scale = plan.tile, card.scale
    figures, placement = _Figures(scale), PlacementFigures(card, tile)
    frames = _originals(images, placement.frame_size, card)
    pairs = zip(_originals(images, tile, card, for_shift=1), frames, strict=True)
    request = SessionRequest(
        artifact=staging / FLOAT_GRAPHS[0].file, card=card, tile=tile, precision=Precision.FP32, threads=plan.threads
    )
    runtime = next((name for name in TIMED_RUNTIMES if name in plan.runtimes), "onnxruntime")
    started_s = clock()
    with open_request(runtime, request) as session:

        def run(frame: Frame) -> Frame:
            return cast(Frame, session.run(frame))

        for index, (original, larger) in enumerate(pairs):
            if index and clock() - started_s > BUDGET_S:
                break
            progress(STAGE, index, PATCHES)
            generator = np.random.default_rng([_SEED, index])
            figures.add(original, run, generator)
            placement.add(larger, _as_sent(larger, scale, generator), run, generator)
    progress(STAGE, PATCHES, PATCHES)
    compression = "JPEG and H.264" if _has_h264() else "JPEG"
    return replace(figures.table(), compression=compression, placement=placement.table())


class _Figures:
    """The figures of all pairs so far."""

    def __init__(self, scale: int) -> None:
        self._scale = scale
        self._losses_db: defaultdict[tuple[str, float], list[float]] = defaultdict(list)
        self._local_errors: defaultdict[float, list[float]] = defaultdict(list)
        self._psnr_db: list[float] = []

    def add(self, original: Frame, run: Run, generator: np.random.Generator) -> None:
        """Runs all pairs of an original, which is one sample larger than the output at the bottom and at the right."""
        target = np.ascontiguousarray(original[:-1, :-1])
        base, pairs = _pairs(original, self._scale, generator)
        unchanged = run(base)
        self._psnr_db.append(self._psnr(unchanged, target))
        for pair in pairs:
            kept, now = run(pair.kept), unchanged if np.array_equal(pair.now, base) else run(pair.now)
            loss_db = self._psnr(now, target) - self._psnr(kept, target)
            # Noise and compression of the kept tile are as likely to be the lesser ones.
            both = (loss_db, -loss_db) if pair.kind in ("noise", "compression", "h264") else (loss_db,)
            self._losses_db[pair.kind, pair.change] += both
            if pair.kind != "level":
                self._local_errors[pair.change].append(block_change(kept, now, BLOCK_PX * self._scale))

    def table(self) -> ReuseTable:
        return ReuseTable(tuple(map(self._row, CHANGES)), float(np.mean(self._psnr_db)), len(self._psnr_db))

    def _row(self, change: float) -> ReuseLoss:
        by_kind = {kind: losses for (kind, each), losses in self._losses_db.items() if each == change}
        level = by_kind.pop("level")
        return ReuseLoss(
            change,
            mean_db=max([0.0, *(float(np.mean(losses)) for losses in by_kind.values())]),
            worst_db=max([0.0, *(max(losses) for losses in by_kind.values())]),
            level_db=max(0.0, float(np.mean(level))),
            local_error=max(self._local_errors[change], default=0.0),
        )

    def _psnr(self, frame: Frame, target: Frame) -> float:
        return psnr_y_db(frame[..., :3], target[..., :3], 0)


def _originals(images: Path, size: TileSpec, card: ModelCard, for_shift: int = 0) -> list[Frame]:
    """Pictures of this size in low resolution, taken as originals in high resolution, with some samples more."""
    larger = TileSpec(card.scale * size.height + for_shift, card.scale * size.width + for_shift)
    batches = calibration_patches(
        images, larger, count=PATCHES, seed=_SEED, channels=card.channels, warn=ignore_warning
    )
    return [frame_from_batch(batch) for batch in batches]


def _as_sent(original: Frame, scale: int, generator: np.random.Generator) -> Frame:
    """A picture in low resolution, as a camera sends it."""
    clean = downscale_bicubic(original, scale).astype(np.float64)
    return _rounded(_compressed(clean + _NOISE_LEVELS * generator.standard_normal(clean.shape), _JPEG_QUALITY))


def _pairs(original: Frame, scale: int, generator: np.random.Generator) -> tuple[Frame, Iterator[_Pair]]:
    """The tile of an original as a camera sends it, and all pairs; in most of them this tile is the current one.

    A change of the level is dithered, so that rounding does not change it.
    """

    def low_resolution(top: int, left: int) -> Levels:
        height, width = original.shape[0] - 1, original.shape[1] - 1
        return downscale_bicubic(original[top : top + height, left : left + width], scale).astype(np.float64)

    clean = low_resolution(0, 0)
    noise, other_noise = (generator.standard_normal(clean.shape) for _ in range(2))
    sent = _compressed(clean + _NOISE_LEVELS * noise, _JPEG_QUALITY)
    shift = low_resolution(*_SHIFTS[generator.integers(len(_SHIFTS))]) - clean
    compression = _compressed(clean + _NOISE_LEVELS * noise, _OTHER_QUALITY) - sent
    residual = _h264_residual(clean, generator.spawn(1)[0])  # leaves the generator as it is without H.264
    sign, dither = generator.choice((-1.0, 1.0)), generator.uniform(-0.5, 0.5, clean.shape)
    base = _rounded(sent)

    still = np.zeros_like(sent)

    def pairs() -> Iterator[_Pair]:
        for change in CHANGES:
            for kind, direction, other in (
                ("shift", shift, still),
                ("compression", compression, still),
                ("h264", residual, still),
                ("noise", noise, other_noise),
            ):
                tiles = None if direction is None else _changed(sent, direction, other, change)
                if tiles is not None:
                    yield _Pair(kind, change, *tiles)
            yield _Pair("level", change, _rounded(sent + sign * change + dither), base)

    return base, pairs()


def _changed(sent: Levels, direction: Levels, other: Levels, change: float) -> tuple[Frame, Frame] | None:
    """The tile with two directions added, by the least factor with which their block change is `change` or more.

    None if no factor reaches it, as for a shift of a picture of one colour.
    """
    low, high = _FACTORS
    for _ in range(_STEPS):
        middle = math.sqrt(low * high)
        if block_change(_rounded(sent + middle * direction), _rounded(sent + middle * other)) < change:
            low = middle
        else:
            high = middle
    tiles = _rounded(sent + high * direction), _rounded(sent + high * other)
    return tiles if block_change(*tiles) >= change else None


def _compressed(levels: Levels, quality: int) -> Levels:
    """A picture after JPEG compression; alpha is unchanged."""
    colours = (levels[..., :3] / 255).astype(np.float32)
    colours = np.repeat(colours, 3, axis=2) if colours.shape[2] == 1 else colours
    compressed = compress_jpeg(colours, quality)[..., : levels.shape[2]].astype(np.float64) * 255
    return np.concatenate([compressed, levels[..., 3:]], axis=2)


def _has_h264() -> bool:
    """Whether PyAV is installed and has an encoder for H.264."""
    try:
        import av
    except ImportError:
        return False
    return "libx264" in av.codecs_available


def _h264_residual(clean: Levels, generator: np.random.Generator) -> Levels | None:
    """How a still scene with noise differs between two frames, as H.264 sends it; None without H.264.

    Alpha does not change. Sizes that 4:2:0 cannot have are padded.
    """
    if not _has_h264():
        return None
    height, width, channels = clean.shape
    colours = clean[..., :3] if channels >= 3 else np.repeat(clean, 3, axis=2)
    colours = np.pad(colours, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    noisy = (colours + _NOISE_LEVELS * generator.standard_normal(colours.shape) for _ in range(_H264_FRAMES))
    decoded = _through_h264([_rounded(frame) for frame in noisy])
    residual = np.zeros_like(clean)
    change = decoded[-1].astype(np.float64) - decoded[1]
    residual[..., :3] = change[:height, :width, : min(channels, 3)]
    return residual


def _through_h264(frames: Sequence[Frame]) -> list[Frame]:
    """Frames of a video, uint8 (height, width, 3), both even, after encoding and decoding."""
    import av

    encoder = av.CodecContext.create("libx264", "w")
    encoder.height, encoder.width = frames[0].shape[:2]
    encoder.pix_fmt, encoder.time_base, encoder.thread_count = "yuv420p", Fraction(1, 25), 1
    encoder.options = {"crf": str(_H264_CRF), "preset": "veryfast", "tune": "zerolatency"}
    packets = []
    for number, frame in enumerate(frames):
        picture = av.VideoFrame.from_ndarray(frame, "rgb24")
        picture.pts, picture.time_base = number, encoder.time_base
        packets += encoder.encode(picture)
    decoder = av.CodecContext.create("h264", "r")
    decoder.thread_count = 1
    decoded = [each for packet in (*packets, *encoder.encode(None), None) for each in decoder.decode(packet)]
    return [cast(Frame, each.to_ndarray(format="rgb24")) for each in decoded]


def _rounded(levels: Levels) -> Frame:
    rounded: Frame = np.clip(np.rint(levels), 0, 255).astype(np.uint8)
    return rounded
