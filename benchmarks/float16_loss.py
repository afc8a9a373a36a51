"""What half precision costs every bundled network: decibels of luma on test pictures, fp16 and bf16 beside fp32.

fp16 is the file that `sr-edge export --precision fp16` writes, in real float16 arithmetic (numpy: no CPU runtime
computes in it); bf16 is OpenVINO's, left out by name where the CPU has none. Whole pictures in tiles of 96x96, the
low-resolution halves made by bicubic. Ends with 1 where fp16 costs more than LARGEST_LOSS_DB.

    python benchmarks/float16_loss.py --hr SET5 SET14       folders of originals; left out: test/set5/hr and
                                                            test/set14/hr of the folder that SR_EDGE_DATA names
    python benchmarks/float16_loss.py --hr SET5 --only convnet-tiny-x2     rows of others that --json has stay
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

import onnx
from picture_quality import CALIBRATION, TILE
from picture_sets import set_name, test_sets

from sr_edge.bench import pair_files, write_text
from sr_edge.bench.compare.compared_models import ComparisonOptions, OpenModel, open_model, resolve_models
from sr_edge.bench.compare.model_spec import ModelSpec
from sr_edge.bench.quality import PairFiles, read_pair
from sr_edge.calibration import calibration_patches
from sr_edge.export import ExportReport, derive_onnx, export_onnx
from sr_edge.export.graph.view import view_graph
from sr_edge.frames import Frame, batch_from_frame, frame_from_batch
from sr_edge.metrics import psnr_y_db
from sr_edge.models import load_model
from sr_edge.models.registry import WEIGHTS_FOLDER
from sr_edge.runtimes import supports
from sr_edge.spec import Precision
from sr_edge.tiling import upscale_frame

PATCHES = 4
LARGEST_LOSS_DB = 0.01


@dataclass(frozen=True)
class Row:
    """One network on one test set: mean PSNR of luma in fp32, and what is lost of it; None where bf16 is left out.

    `fp32_nodes` of the fp16 file's `nodes` (Casts not counted) compute in fp32. `weights_sha256` is of the file.
    """

    network: str
    test_set: str
    pictures: int
    fp32_db: float
    fp16_loss_db: float
    bf16_loss_db: float | None
    fp32_nodes: int
    nodes: int
    weights_sha256: str | None = None


@dataclass(frozen=True)
class Report:
    rows: tuple[Row, ...]
    largest_loss_db: float
    bf16_left_out: str


def measure(weights: Path, sets: Sequence[Path], with_bf16: bool, folder: Path) -> list[Row]:
    """The rows of one network, whose files are written to `folder`."""
    model = load_model(None, None, weights)
    patches = calibration_patches(CALIBRATION, TILE, PATCHES)
    full = export_onnx(model, TILE, folder / f"{weights.stem}.onnx", patches=patches)
    half = derive_onnx(full, folder / f"{weights.stem}.fp16.onnx", precision=Precision.FP16, patches=patches)
    names = [str(full.path), f"{half.path}@float16", *([f"{full.path}@bf16:openvino"] if with_bf16 else [])]
    rows = []
    with ExitStack() as stack:
        compared_models = [_opened(names[0], name, stack) for name in names]
        for test_set in sets:
            pairs = pair_files(test_set, model.card.scale)
            resolved = [_mean_db(compared, pairs) for compared in compared_models]
            losses = [resolved[0] - found_db for found_db in resolved[1:]]
            row = Row(
                network=weights.stem,
                test_set=set_name(test_set),
                pictures=len(pairs),
                fp32_db=resolved[0],
                fp16_loss_db=losses[0],
                bf16_loss_db=losses[1] if with_bf16 else None,
                **_nodes(half),
                weights_sha256=model.card.weights_sha256,
            )
            rows.append(row)
            print(_line(rows[-1]), flush=True)
    return rows


def _opened(first: str, second: str, stack: ExitStack) -> OpenModel:
    options = ComparisonOptions()
    _, compared = resolve_models(ModelSpec.parse(first), ModelSpec.parse(second), options, stack)
    return open_model(compared, TILE, options.controls, stack)


def _mean_db(compared: OpenModel, pairs: Sequence[PairFiles]) -> float:
    scale = compared.card.scale

    def run(tile_hwc: Frame) -> Frame:
        return frame_from_batch(compared.run(batch_from_frame(tile_hwc)))

    scores = []
    for pair in pairs:
        lr, hr = read_pair(pair, scale)
        rgb = lr.repeat(3, axis=2) if lr.shape[2] == 1 else lr
        upscaled = upscale_frame(rgb, run, tile=TILE, scale=scale, overlap_px=compared.card.overlap_px)
        scores.append(psnr_y_db(upscaled, hr, scale))
    return statistics.mean(scores)


def _nodes(half: ExportReport) -> dict[str, int]:
    view = view_graph(onnx.load(half.path))
    kinds = Counter(view.types[node.output[0]] for node in view.nodes if node.op_type != "Cast")
    fp32, fp16 = kinds[onnx.TensorProto.FLOAT], kinds[onnx.TensorProto.FLOAT16]
    return {"fp32_nodes": fp32, "nodes": fp32 + fp16}


def kept(file: Path | None, only: Sequence[str]) -> Iterator[Row]:
    """What the file has of the networks that are not measured now."""
    if file is not None and file.is_file() and file.stat().st_size:
        resolved = json.loads(file.read_text(encoding="utf-8"))["rows"]
        yield from (Row(**row) for row in resolved if row["network"] not in only)


def _line(row: Row) -> str:
    bf16 = "-" if row.bf16_loss_db is None else f"{row.bf16_loss_db:+.4f}"
    return (
        f"{row.network:24} {row.test_set:6} fp32 {row.fp32_db:.3f} dB, lost in fp16 {row.fp16_loss_db:+.4f}, "
        f"in bf16 {bf16}; {row.fp32_nodes} of {row.nodes} nodes in fp32"
    )


def main() -> None:
    names = [path.stem for path in sorted(WEIGHTS_FOLDER.glob("*.safetensors"))]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hr", type=Path, nargs="+", default=[], metavar="FOLDER")
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="NETWORK", help=", ".join(names))
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    sets = test_sets(args.hr)
    others = list(kept(args.json, args.only))
    with_bf16 = supports("openvino", Precision.BF16)
    with tempfile.TemporaryDirectory() as folder:
        rows = [
            row
            for name in args.only
            for row in measure(WEIGHTS_FOLDER / f"{name}.safetensors", sets, with_bf16, Path(folder))
        ]
    left_out = "" if with_bf16 else "OpenVINO computes no bf16 on this CPU"
    everything = sorted([*rows, *others], key=lambda row: row.network)
    report = Report(tuple(everything), LARGEST_LOSS_DB, left_out)
    if args.json is not None:
        write_text(args.json, json.dumps(asdict(report), indent=1) + "\n")
    sys.exit(any(row.fp16_loss_db > LARGEST_LOSS_DB for row in rows))


if __name__ == "__main__":
    main()
