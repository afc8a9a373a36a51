"""The papers' central comparisons, at our size: variants of one network, trained alike, several seeds each.

Variants of a comparison learn from the same crops in the same order, for as many steps, with the same recipe (bicubic
x2, L1), and are measured on Set5 and Set14 as whole pictures. A difference counts within a seed: the table gives its
mean over the seeds and its range, so that one sees what is noise.

    python benchmarks/paper_comparisons.py            pictures are in $SR_EDGE_DATA; half an hour a seed on one core
    python benchmarks/paper_comparisons.py --no-training      the table of what is done

Each run has a folder in --work, VARIANT/SEED, and goes on where it was stopped. --pair FOLDER takes
TaylorSwinIR and SwinIR, both light, from finished trainings, FOLDER/taylor-swinir-light-x2 and FOLDER/swinir-light-x2,
as `scripts.train_zoo` leaves them, beside the tiny pair.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from comparison_networks import COMPARISONS, PAIR, SCALE, Comparison, build_variant, patches_px
from comparison_rows import MACS_SIDE_PX, SETS, ComparisonRow, Score, comparison_rows
from rich.console import Console
from rich.table import Table
from torch import nn

from sr_edge.files.whole_file import whole_file
from sr_edge.models import load_model
from sr_edge.models.checkpoints import read_weights
from sr_edge.models.loading.weights import copy_weights
from sr_edge.models.macs import count_macs
from sr_edge.models.registry import count_parameters
from sr_edge.training import Recipe
from sr_edge.training.data import CropSource, Originals, PairSet
from sr_edge.training.log import LOG, logged_minutes
from sr_edge.training.loop import CHECKPOINT, Training, train
from sr_edge.training.validation import psnr_by_picture

ROOT = Path(__file__).resolve().parents[1]
SCORE = "score.json"


def recipe_for(patch_px: int, seed: int, steps: int) -> Recipe:
    return Recipe(
        steps=steps,
        batch=4,
        patch_px=patch_px,
        degradation="bicubic",
        learning_rate=1e-3,
        warm_up_steps=steps // 10,
        ema_decay=0.99,
        seed=seed,
        validate_every=steps,
    )


def trained_score(variant: str, recipe: Recipe, run: Path, data: Path, tests: Mapping[str, PairSet]) -> Score:
    """Trains, or goes on, or only reads what the folder `run` has of this recipe."""
    if (run / SCORE).is_file():
        found = read_score(run / SCORE)
        if found.recipe != recipe.document():
            raise SystemExit(f"{run} was trained with another recipe; give another --work, or the same --steps")
        return found
    network = build_variant(variant, recipe.seed)
    weights = train(network, Training(crops_of(data, recipe.patch_px), tests[SETS[0]], run, recipe))
    copy_weights(network, read_weights(weights), str(weights))
    score = measured(variant, network, tests, recipe.document(), logged_minutes(run / LOG))
    with whole_file(run / SCORE) as unfinished:
        unfinished.write_text(json.dumps(asdict(score), indent=1) + "\n", encoding="utf-8")
    return score


@cache
def crops_of(data: Path, patch_px: int) -> CropSource:
    return CropSource(Originals.from_folder(data, SCALE, patch_px))


def read_score(path: Path) -> Score:
    return Score(**json.loads(path.read_text(encoding="utf-8")))


def measured(
    variant: str, network: nn.Module, tests: Mapping[str, PairSet], recipe: dict[str, Any], minutes: float
) -> Score:
    psnr_db = {title: fmean(psnr_by_picture(network, pairs).values()) for title, pairs in tests.items()}
    macs = count_macs(network, MACS_SIDE_PX, MACS_SIDE_PX)
    return Score(variant, recipe["seed"], psnr_db, count_parameters(network), macs, minutes, recipe)


def finished_pair(folder: Path, tests: Mapping[str, PairSet]) -> Iterator[Score]:
    """TaylorSwinIR and SwinIR as `sr-edge train` left them.

    Raises:
        SystemExit: a training there is missing or unfinished, or the two recipes are not equal.
    """
    recipes = []
    for name in PAIR.variants:
        run = folder / f"{name}-x{SCALE}"
        if not (run / CHECKPOINT).is_file():
            raise SystemExit(f"{run} contains no trained network; train {name} there, or leave out --pair")
        kept = torch.load(run / CHECKPOINT, map_location="cpu", weights_only=True)
        recipes.append(kept["recipe"])
        if kept["step"] < kept["recipe"]["steps"]:
            raise SystemExit(f"{run} is at step {kept['step']} of {kept['recipe']['steps']}; finish it first")
        network = load_model(name, SCALE, run / "weights.safetensors").module
        yield measured(name, network, tests, kept["recipe"], logged_minutes(run / LOG))
    if recipes[0] != recipes[1]:
        raise SystemExit(f"the two networks in {folder} were trained with different recipes; train one of them again")


def table(comparison: Comparison, found: Sequence[ComparisonRow]) -> Table:
    title, paper = f"{comparison.title} ({comparison.network})", f"paper: {comparison.paper}"
    grid = Table(*ComparisonRow.HEADINGS, title=title, caption=paper)
    for row in found:
        grid.add_row(*row.cells())
    return grid


def arguments() -> argparse.Namespace:
    pictures = Path(os.environ.get("SR_EDGE_DATA") or ROOT.parent / "shared" / "data")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", type=Path, default=pictures / "train", metavar="FOLDER", help="folder of training images"
    )
    for title in SETS:
        folder = pictures / "test" / title.lower() / "hr"
        parser.add_argument(f"--{title.lower()}", type=Path, default=folder, metavar="FOLDER")
    parser.add_argument("--work", type=Path, default=ROOT / "runs" / "comparisons", metavar="FOLDER")
    parser.add_argument("--seeds", type=int, default=2, help="number of seeds, from 0")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--only", nargs="*", choices=[name for name, _ in patches_px()], metavar="VARIANT")
    parser.add_argument("--pair", type=Path, metavar="FOLDER")
    parser.add_argument("--no-training", action="store_true")
    parser.add_argument("--json", type=Path, help="also write the measurements to this JSON file")
    return parser.parse_args()


def all_scores(args: argparse.Namespace, tests: Mapping[str, PairSet]) -> Iterator[Score]:
    for seed in range(args.seeds):
        for variant, patch_px in patches_px():
            run = args.work / variant / str(seed)
            if args.no_training and not (run / SCORE).is_file():
                continue
            if not args.only or variant in args.only:
                score = trained_score(variant, recipe_for(patch_px, seed, args.steps), run, args.data, tests)
                print(f"{variant}, seed {seed}: {score.psnr_db}", flush=True)
                yield score
    if args.pair:
        yield from finished_pair(args.pair, tests)


def main() -> None:
    args = arguments()
    torch.set_num_threads(1)
    tests = {title: PairSet.from_folder(getattr(args, title.lower()), SCALE) for title in SETS}
    scores = list(all_scores(args, tests))
    document = []
    for comparison in (*COMPARISONS, PAIR):
        rows = list(comparison_rows(comparison.variants, scores))
        if len(rows) > 1:
            Console(width=140).print(table(comparison, rows))
            recipe = next(score.recipe for score in scores if score.variant == rows[0].variant)
            document.append({**asdict(comparison), "recipe": recipe, "rows": [asdict(row) for row in rows]})
    if args.json:
        args.json.write_text(json.dumps({"comparisons": document}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
