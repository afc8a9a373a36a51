"""What a bundled network's card says: how it was trained, and what its weights do, measured as shipped."""

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
from sr_edge.models.tiled import upscale_in_tiles
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
    """One test set, means over its pictures (over eight kernels each for Gaussian8), PSNR-Y in dB and SSIM of luma.

    `lost_to_bicubic` names the pictures on which bicubic enlargement is better.
    """

    pictures: int
    psnr_db: float
    ssim: float
    bicubic_psnr_db: float
    bicubic_ssim: float
    lost_to_bicubic: tuple[str, ...]
    psnr_db_by_picture: dict[str, float]


def training_metadata(run: Path, data: dict[str, str], hardware: str, pictures: int) -> dict[str, Any]:
    """How the weights in the folder of a finished training came about, as its checkpoint and log tell.

    Raises:
        SystemExit: the training there has not reached its last step.
    """
    kept = torch.load(run / CHECKPOINT, map_location="cpu", weights_only=True)
    if kept["step"] < kept["recipe"]["steps"]:
        raise SystemExit(f"{run} is at step {kept['step']} of {kept['recipe']['steps']}; finish it first")
    minutes = logged_minutes(run / LOG)
    return {"data": data, "pictures": pictures, "minutes": minutes, "hardware": hardware, "recipe": kept["recipe"]}


def first_training_metadata(run: Path, first: Path, listed: dict[str, Any], source: str) -> dict[str, Any]:
    """Of the training that the one in `run` went on from: from its folder, else what the list says of it.

    Raises:
        SystemExit: the one in `run` began with random weights, or with others than those in `first`.
    """
    kept = torch.load(run / CHECKPOINT, map_location="cpu", weights_only=True)
    begun_with = kept["begun_from"]["weights"]
    if not begun_with or ((first / WEIGHTS).is_file() and sha256_of(first / WEIGHTS) != begun_with):
        raise SystemExit(f"{run} did not begin with a first training's weights, as {source} says; train it anew")
    if (first / CHECKPOINT).is_file():
        recipe = torch.load(first / CHECKPOINT, map_location="cpu", weights_only=True)["recipe"]
        return {"recipe": recipe, "minutes": logged_minutes(first / LOG)}
    return {"recipe": recipe_from_document(listed["recipe"], source).document(), "minutes": listed["minutes"]}


def measured(name: str, scale: int, weights: Path, sets: dict[str, Path], data: Path) -> dict[str, Any]:
    """What the weights do, on each folder of originals in `sets`; the last one also in tiles, the first as INT8.

    INT8 is calibrated on pictures of the repository, or, where the network undoes more than bicubic reduction, on
    pictures of `data` that were degraded in its way: sharp ones would show it other ranges than it will meet.
    """
    model = load_model(name, scale, weights)
    degradation = find_degradation("", find_architecture(name)[0])
    pairs = {title: PairSet.from_folder(folder, scale, degradation) for title, folder in sets.items()}
    outputs = {title: [upscaled(model, pair.lr) for pair in found.pairs] for title, found in pairs.items()}
    (first, *_, last), (*_, last_outputs) = pairs.values(), outputs.values()
    return {
        "name": name,
        "scale": scale,
        "parameters": model.card.parameters,
        "bytes": weights.stat().st_size,
        "weights_sha256": model.card.weights_sha256,
        "degradation": degradation.name,
        "scores": {title: asdict(scored(outputs[title], found)) for title, found in pairs.items()},
        "tiled": {
            "tile": str(TILE),
            "overlap_px": model.card.overlap_px,
            "change_db": tiling_change_db(model, last, last_outputs),
        },
        "int8": int8_scores(model, first, degradation, data),
    }


def scored(outputs: list[Frame], pairs: PairSet) -> Scores:
    """The float network on whole pictures against bicubic enlargement of the same low-resolution ones."""
    ours = [_scores(output, pair.hr, pairs.scale) for output, pair in zip(outputs, pairs.pairs, strict=True)]
    bicubic = [_scores(resize_bicubic(pair.lr, pairs.scale), pair.hr, pairs.scale) for pair in pairs.pairs]
    names = [pair.name for pair in pairs.pairs]
    psnr_db, ssim = (float(mean) for mean in np.mean(ours, axis=0))
    bicubic_psnr_db, bicubic_ssim = (float(mean) for mean in np.mean(bicubic, axis=0))
    lost = tuple(name for name, a, b in zip(names, ours, bicubic, strict=True) if a[0] <= b[0])
    by_picture = {name: round(a[0], 3) for name, a in zip(names, ours, strict=True)}
    return Scores(len(names), psnr_db, ssim, bicubic_psnr_db, bicubic_ssim, lost, by_picture)


def upscaled(model: LoadedModel, lr: Frame) -> Frame:
    with torch.inference_mode():
        return frame_from_batch(model.module(torch.from_numpy(batch_from_frame(lr))).numpy(), np.uint8)


def _scores(found: Frame, wanted: Frame, border: int) -> tuple[float, float]:
    return psnr_y_db(found, wanted, border), ssim_y(found, wanted, border)


def tiling_change_db(model: LoadedModel, pairs: PairSet, whole: list[Frame]) -> float:
    """How much higher (negative: lower) the mean PSNR-Y is in tiles, with their own statistics, than in one piece."""
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
    found = {
        str(row.variant.precision): row.quality.hr.psnr_y_db
        for row in report.bench.rows
        if row.quality is not None and row.quality.hr is not None
    }
    return {"runtime": "onnxruntime", "tile": str(TILE), "psnr_db": found, "note": " ".join(report.notes)}


def degraded(data: Path, scale: int, degradation: Degradation) -> list[Frame]:
    """Some pictures of `data` in low resolution, each degraded in another of the ways that the network is tested on."""
    originals = Originals.from_folder(data, scale, SMALLEST_CALIBRATION_PX, Purpose.VALIDATION).pictures
    chosen = originals[:: max(1, len(originals) // CALIBRATION_PICTURES)][:CALIBRATION_PICTURES]
    versions = [list(degradation.test_pictures(hr, scale, index).values()) for index, (_, hr) in enumerate(chosen)]
    return [ways[index % len(ways)] for index, ways in enumerate(versions)]


def write_pictures(folder: Path, found: list[Frame]) -> None:
    folder.mkdir()
    for number, frame in enumerate(found):
        write_picture(folder / f"{number:03}.png", Picture(frame))


def page(cards: list[dict[str, Any]]) -> str:
    """docs/zoo.md."""
    lines = [
        "# The bundled networks",
        "",
        "Written by `python -m scripts.train_zoo` from the cards beside the weights, which hold more: every picture's",
        "figure and the whole recipe. PSNR and SSIM are of luma, border of `scale` pixels left out, means over all,",
        "float network on whole pictures, weights as shipped (float16). INT8: what the deployed INT8 graph differs",
        "from the deployed fp32 one on Set5, in ONNX Runtime, tiles of 96x96; networks that undo more than bicubic",
        "reduction are calibrated on pictures degraded in that way. Tiled: what tiles of 96x96, each with its own",
        "statistics, change on Set14; below -0.05 dB they cost quality.",
        "",
        "| network | degradation | KB | Set5 PSNR / SSIM | bicubic | Set14 PSNR / SSIM | bicubic | below bicubic "
        "| INT8 dB | tiled dB |",
        "|---|---|---|---|---|---|---|---|---|---|",
        *map(_quality_row, cards),
        "",
        "| network | pictures | steps | batch | patch | rate | seed | minutes | hardware |",
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
    """One row, or two where a training went on from the weights of a first one."""
    metadata, title = card["training"], f"`{card['name']}` x{card['scale']}"
    rows = [("", metadata)] if "first" not in metadata else [(", first", metadata["first"]), (", then", metadata)]
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
