"""An ONNX file as they are shared: fp16, dynamic height and width, opset 18, written by torch's newer exporter.

python benchmarks/network_matrix/onnx_export.py RECIPE CHECKPOINT FILE
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from network_recipes import RECIPES, build

OPSET, SIDE_PX = 18, 64


def export(name: str, checkpoint: Path, file: Path) -> None:
    """Exports the network of a recipe with the weights of a checkpoint."""
    network = build(name)
    network.load_state_dict(torch.load(checkpoint, weights_only=True))
    size = {2: torch.export.Dim("height", min=8, max=4096), 3: torch.export.Dim("width", min=8, max=4096)}
    torch.onnx.export(
        network.half().eval(),
        (torch.rand(1, 3, SIDE_PX, SIDE_PX).half(),),
        file,
        input_names=["input"],
        output_names=["output"],
        opset_version=OPSET,
        dynamo=True,
        dynamic_shapes=(size,),
        external_data=False,
        verbose=False,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=sorted(RECIPES), metavar="RECIPE")
    parser.add_argument("checkpoint", type=Path, metavar="CHECKPOINT")
    parser.add_argument("file", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    export(arguments.name, arguments.checkpoint, arguments.file)


if __name__ == "__main__":
    main()
