"""Digests of the files that five bundled networks become: `python FILE --save digests.json`, later `--compare` with it.

Run it before and after a change that must not alter what is written, on one machine and with the same OMP_NUM_THREADS:
the last bits of calibrated ranges depend on the processor and on the number of threads. The metadata of the files,
which has versions and names of fields, is not part of the digests.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import tempfile
from pathlib import Path

import onnx
import torch

from sr_edge.calibration import calibrate, calibration_patches, quantize_onnx
from sr_edge.export import export_onnx, graph_digest
from sr_edge.models import load_model
from sr_edge.spec import ActivationType, Precision, TileSpec

NETWORKS = (
    ("convnet-tiny", 2),
    ("labnet-tiny", 2),
    ("lcoan-tiny", 2),
    ("taylor-swinir-tiny", 2),
    ("ups-tiny", 2),
)
TILE = TileSpec(48, 48)
PICTURES = Path(__file__).resolve().parents[1] / "sr_edge" / "export" / "pictures"
PATCHES = 12


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--save", type=Path, help="the JSON file to write")
    action.add_argument("--compare", type=Path, help="a JSON file written by --save; exit status 1 where one differs")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    before = json.loads(arguments.compare.read_text()) if arguments.compare else {}
    digests = {f"{name}-x{scale}": digests_of(name, scale) for name, scale in NETWORKS}
    if arguments.save:
        arguments.save.write_text(json.dumps(digests, indent=2) + "\n")
        print(f"wrote {arguments.save}")
        return 0
    for network, files in digests.items():
        for file, digest in files.items():
            print(f"{network:24}{file:24}{'same' if before.get(network, {}).get(file) == digest else 'DIFFERENT'}")
    return int(before != digests)


def digests_of(name: str, scale: int) -> dict[str, dict[str, str]]:
    """By kind of file: `bytes`, SHA-256 of the file without its metadata, and `graph`, blind to the nodes' names."""
    model = load_model(name, scale)
    with tempfile.TemporaryDirectory() as folder:
        files = {kind: Path(folder) / f"{kind}.onnx" for kind in ("fp32", "fp16", "int8", "int8-fp16", "int8-u8")}
        export_onnx(model, TILE, files["fp32"])
        export_onnx(model, TILE, files["fp16"], precision=Precision.FP16)
        patches = calibration_patches(PICTURES, TILE, PATCHES, channels=model.card.input_channels)
        calibration = calibrate(files["fp32"], patches)
        quantize_onnx(files["fp32"], calibration, files["int8"])
        quantize_onnx(files["fp32"], calibration, files["int8-fp16"], float_precision=Precision.FP16)
        quantize_onnx(files["fp32"], calibration, files["int8-u8"], ActivationType.UINT8)
        return {kind: digest_of(path) for kind, path in files.items()}


def digest_of(path: Path) -> dict[str, str]:
    model = onnx.load(path)
    del model.metadata_props[:]
    return {
        "bytes": hashlib.sha256(model.SerializeToString(deterministic=True)).hexdigest(),
        "graph": graph_digest(model),
    }


if __name__ == "__main__":
    sys.exit(main())
