"""Trains the networks of `scripts/zoo.json`, bundles and measures their weights, and writes the cards and docs/zoo.md.

Usage: python -m scripts.train_zoo --data PICTURES --set5 FOLDER --set14 FOLDER --work FOLDER --hardware "what it is"
           [--only NAME-xSCALE ...] [--no-training]

The work folder has one folder for each network, NAME-xSCALE, with the output of `sr-edge train`. An interrupted
training is continued, and a finished training from elsewhere is used as it is; with --no-training only finished ones
are bundled. The "first" part of an entry is the training with whose weights its recipe starts; where only the second
one's folder exists, the duration of the first is taken from the list. Bundled weights without a training in the work
folder are measured again, and the description of their training is taken from their card or from "trained" in the list.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

from scripts.zoo_card import first_training_metadata, measure, page, training_metadata, write_json
from sr_edge.models.registry import WEIGHTS_FOLDER
from sr_edge.training import recipe_from_document, train_model
from sr_edge.training.data import Originals
from sr_edge.training.loop import CHECKPOINT, WEIGHTS

ROOT = Path(__file__).resolve().parents[1]
LIST, PAGE = ROOT / "scripts" / "zoo.json", ROOT / "docs" / "zoo.md"
LARGEST_BYTES, LARGEST_TOTAL_BYTES = 2_000_000, 12_000_000
DONE, FIRST = "done", "first"


def main() -> None:
    args = _arguments()
    zoo = json.loads(LIST.read_text(encoding="utf-8"))
    entries = [entry for entry in zoo["networks"] if not args.only or _title(entry) in args.only]
    for entry in entries:
        run = args.work / _title(entry)
        if not args.no_training:
            _train(entry, run, args)
        _bundle(entry, run, zoo["data"], args)
    cards = [json.loads(_card_file(entry).read_text()) for entry in zoo["networks"] if _card_file(entry).is_file()]
    PAGE.write_text(page(cards), encoding="utf-8")
    total = sum(path.stat().st_size for path in WEIGHTS_FOLDER.glob("*.safetensors"))
    if total > LARGEST_TOTAL_BYTES:
        raise SystemExit(f"all weights are {total} bytes, more than {LARGEST_TOTAL_BYTES}; bundle fewer")
    print(f"{len(cards)} networks, {total} bytes; wrote {PAGE}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("data", "set5", "set14", "work"):
        parser.add_argument(f"--{name}", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--hardware", required=True, help="what the networks were trained on, for the cards")
    parser.add_argument("--only", nargs="*", metavar="NAME-xSCALE")
    parser.add_argument("--no-training", action="store_true")
    parser.add_argument("--threads", type=int)
    return parser.parse_args()


def _train(entry: dict[str, Any], run: Path, args: argparse.Namespace) -> None:
    """Trains by the recipe of an entry; an entry with a "first" part starts with the weights of that training."""

    def train(document: dict[str, Any], out: Path, start: Path | None) -> Path:
        recipe, name, scale = recipe_from_document(document, str(LIST)), entry["name"], entry["scale"]
        return train_model(name, scale, args.data, args.set5, out, recipe, start, args.threads).weights

    start = train(entry["first"]["recipe"], run / FIRST, None) if "first" in entry else None
    train(entry["recipe"], run, start)
    (run / DONE).touch()


def _title(entry: dict[str, Any]) -> str:
    return f"{entry['name']}-x{entry['scale']}"


def _card_file(entry: dict[str, Any]) -> Path:
    return WEIGHTS_FOLDER / f"{_title(entry)}.json"


def _bundle(entry: dict[str, Any], run: Path, data: dict[str, str], args: argparse.Namespace) -> None:
    weights, card = WEIGHTS_FOLDER / f"{_title(entry)}.safetensors", _card_file(entry)
    if (run / DONE).is_file() and (run / CHECKPOINT).is_file():
        if (run / WEIGHTS).stat().st_size > LARGEST_BYTES:
            raise SystemExit(f"{run / WEIGHTS} is above {LARGEST_BYTES} bytes; only smaller networks are bundled")
        patch_px = recipe_from_document(entry["recipe"]).patch_px
        pictures = len(Originals.from_folder(args.data, entry["scale"], patch_px).pictures)
        metadata = training_metadata(run, data, args.hardware, pictures)
        if "first" in entry:
            metadata["first"] = first_training_metadata(run, run / FIRST, entry["first"], str(LIST))
        shutil.copyfile(run / WEIGHTS, weights)
    elif weights.is_file() and card.is_file():
        metadata = json.loads(card.read_text(encoding="utf-8"))["training"]
    elif weights.is_file() and "trained" in entry:
        metadata = {"data": data, **entry["trained"]}
    else:
        print(f"{_title(entry)}: not trained yet")
        return
    card_content = measure(entry["name"], entry["scale"], weights, {"Set5": args.set5, "Set14": args.set14}, args.data)
    write_json(card, {**card_content, "training": metadata})
    print(
        f"{_title(entry)}: " + ", ".join(f"{t} {s['psnr_db']:.2f} dB" for t, s in card_content["scores"].items()),
        flush=True,
    )


if __name__ == "__main__":
    main()
