"""STEA against equation 15 written out with plain matrices, its published sizes, and its input's global mean."""

from __future__ import annotations

import math
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import nn

from sr_edge.errors import UsageError
from sr_edge.models.layers.channel_attention import GlobalMean
from sr_edge.models.layers.stea import STEA
from sr_edge.models.macs import count_layer_macs
from sr_edge.models.registry import count_parameters
from tests.expected_errors import raises

Layer = TypeVar("Layer", bound=nn.Module)
Matrix = npt.NDArray[np.float64]
PLANE = torch.Size((1, 64, 64, 64))


def trained(layer: Layer) -> Layer:
    """Weights of no special value."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.normal_(0.2, 1.0 if parameter.ndim == 1 else parameter[0].numel() ** -0.5)
    return layer.double().eval()


def convolutions(block: nn.Module) -> list[tuple[Matrix, Matrix]]:
    """Kernels (out, in, k, k) and biases of a block, in order."""
    convs = [layer for layer in block.children() if isinstance(layer, nn.Conv2d)]
    return [(conv.weight.detach().numpy(), conv.state_dict()["bias"].numpy()) for conv in convs]


def affine(block: nn.Module, tokens: Matrix) -> Matrix:
    """Rows of `tokens` through the 1x1 convolutions of `block`, one after the other, with nothing between."""
    for weight, bias in convolutions(block):
        tokens = tokens @ weight[:, :, 0, 0].T + bias
    return tokens


def linear_part(block: nn.Module, tokens: Matrix) -> Matrix:
    return affine(block, tokens) - affine(block, np.zeros_like(tokens))


def squeeze(block: nn.Module, vector: Matrix) -> Matrix:
    """sigmoid(U relu(D p)), element by element."""
    (wd, bd), (wu, bu) = ((weight[:, :, 0, 0], bias) for weight, bias in convolutions(block))
    hidden = [max(0.0, sum(w * p for w, p in zip(row, vector, strict=True)) + b) for row, b in zip(wd, bd, strict=True)]
    scores = [sum(w * h for w, h in zip(row, hidden, strict=True)) + b for row, b in zip(wu, bu, strict=True)]
    return np.array([1 / (1 + math.exp(-score)) for score in scores])


def depthwise_values(block: nn.Module, plane: Matrix) -> Matrix:
    """DWC of a (C, h, w) plane: every output pixel as a sum over its 5x5 neighbours, then a 1x1 map."""
    (kernel, offset), (weight, bias) = convolutions(block)
    channels, height, width = plane.shape
    out = np.zeros_like(plane)
    for y in range(height):
        for x in range(width):
            for j in range(-2, 3):
                for i in range(-2, 3):
                    if 0 <= y + j < height and 0 <= x + i < width:
                        out[:, y, x] += kernel[:, 0, j + 2, i + 2] * plane[:, y + j, x + i]
    tokens = (out + offset[:, None, None]).reshape(channels, -1).T
    return (tokens @ weight[:, :, 0, 0].T + bias).T.reshape(plane.shape)


def equation_15(layer: STEA, plane: Matrix) -> Matrix:
    """Term by term: N x C tokens X, diagonal matrices B as matrices; biases enter with each W, that of W_3 once."""
    channels = plane.shape[0]
    x = plane.reshape(channels, -1).T
    mean = x.mean(0, keepdims=True)
    diagonals = [np.diag(affine(layer.b_1, mean)[0]), *(np.diag(squeeze(block, mean[0])) for block in layer.b_2)]
    values = affine(layer.w_v, x)
    total = values + affine(layer.w_3, np.zeros_like(x))
    chain = affine(layer.w_1, x) @ diagonals[0]
    total += linear_part(layer.w_3, chain)
    for block, diagonal in zip(layer.w_2, diagonals[1:], strict=True):
        chain = affine(block, chain) @ diagonal
        total += linear_part(layer.w_3, chain)
    out = (total / layer.k.item()).T.reshape(plane.shape)
    if layer.dwc is not None:
        out = out + depthwise_values(layer.dwc, values.T.reshape(plane.shape))
    return out


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("use_dwc", [False, True])
def test_equation_15(order: int, use_dwc: bool) -> None:
    layer = trained(STEA(16, order, use_output_proj=False, use_dwc=use_dwc))
    x = torch.randn(1, 16, 5, 7, dtype=torch.float64)
    with torch.inference_mode():
        np.testing.assert_allclose(layer(x)[0].numpy(), equation_15(layer, x[0].numpy()), rtol=0, atol=1e-12)


def test_the_output_projection_acts_on_the_bracket_alone() -> None:
    layer = trained(STEA(16, use_dwc=False))
    x = torch.randn(1, 16, 5, 7, dtype=torch.float64)
    with torch.inference_mode():
        projected = layer(x)
        projection, layer.output_proj = layer.output_proj, nn.Identity()
        torch.testing.assert_close(projected, projection(layer(x)), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("order", "use_dwc", "parameters", "mega_macs"),
    [(1, False, 10_640, 33.6), (1, True, 16_464, 56.9), (2, True, 19_172, 65.3), (3, True, 21_880, 73.7)],
)
def test_sizes_of_table_iv(order: int, use_dwc: bool, parameters: int, mega_macs: float) -> None:
    """The published counts are those of the maps; k, one number, is beside them."""
    with torch.device("meta"):
        layer = STEA(64, order, use_dwc=use_dwc)
    assert count_parameters(layer) - layer.k.numel() == parameters
    assert round(count_layer_macs(layer, PLANE) / 1e6, 1) == mega_macs


def test_cost_is_linear_in_the_number_of_tokens() -> None:
    with torch.device("meta"):
        layer = STEA(64)
    small, large = (count_layer_macs(layer, torch.Size((1, 64, side, side))) for side in (64, 256))
    assert large / small == pytest.approx(16, rel=1e-3)


def test_the_global_mean_is_the_only_thing_that_reaches_across_the_plane() -> None:
    layer = trained(STEA(16))
    assert [name for name, part in layer.named_modules() if isinstance(part, GlobalMean)] == ["mean"]
    x = torch.randn(1, 16, 12, 12, dtype=torch.float64)
    moved = x.clone()
    moved[..., 0, 0] += 1

    class Frozen(GlobalMean):
        def forward(self, _: torch.Tensor) -> torch.Tensor:
            return GlobalMean.forward(self, x)

    with torch.inference_mode():
        assert not torch.equal(layer(x)[..., 6, 6], layer(moved)[..., 6, 6])
        layer.mean = Frozen()
        assert torch.equal(layer(x)[..., 6, 6], layer(moved)[..., 6, 6])


def test_impossible_layers_are_refused() -> None:
    with raises(UsageError, found=4, wanted=(1, 2, 3)):
        STEA(16, 4)
    with raises(UsageError, found=18, wanted=4):
        STEA(18)
