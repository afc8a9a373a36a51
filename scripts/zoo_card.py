"""The card of a bundled network: how it was trained, and the measured quality of its weights as shipped."""

from __future__ import annotations

import json
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sr_edge.bundle.store import sha256_of
from sr_edge.deploy import DeployPlan, deploy_network
from sr_edge.frames import Frame, Picture, batch_from_frame, frame_from_batch
from sr_edge.image_files import write_picture
from sr_edge.metrics import psnr_y_db, ssim_y
from sr_edge.models import LoadedModel, load_model
from sr_edge.models.registry import find_architecture
from sr_edge.models.tiles.tiled import upscale_in_tiles
from sr_edge.resize import resize_bicubic
from sr_edge.spec import Precision, TileSpec
from sr_edge.training import recipe_from_document
from sr_edge.training.data import Originals, PairSet, Purpose
from sr_edge.training.degradations import BICUBIC, Degradation, find_degradation
from sr_edge.training.log import LOG, logged_minutes
from sr_edge.training.loop import CHECKPOINT, WEIGHTS

TILE = TileSpec(96, 96)
CALIBRATION = Path(__file__).resolve().parents[1] / "examples" / "pictures" / "calibration"
CALIBRATION_PICTURES, SMALLEST_CALIBRATION_PX = 16, 64


@dataclass(frozen=True)
class Scores:
    """Quality on one test set: mean PSNR-Y and SSIM of luma over its images (over eight kernels each for Gaussian8).

    `lost_to_bicubic` lists the images on which bicubic upsampling is better.
    """

    pictures: int
    psnr_db: float
    ssim: float
    bicubic_psnr_db: float
    bicubic_ssim: float
    lost_to_bicubic: tuple[str, ...]
    psnr_db_by_picture: dict[str, float]


def training_metadata(run: Path, data: dict[str, str], hardware: str, pictures: int) -> dict[str, Any]:
    """Describes a finished training by its checkpoint and log.

    Raises:
        SystemExit: the training has not reached its last step.
    """
    checkpoint = torch.load(run / CHECKPOINT, map_location="cpu", weights_only=True)
    if checkpoint["step"] < checkpoint["recipe"]["steps"]:
        raise SystemExit(f"{run} is at step {checkpoint['step']} of {checkpoint['recipe']['steps']}; finish it first")
    minutes = logged_minutes(run / LOG)
    recipe = checkpoint["recipe"]
    return {"data": data, "pictures": pictures, "minutes": minutes, "hardware": hardware, "recipe": recipe}


def first_training_metadata(run: Path, first: Path, listed: dict[str, Any], source: str) -> dict[str, Any]:
    """Describes the training with whose weights the one in `run` started, by its folder or else by the list.

    Raises:
        SystemExit: the training in `run` started with random weights, or with others than those in `first`.
    """
    checkpoint = torch.load(run / CHECKPOINT, map_location="cpu", weights_only=True)
    origin_weights = checkpoint["begun_from"]["weights"]
    if not origin_weights or ((first / WEIGHTS).is_file() and sha256_of(first / WEIGHTS) != origin_weights):
        raise SystemExit(f"{run} did not start with a first training's weights, as {source} requires; train it again")
    if (first / CHECKPOINT).is_file():
        recipe = torch.load(first / CHECKPOINT, map_location="cpu", weights_only=True)["recipe"]
        return {"recipe": recipe, "minutes": logged_minutes(first / LOG)}
    return {"recipe": recipe_from_document(listed["recipe"], source).document(), "minutes": listed["minutes"]}


def measure(name: str, scale: int, weights: Path, sets: dict[str, Path], data: Path) -> dict[str, Any]:
    """Measures the weights on each folder of original images in `sets`, the last also in tiles, the first as INT8.

    INT8 is calibrated on images of the repository. For a network of another degradation than bicubic downscaling, it is
    calibrated on degraded images of `data`, since sharp ones would have other activation ranges.
    """
    model = load_model(name, scale, weights)
    degradation = find_degradation("", find_architecture(name)[0])
    pairs = {title: PairSet.from_folder(folder, scale, degradation) for title, folder in sets.items()}
    outputs = {title: [upscale(model, pair.lr) for pair in each.pairs] for title, each in pairs.items()}
    (first, *_, last), (*_, last_outputs) = pairs.values(), outputs.values()
    return {
        "name": name,
        "scale": scale,
        "parameters": model.card.parameters,
        "bytes": weights.stat().st_size,
        "weights_sha256": model.card.weights_sha256,
        "degradation": degradation.name,
        "scores": {title: asdict(score(outputs[title], each)) for title, each in pairs.items()},
        "tiled": {
            "tile": str(TILE),
            "overlap_px": model.card.overlap_px,
            "change_db": tiling_change_db(model, last, last_outputs),
        },
        "int8": int8_scores(model, first, degradation, data),
    }


def score(outputs: list[Frame], pairs: PairSet) -> Scores:
    """Compares the float network on whole images with bicubic upsampling of the same low-resolution images."""
    network = [_scores(output, pair.hr, pairs.scale) for output, pair in zip(outputs, pairs.pairs, strict=True)]
    bicubic = [_scores(resize_bicubic(pair.lr, pairs.scale), pair.hr, pairs.scale) for pair in pairs.pairs]
    names = [pair.name for pair in pairs.pairs]
    psnr_db, ssim = (float(mean) for mean in np.mean(network, axis=0))
    bicubic_psnr_db, bicubic_ssim = (float(mean) for mean in np.mean(bicubic, axis=0))
    lost = tuple(name for name, a, b in zip(names, network, bicubic, strict=True) if a[0] <= b[0])
    by_picture = {name: round(a[0], 3) for name, a in zip(names, network, strict=True)}
    return Scores(len(names), psnr_db, ssim, bicubic_psnr_db, bicubic_ssim, lost, by_picture)


def upscale(model: LoadedModel, lr: Frame) -> Frame:
    """Upscales a frame as one tile."""
    with torch.inference_mode():
        return frame_from_batch(model.module(torch.from_numpy(batch_from_frame(lr))).numpy(), np.uint8)


def _scores(candidate: Frame, reference: Frame, border: int) -> tuple[float, float]:
    return psnr_y_db(candidate, reference, border), ssim_y(candidate, reference, border)


def tiling_change_db(model: LoadedModel, pairs: PairSet, whole: list[Frame]) -> float:
    """Difference of the mean PSNR-Y in tiles, each with its own statistics, from that of whole images."""
    changes = []
    for pair, output in zip(pairs.pairs, whole, strict=True):
        tiled = upscale_in_tiles(model.module, pair.lr, TILE, pairs.scale, model.card.overlap_px)
        changes.append(psnr_y_db(tiled, pair.hr, pairs.scale) - psnr_y_db(output, pair.hr, pairs.scale))
    return float(np.mean(changes))


def int8_scores(model: LoadedModel, pairs: PairSet, degradation: Degradation, data: Path) -> dict[str, Any]:
    """Mean PSNR-Y of the deployed graphs in ONNX Runtime, fp32 and INT8."""
    with tempfile.TemporaryDirectory() as folder:
        hr, lr = Path(folder, "hr"), Path(folder, "lr")
        write_pictures(hr, [pair.hr for pair in pairs.pairs])
        write_pictures(lr, [pair.lr for pair in pairs.pairs])
        images = CALIBRATION
        if degradation is not BICUBIC:
            images = Path(folder, "degraded")
            write_pictures(images, degraded(data, pairs.scale, degradation))
        precisions = (Precision.FP32, Precision.INT8)
        plan = DeployPlan(
            TILE, ("onnxruntime",), precisions, rounds=1, with_memory=False, hr=hr, lr=lr, with_tile_needs=False
        )
        report = deploy_network(model, images, Path(folder, "zoo.sredge"), plan)
    psnr_db = {
        str(row.variant.precision): row.quality.hr.psnr_y_db
        for row in report.bench.rows
        if row.quality is not None and row.quality.hr is not None
    }
    return {"runtime": "onnxruntime", "tile": str(TILE), "psnr_db": psnr_db, "note": " ".join(report.notes)}


def degraded(data: Path, scale: int, degradation: Degradation) -> list[Frame]:
    """Low-resolution versions of some images of `data`, each by another of the degradation's test versions."""
    originals = Originals.from_folder(data, scale, SMALLEST_CALIBRATION_PX, Purpose.VALIDATION).pictures
    selected = originals[:: max(1, len(originals) // CALIBRATION_PICTURES)][:CALIBRATION_PICTURES]
    versions = [list(degradation.test_pictures(hr, scale, index).values()) for index, (_, hr) in enumerate(selected)]
    return [each[index % len(each)] for index, each in enumerate(versions)]


def write_pictures(folder: Path, frames: list[Frame]) -> None:
    folder.mkdir()
    for number, frame in enumerate(frames):
        write_picture(folder / f"{number:03}.png", Picture(frame))


def page(cards: list[dict[str, Any]]) -> str:
    """The text of docs/zoo.md."""
    lines = [
        "# The bundled networks",
        "",
        "`python -m scripts.train_zoo` writes this page from the model cards beside the weights, which also contain",
        "the results for every image and the whole training recipe.",
        "",
        "- PSNR and SSIM are computed on luma without a border of `scale` pixels, as means over all images. They are",
        "  those of the float network on whole images, with the weights as shipped (float16). *Below bicubic* lists",
        "  the images for which bicubic upsampling has the higher PSNR.",
        "- *INT8 dB* is the change of the PSNR on Set5 from the deployed fp32 graph to the deployed INT8 graph, in",
        "  ONNX Runtime with tiles of 96x96. Networks for other degradations than bicubic downscaling are calibrated",
        "  on images with that degradation.",
        "- *Tiled dB* is the change of the PSNR on Set14 from whole images to tiles of 96x96, each with its own",
        "  statistics. A change below -0.05 dB counts as a loss of quality.",
        "",
        "| network | degradation | KB | Set5 PSNR / SSIM | bicubic | Set14 PSNR / SSIM | bicubic | below bicubic "
        "| INT8 dB | tiled dB |",
        "|---|---|---|---|---|---|---|---|---|---|",
        *map(_quality_row, cards),
        "",
        "Training, with the number of images, the size of the low-resolution patches in pixels and the learning rate.",
        "A network with two stages was trained again, starting with the weights of the first stage:",
        "",
        "| network | images | steps | batch | patch | learning rate | seed | minutes | hardware |",
        "|---|---|---|---|---|---|---|---|---|",
        *(row for card in cards for row in _training_rows(card)),
        "",
    ]
    for key, title in (("pictures", "Data"), ("licence", "Licence of the data")):
        lines += [f"{title}: {'; '.join(dict.fromkeys(card['training']['data'][key] for card in cards))}.", ""]
    return "\n".join(lines)


def _quality_row(card: dict[str, Any]) -> str:
    cells = [f"`{card['name']}` x{card['scale']}", card["degradation"], f"{card['bytes'] / 1000:.0f}"]
    for scores in card["scores"].values():
        cells += [f"{scores['psnr_db']:.2f} / {scores['ssim']:.4f}", f"{scores['bicubic_psnr_db']:.2f}"]
    lost = [name for scores in card["scores"].values() for name in scores["lost_to_bicubic"]]
    int8 = card["int8"]["psnr_db"]
    int8_change = f"{int8['int8'] - int8['fp32']:+.2f}" if "int8" in int8 else "none"
    return _row([*cells, ", ".join(lost) or "none", int8_change, f"{card['tiled']['change_db']:+.3f}"])


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _training_rows(card: dict[str, Any]) -> list[str]:
    """One row, or two where a training started with the weights of a first one."""
    metadata, title = card["training"], f"`{card['name']}` x{card['scale']}"
    rows = [("", metadata)] if "first" not in metadata else [(", stage 1", metadata["first"]), (", stage 2", metadata)]
    return [
        _row(
            [
                title + part,
                str(metadata["pictures"]),
                *(str(stage["recipe"][key]) for key in ("steps", "batch", "patch_px", "learning_rate", "seed")),
                f"{stage['minutes']:.0f}",
                metadata["hardware"],
            ]
        )
        for part, stage in rows
    ]


def write_json(path: Path, document: dict[str, Any]) -> None:
    path.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
