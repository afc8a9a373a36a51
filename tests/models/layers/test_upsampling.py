"""The fixed-kernel enlargement is the bicubic of our metrics, to float32 rounding."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sr_edge.models.layers.upsampling import BicubicUpsampler, bicubic_kernel
from sr_edge.resize import resize_bicubic


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("size", [(2, 2), (7, 12)])
def test_equal_to_the_resize_that_metrics_use(scale: int, size: tuple[int, int]) -> None:
    picture = np.random.default_rng(0).random((*size, 3), np.float32)
    batch = torch.from_numpy(picture.transpose(2, 0, 1)[None])
    enlarged = BicubicUpsampler(scale)(batch)[0].numpy().transpose(1, 2, 0)
    np.testing.assert_allclose(enlarged, resize_bicubic(picture, float(scale)), rtol=0, atol=1e-6)


def test_every_phase_keeps_a_flat_picture() -> None:
    kernel = bicubic_kernel(3)
    assert kernel.shape == (9, 1, 5, 5)
    torch.testing.assert_close(kernel.sum((1, 2, 3)), torch.ones(9))


def test_it_has_no_weights_to_train_or_store() -> None:
    layer = BicubicUpsampler(2)
    assert not list(layer.parameters()) and not layer.state_dict()
