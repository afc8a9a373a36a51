"""A small trained network, as PyTorch and as an ONNX file of dynamic batch and sizes."""

from __future__ import annotations

import warnings
from pathlib import Path

import onnx
import pytest
import torch
from torch import nn

from sr_edge.models import load_model


@pytest.fixture(scope="session")
def network() -> nn.Module:
    """The bundled convnet-tiny x2: trained, so that its range of values can be found out."""
    return load_model("convnet-tiny", 2).module


@pytest.fixture(scope="session")
def model(network: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> onnx.ModelProto:
    """Its ONNX graph as torch exports it: opset 17, named axes; do not change it."""
    path: Path = tmp_path_factory.mktemp("network") / "network.onnx"
    axes = {0: "n", 2: "h", 3: "w"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network,
            (torch.zeros(1, 3, 16, 24),),
            path,
            opset_version=17,
            dynamo=False,
            input_names=["picture"],
            output_names=["enlarged"],
            dynamic_axes={"picture": axes, "enlarged": axes},
        )
    return onnx.load(path)
