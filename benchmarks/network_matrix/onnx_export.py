"""An ONNX file as they are shared: fp16, dynamic height and width, opset 18, written by torch's newer exporter.

python benchmarks/network_matrix/onnx_export.py CHECKPOINT FILE
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from sr_edge.models import load_model

OPSET, SIDE_PX = 18, 64


def export(checkpoint: Path, file: Path) -> None:
    """Exports the network that is recognised in a checkpoint."""
    network = load_model(str(checkpoint), None).module
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
    parser.add_argument("checkpoint", type=Path, metavar="CHECKPOINT")
    parser.add_argument("file", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    export(arguments.checkpoint, arguments.file)


if __name__ == "__main__":
    main()
