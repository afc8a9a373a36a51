"""Deploys an ONNX file of your own and runs the bundle: python examples/own_onnx.py MODEL.onnx INPUT OUTPUT

The bundle is written beside the ONNX file, with the fp32, fp16 and INT8 graphs that passed their checks.
"""

import sys
from pathlib import Path

import sr_edge
from sr_edge.deploy import DeployPlan, DeployReport
from sr_edge.model_sources import NetworkChoice, load_network


def deploy(onnx_file: Path, images: Path | None = None) -> DeployReport:
    """Calibrates on `images`, which should be like those of the device; None takes the two bundled pictures."""
    network = load_network(NetworkChoice(str(onnx_file)))
    tile = network.tile or network.card.default_tile
    plan = DeployPlan(tile, runtimes=["openvino"], rounds=5)
    return sr_edge.deploy_network(network, images, onnx_file.with_suffix(".sredge"), plan)


def main(onnx_file: Path, source: Path, target: Path) -> None:
    report = deploy(onnx_file)
    print(report, *(advice.python for advice in report.recommendations), sep="\n")
    with sr_edge.open_upscaler(report.path) as upscaler:
        sr_edge.upscale_file(upscaler, source, target)


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    try:
        main(*map(Path, sys.argv[1:]))
    except sr_edge.SrEdgeError as error:
        sys.exit(f"error: {error}")
