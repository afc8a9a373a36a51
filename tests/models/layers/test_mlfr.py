"""MLFR against equations 16 to 19 written out pixel by pixel, and its sizes beside the published ones."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import nn

from sr_edge.models.layers.mlfr import DEPTHWISE_KERNELS, MLFR, MLFRBranch, group_count
from sr_edge.models.macs import count_layer_macs
from sr_edge.models.registry import count_parameters

Plane = npt.NDArray[np.float64]


def convolved(conv: nn.Conv2d, plane: Plane) -> Plane:
    """The definition of a dilated, grouped, zero-padded convolution, one product at a time."""
    weight, bias = conv.weight.detach().numpy(), conv.state_dict()["bias"].numpy()
    outputs, per_group, kernel, _ = weight.shape
    _, height, width = plane.shape
    out = np.empty((outputs, height, width))
    for o in range(outputs):
        first = o // (outputs // conv.groups) * per_group
        for y in range(height):
            for x in range(width):
                total = bias[o]
                for j in range(kernel):
                    for i in range(kernel):
                        row = y + (j - kernel // 2) * conv.dilation[0]
                        column = x + (i - kernel // 2) * conv.dilation[0]
                        if 0 <= row < height and 0 <= column < width:
                            total += weight[o, :, j, i] @ plane[first : first + per_group, row, column]
                out[o, y, x] = total
    return out


def branches(layer: MLFR) -> list[MLFRBranch]:
    return [branch for branch in layer.branches if isinstance(branch, MLFRBranch)]


def equations_16_to_19(layer: MLFR, plane: Plane) -> Plane:
    fused = []
    for branch in branches(layer):
        both = np.concatenate([convolved(branch.dilated, plane), convolved(branch.depthwise, plane)])
        fused.append(convolved(branch.fuse, both))
    return convolved(layer.fuse, np.concatenate([*fused, convolved(layer.bypass, plane)]))


@pytest.mark.parametrize("dilations", [(6, 4, 2), (6,)])
def test_equations_16_to_19(dilations: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    layer = MLFR(8, dilations).double().eval()
    x = torch.randn(1, 8, 9, 8, dtype=torch.float64)
    with torch.inference_mode():
        np.testing.assert_allclose(layer(x)[0].numpy(), equations_16_to_19(layer, x[0].numpy()), rtol=0, atol=1e-12)


def test_branches_have_the_rates_and_kernels_of_the_layout() -> None:
    layer = MLFR(64)
    actual = {b.dilated.dilation[0]: (b.dilated.groups, b.depthwise.kernel_size[0]) for b in branches(layer)}
    assert actual == {6: (4, 13), 4: (4, 5), 2: (4, 7)} and list(DEPTHWISE_KERNELS) == [6, 4, 2]


@pytest.mark.parametrize(
    ("dilations", "parameters", "paper", "within"),
    [((6,), 40_832, 50_500, 0.20), ((6, 4), 64_128, 64_100, 0.001), ((6, 4, 2), 88_960, 89_900, 0.02)],
)
def test_sizes_beside_table_v(dilations: tuple[int, ...], parameters: int, paper: int, within: float) -> None:
    with torch.device("meta"):
        layer = MLFR(64, dilations)
    assert count_parameters(layer) == parameters == pytest.approx(paper, rel=within)


def test_work_beside_table_v() -> None:
    with torch.device("meta"):
        layer = MLFR(64)
    assert count_layer_macs(layer, torch.Size((1, 64, 64, 64))) == pytest.approx(358e6, rel=0.02)


def test_groups_leave_each_sixteen_channels_or_more() -> None:
    assert {width: group_count(width) for width in (8, 16, 48, 64, 88, 256)} == {
        8: 1,
        16: 1,
        48: 3,
        64: 4,
        88: 4,
        256: 16,
    }
