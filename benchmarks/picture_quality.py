"""What a change of a graph costs on whole test pictures, for the benchmarks of INT8; all in tiles of 96x96."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sr_edge.bench.quality import pair_files, read_pair
from sr_edge.frames import Frame
from sr_edge.metrics import luma, psnr_y_db
from sr_edge.models import LoadedModel
from sr_edge.resize import resize_bicubic
from sr_edge.runtimes import Session, SessionRequest, open_request
from sr_edge.spec import Precision, TileSpec
from sr_edge.upscaler import Upscaler

CALIBRATION = Path(__file__).resolve().parents[1] / "examples" / "pictures" / "calibration"
TILE = TileSpec(96, 96)


@dataclass(frozen=True)
class Quality:
    """On one test set: mean PSNR of luma; less the float graph's, negative where it is lost; the noise's distance.

    `noise_below_residual_db` compares the change of the output with what the float network adds to bicubic enlargement;
    None where nothing changes.
    """

    psnr_db: float
    change_db: float
    noise_below_residual_db: float | None


@dataclass(frozen=True)
class TestPicture:
    lr: Frame
    hr: Frame
    bicubic: Frame


def opened(model: LoadedModel, path: Path, precision: Precision, float_precision: Precision) -> Session:
    request = SessionRequest(path, model.card, TILE, precision, float_precision, allow_other_precision=True)
    return open_request("openvino", request)


def test_pictures(folder: Path, scale: int) -> Iterator[TestPicture]:
    """The low-resolution halves are made by MATLAB's bicubic."""
    for pair in pair_files(folder, scale):
        lr, hr = read_pair(pair, scale)
        yield TestPicture(lr, hr, resize_bicubic(lr, scale))


def quality(session: Session, pictures: Sequence[TestPicture], wanted: Sequence[Frame]) -> Quality:
    """Of a session whose outputs should be `wanted`."""
    scale, upscaler = session.spec.scale, Upscaler(session)
    found = [upscaler.upscale(picture.lr) for picture in pictures]
    psnr_db, float_db = (
        float(np.mean([psnr_y_db(frame, picture.hr, scale) for frame, picture in zip(frames, pictures, strict=True)]))
        for frames in (found, wanted)
    )
    noise = float(np.mean([_distance(*pair) for pair in zip(found, wanted, strict=True)]))
    residual = float(np.mean([_distance(a, picture.bicubic) for a, picture in zip(wanted, pictures, strict=True)]))
    below_db = 10 * math.log10(residual / noise) if noise else None
    return Quality(psnr_db, psnr_db - float_db, below_db)


def _distance(a: Frame, b: Frame) -> float:
    """Mean squared difference of luma."""
    return float(np.mean(np.square(luma(a) - luma(b))))
