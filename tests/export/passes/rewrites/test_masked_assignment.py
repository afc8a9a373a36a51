"""Assignments to the elements of a mask, as torch's exporter writes them, become selections."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from sr_edge.export.graph.onnxruntime_run import run_onnxruntime
from sr_edge.export.passes.rewrites.masked_assignment import assignment_as_selection
from sr_edge.export.passes.simplify import simplify
from sr_edge.export.passes.tracing import trace
from sr_edge.spec import TileSpec
from tests.export.passes.rewrites.equal_graphs import operators_of

TILE = TileSpec(5, 7)


class Hue(nn.Module):
    """The hue of pixels, as HVI-CIDNet computes it."""

    def forward(self, x: Tensor) -> Tensor:
        largest, smallest = x.amax(1), x.amin(1)
        hue = torch.zeros_like(largest)
        for channel, (first, second) in enumerate(((1, 2), (2, 0), (0, 1))):
            shade = (x[:, first] - x[:, second]) / (largest - smallest + 1e-8)
            hue[x[:, channel] == largest] = (2.0 * channel + shade)[x[:, channel] == largest] % 6
        return hue[:, None] / 6.0


class OtherMask(nn.Module):
    """Assigns the elements of one mask to the positions of another one, which has as many."""

    def forward(self, x: Tensor) -> Tensor:
        y = x.clone()
        y[x > 0.5] = torch.sqrt(x)[x.flip(3) > 0.5]
        return y


class Cumulative(nn.Module):
    """Computes with neighbours in the list of masked elements."""

    def forward(self, x: Tensor) -> Tensor:
        y = x.clone()
        chosen = x[x > 0.5]
        y[x > 0.5] = chosen - chosen.flip(0)
        return y


def traced(network: nn.Module) -> onnx.ModelProto:
    return simplify(trace(network, TILE)).model


def test_what_networks_write() -> None:
    model = traced(Hue())
    assert {"NonZero", "ScatterND"} <= operators_of(model)
    result = assignment_as_selection(model)
    assert result.changed
    assert {"NonZero", "GatherND", "ScatterND", "Shape"}.isdisjoint(operators_of(result.model))
    onnx.checker.check_model(result.model, full_check=True)
    generator = np.random.default_rng(0)
    for image in (generator.random((1, 3, 5, 7)), np.zeros((1, 3, 5, 7)), generator.integers(0, 2, (1, 3, 5, 7))):
        inputs = {"input": image.astype(np.float32)}
        expected = run_onnxruntime(model, inputs)["output"]
        np.testing.assert_array_equal(run_onnxruntime(result.model, inputs)["output"], expected)
    assert not assignment_as_selection(result.model).changed


@pytest.mark.parametrize("network", [OtherMask(), Cumulative()], ids=["another mask", "not element by element"])
def test_others_are_left_alone(network: nn.Module) -> None:
    model = traced(network)
    result = assignment_as_selection(model)
    assert not result.changed
    assert result.model is model
