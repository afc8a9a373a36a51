from __future__ import annotations

import copy
import math
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from sr_edge.errors import ExportError
from sr_edge.export.parity import compare_outputs, compare_with_torch
from sr_edge.export.patches import worst_case_patches
from sr_edge.spec import TileSpec


def test_graph_and_module_agree_to_float32(
    attention_graph: onnx.ModelProto, attention_net: nn.Module, tile: TileSpec, tmp_path: Path
) -> None:
    path = tmp_path / "a.onnx"
    onnx.save(attention_graph, path)
    parity = compare_with_torch(path, attention_net, worst_case_patches(tile))
    parity.require_within(1e-5)
    assert parity.psnr_db > 120.0


def test_a_slightly_different_module_is_refused(
    shuffle_graph: onnx.ModelProto, shuffle_net: nn.Module, tile: TileSpec
) -> None:
    other = copy.deepcopy(shuffle_net)
    with torch.no_grad():
        other.get_parameter("last.bias").add_(1e-3)
    parity = compare_with_torch(shuffle_graph, other, worst_case_patches(tile))
    assert parity.max_abs_error == pytest.approx(1e-3, rel=1e-2)
    assert parity.psnr_db == pytest.approx(60.0, abs=0.1)
    with pytest.raises(ExportError, match=r"differs from the PyTorch module by 0\.001"):
        parity.require_within(1e-4)


def test_a_value_that_is_not_finite_is_an_infinite_error() -> None:
    good, bad = np.zeros((1, 3)), np.array([[0.0, math.nan, 0.0]])
    parity = compare_outputs([bad], [good])
    assert parity.max_abs_error == math.inf
    with pytest.raises(ExportError, match="differs"):
        parity.require_within(1e9)


def test_equal_pictures_have_infinite_psnr_and_no_error() -> None:
    picture = np.full((1, 3, 2, 2), 0.5, np.float32)
    parity = compare_outputs([picture], [picture])
    assert (parity.max_abs_error, parity.psnr_db) == (0.0, math.inf)


def test_nothing_to_compare_and_other_shapes_are_refused() -> None:
    with pytest.raises(ExportError, match="at least one patch"):
        compare_outputs([], [])
    with pytest.raises(ExportError, match="export is wrong"):
        compare_outputs([np.zeros(2)], [np.zeros(3)])


def test_worst_cases_span_the_whole_range(tile: TileSpec) -> None:
    patches = worst_case_patches(tile)
    assert {patch.shape for patch in patches} == {(1, 3, tile.height, tile.width)}
    assert min(patch.min() for patch in patches) == 0.0
    assert max(patch.max() for patch in patches) == 1.0
    assert all(patch.dtype == np.float32 for patch in patches)
