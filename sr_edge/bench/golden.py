"""Replays a bundle's golden frames, to test that a runtime on this machine computes the stored outputs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np

from sr_edge.bundle import Bundle, GoldenFrame
from sr_edge.channels import frame_of
from sr_edge.controls import Controls
from sr_edge.errors import BundleError, EngineError, FrameError
from sr_edge.frames import Batch, Uint8Frame, batch_from_frame
from sr_edge.image_files import read_picture
from sr_edge.runtimes import Session
from sr_edge.runtimes.variants import Variant
from sr_edge.spec import FrameFormat, Precision, count_of_channels

MAX_UINT8 = 255.0


@dataclass(frozen=True)
class GoldenPair:
    """A golden input and its output for one precision and one setting of the controls, both uint8 HWC.

    The input is RGB, or a packed NV12 tile with one channel.
    """

    name: str
    precision: Precision
    input_hwc: Uint8Frame
    output_hwc: Uint8Frame
    min_psnr_db: float
    controls: Controls


@dataclass(frozen=True)
class GoldenResult:
    """The result of replaying one golden frame: 8-bit PSNR against the stored output, and the required PSNR.

    Attributes:
        name: File of the golden frame.
        psnr_db: PSNR against the stored output.
        min_psnr_db: The PSNR that is required.
    """

    name: str
    psnr_db: float
    min_psnr_db: float

    @property
    def passed(self) -> bool:
        """Whether the PSNR is high enough."""
        return self.psnr_db >= self.min_psnr_db


@dataclass(frozen=True)
class SelfTest:
    """The results of one variant, which ran in the precision `ran`; `reason` explains why there are none.

    Attributes:
        variant: The runtime and the requested precision.
        ran: The precision that ran; None if nothing did.
        results: One result for each golden frame.
        reason: Why there are none.
    """

    variant: Variant
    ran: Precision | None = None
    results: tuple[GoldenResult, ...] = ()
    reason: str = ""

    @property
    def passed(self) -> bool:
        """Whether all golden frames were replayed and passed."""
        return bool(self.results) and all(result.passed for result in self.results)


def read_golden(bundle: Bundle, precision: Precision, io: FrameFormat = FrameFormat.UINT8_NHWC) -> list[GoldenPair]:
    """Reads the golden frames of one precision and checks their digests; raises BundleError if they are damaged.

    Args:
        bundle: The open bundle.
        precision: The precision.
        io: Frame format of the graph that replays them: NV12 graphs have golden frames of their own.
    """
    pairs = []
    for frame in bundle.manifest.golden:
        if frame.precision is precision and (frame.io is FrameFormat.NV12) == (io is FrameFormat.NV12):
            channels = bundle.manifest.card.channels
            source_channels = 1 if frame.io is FrameFormat.NV12 else channels
            source_path, output_path = bundle.golden_files(frame)
            source = _read_frame(source_path, bundle, source_channels)
            output = _read_frame(output_path, bundle, channels)
            pairs.append(GoldenPair(_name(frame), precision, source, output, frame.min_psnr_db, frame.controls))
    return pairs


def golden_patches(bundle: Bundle) -> list[Batch]:
    """The golden input tiles as float batches, on which the loss of each variant is measured without other images."""
    frames = {pair.name.split(" at ")[0]: pair.input_hwc for pair in read_golden(bundle, Precision.FP32)}
    return [batch_from_frame(frame) for frame in frames.values()]


def _read_frame(path: Path, bundle: Bundle, channels: int) -> Uint8Frame:
    frame = frame_of(read_picture(path))
    if frame.shape[2] != channels or frame.dtype != np.uint8:
        raise BundleError(
            f"the golden frame {path.name} has {count_of_channels(frame.shape[2])} of {8 * frame.itemsize} bits, but "
            f"the network of {bundle.path} takes {count_of_channels(channels)} of 8 bits",
            found=(frame.shape[2], str(frame.dtype)),
            wanted=(channels, "uint8"),
            remedy="deploy again",
        )
    return cast(Uint8Frame, frame)


def _name(frame: GoldenFrame) -> str:
    setting = ", ".join(f"{name}={value:g}" for name, value in frame.controls.items())
    return f"{frame.input} at {setting}" if setting else frame.input


def replay_golden(bundle: Bundle, variant: Variant, session: Session) -> SelfTest:
    """Runs every golden frame of the variant's precision in an open session."""
    pairs = read_golden(bundle, variant.precision, session.spec.io)
    if not pairs:
        missing = f"the bundle has no golden frames for {variant.precision}; deploy again"
        reason = bundle.manifest.left_out.get(str(variant.precision), missing)
        return SelfTest(variant, session.spec.ran, reason=reason)
    try:
        outputs = _replayed(pairs, session)
    except (EngineError, FrameError) as error:
        return SelfTest(variant, session.spec.ran, reason=str(error))
    return SelfTest(
        variant,
        session.spec.ran,
        tuple(
            GoldenResult(pair.name, frames_psnr_db([output], [pair.output_hwc]), pair.min_psnr_db)
            for pair, output in zip(pairs, outputs, strict=True)
        ),
    )


def _replayed(pairs: Sequence[GoldenPair], session: Session) -> list[Uint8Frame]:
    return [cast(Uint8Frame, session.run(pair.input_hwc, pair.controls)) for pair in pairs]


def fidelity_db(bundle: Bundle, session: Session) -> tuple[float | None, int]:
    """8-bit PSNR of a session against the float reference on the fp32 golden frames, and the number of frames."""
    pairs = read_golden(bundle, Precision.FP32, session.spec.io)
    if not pairs:
        return None, 0
    outputs = _replayed(pairs, session)
    return frames_psnr_db(outputs, [pair.output_hwc for pair in pairs]), len(pairs)


def frames_psnr_db(candidates: Sequence[Uint8Frame], references: Sequence[Uint8Frame]) -> float:
    """PSNR over all samples of the uint8 frames taken together; infinite if they are equal.

    Raises:
        BundleError: the shapes differ.
    """
    squares, samples = 0.0, 0
    for candidate, reference in zip(candidates, references, strict=True):
        if candidate.shape != reference.shape:
            raise BundleError(
                f"a golden output has the shape {reference.shape}, but the network returns {candidate.shape}",
                found=candidate.shape,
                wanted=reference.shape,
                remedy="deploy again",
            )
        squares += float(np.square(candidate.astype(np.float64) - reference).sum())
        samples += candidate.size
    return 10.0 * math.log10(MAX_UINT8**2 * samples / squares) if squares else math.inf
