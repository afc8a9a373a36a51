"""Adaptive pooling to sizes that do not divide the input size, as it is traced with constant parts."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from sr_edge.export import Form, export_onnx
from sr_edge.export.passes.adaptive_pooling import average_by_size, maximum_by_size, pooled
from sr_edge.models import LoadedModel
from sr_edge.spec import ModelCard, TileSpec
from tests.export.odd_networks import PoolingNetwork


@pytest.mark.parametrize("seed", range(20))
def test_random_sizes(seed: int) -> None:
    generator = random.Random(seed)
    height, width, rows, columns = (generator.randint(1, 17) for _ in range(4))
    x = torch.randn(1, 3, height, width, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    size = (rows, None if generator.random() < 0.2 else columns)
    assert torch.equal(maximum_by_size(x, size), functional.adaptive_max_pool2d(x, size))  # type: ignore[arg-type]  # None is allowed
    torch.testing.assert_close(average_by_size(x, size), functional.adaptive_avg_pool2d(x, size), rtol=0, atol=1e-12)


def test_what_the_exporters_know_is_left_to_them() -> None:
    x = torch.randn(1, 3, 12, 16)
    assert pooled(functional.adaptive_avg_pool2d, (x, 4), {}) is None
    assert pooled(functional.adaptive_max_pool2d, (x, (6, 1)), {"return_indices": False}) is None
    assert pooled(functional.adaptive_max_pool2d, (x, 5), {"return_indices": True}) is None
    assert pooled(functional.avg_pool2d, (x, 5), {}) is None
    assert pooled(functional.adaptive_avg_pool2d, (x,), {"output_size": 5}) is not None


def test_a_network_that_pools_to_a_fifth_is_exported(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = LoadedModel(PoolingNetwork().eval(), ModelCard(name="odd", scale=2, parameters=1))
    report = export_onnx(model, TileSpec(12, 16), tmp_path / "net.onnx")
    assert (report.metadata.form, report.warnings) == (Form.STATIC, ())
    assert report.parity.max_abs_error < 1e-5
