"""What `sr-edge calibrate --finetune` gains over calibration alone: PSNR on test images, and time.

Each network is measured twice: with the INT8 layers that `calibrate` selects by times measured in OpenVINO and a limit
of 0.05 dB, and with all possible layers in INT8, which shows what fine-tuning regains without that selection. All
graphs of a network run interleaved in one process, and the median of one ratio for each round counts. Float layers run
in bf16 where the CPU supports it.

    python benchmarks/finetuning.py --hr SET5 SET14      left out: those of the folder that SR_EDGE_DATA names
    python benchmarks/finetuning.py --hr SET5 --only ups-tiny --rounds 3 --patches 8      a quick try
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from finetuning_rows import NetworkRows, Row, section
from picture_quality import CALIBRATION, TILE, opened, quality, test_pictures
from picture_sets import set_name, test_sets

from sr_edge.bench import write_text
from sr_edge.calibration import (
    Budget,
    CalibrationConfig,
    calibrate_within,
    calibration_patches,
    held_out_patches,
    quantize_onnx,
)
from sr_edge.calibration.selection.report import CalibrationReport
from sr_edge.export import export_onnx
from sr_edge.models import LoadedModel, load_model
from sr_edge.runtimes import measure_interleaved, paired_ratio, supports
from sr_edge.spec import ActivationType, Precision
from sr_edge.upscaler import Upscaler

NETWORKS = ("lcoan-tiny", "taylor-swinir-tiny", "ups-tiny")
STEPS = 20
LARGEST_DROP_DB, ANY_DROP_DB = 0.05, 100.0
WITHIN_BUDGET, ALL = "within the budget", "all"


@dataclass(frozen=True)
class Variant:
    chosen_by: str
    steps: int
    calibration_report: CalibrationReport
    seconds: float
    path: Path


def variants(source: Path, float_precision: Precision, patches: int) -> Iterator[Variant]:
    """The INT8 files: with the layers within the budget and with all layers, each without and with fine-tuning."""
    batches, held_out = calibration_patches(CALIBRATION, TILE, patches), held_out_patches(CALIBRATION, TILE)
    configs = {
        WITHIN_BUDGET: CalibrationConfig(Budget(LARGEST_DROP_DB), runtime="openvino", float_precision=float_precision),
        ALL: CalibrationConfig(Budget(ANY_DROP_DB)),
    }
    for chosen_by, config in configs.items():
        for steps in (0, STEPS):
            started_s = time.perf_counter()
            calibration_report = calibrate_within(source, batches, held_out, replace(config, finetune=steps))
            path = source.with_name(f"{len(chosen_by)}-{steps}.onnx")
            quantize_onnx(source, calibration_report.calibration, path, ActivationType.UINT8)
            yield Variant(chosen_by, steps, calibration_report, time.perf_counter() - started_s, path)


def measured(name: str, sets: dict[str, Path], args: argparse.Namespace, folder: Path) -> NetworkRows:
    """Everything of one network at x2."""
    model, float_precision = (
        load_model(name, 2),
        Precision.BF16 if supports("openvino", Precision.BF16) else Precision.FP32,
    )
    source = folder / "model.onnx"
    export_onnx(model, TILE, source)
    made = list(variants(source, float_precision, args.patches))
    return NetworkRows(
        f"{name}-x2", str(float_precision), tuple(rows(model, source, made, float_precision, sets, args.rounds))
    )


def rows(
    model: LoadedModel,
    source: Path,
    made: list[Variant],
    float_precision: Precision,
    sets: dict[str, Path],
    rounds: int,
) -> Iterator[Row]:
    pictures = {key: list(test_pictures(path, 2)) for key, path in sets.items()}
    with ExitStack() as stack:
        exact = Upscaler(stack.enter_context(opened(model, source, Precision.FP32, Precision.FP32)))
        wanted = {key: [exact.upscale(picture.lr) for picture in found] for key, found in pictures.items()}
        sessions = [stack.enter_context(opened(model, each.path, Precision.INT8, float_precision)) for each in made]
        turns = measure_interleaved(sessions, rounds)
        plain = {each.chosen_by: times for each, times in zip(made, turns, strict=True) if not each.steps}
        for each, session, times in zip(made, sessions, turns, strict=True):
            yield Row(
                each.chosen_by,
                each.steps,
                len(each.calibration_report.selection.int8),
                sum(row.noise_db is not None for row in each.calibration_report.layers),
                each.seconds,
                {key: quality(session, pictures[key], wanted[key]) for key in pictures},
                paired_ratio(times, plain[each.chosen_by]) if each.steps else None,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--hr", type=Path, nargs="+", default=[], metavar="FOLDER", help="folders of high-resolution test images"
    )
    parser.add_argument("--only", nargs="+", choices=NETWORKS, default=NETWORKS)
    parser.add_argument("--patches", type=int, default=40, help="number of patches to calibrate on")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    sets = {set_name(folder): folder for folder in test_sets(args.hr)}
    report = []
    for name in args.only:
        with tempfile.TemporaryDirectory() as folder:
            report.append(asdict(measured(name, sets, args, Path(folder))))
        print(next(section(report[-1:])), flush=True)
    if args.json is not None:
        write_text(args.json, json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
