"""Static twins equal their training forms in float64, for every form, size and region layout."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import nn

from sr_edge.errors import ExportError, TileError
from sr_edge.export.twins.mean_free import MeanFreeNorm, fold_norm, mean_reflection
from sr_edge.export.twins.registry import forms_of, to_static
from sr_edge.export.twins.swin import CellGrid
from sr_edge.export.twins.taylor import (
    AttentionForm,
    Products,
    StaticTaylorTokens,
    choose_form,
    feature_count,
    feature_pairs,
    feature_weights,
)
from sr_edge.models import build_network
from sr_edge.models.architectures.taylor_swinir import TaylorSwinIR
from sr_edge.models.layers.swin import SwinConfig, Upsampler
from sr_edge.models.layers.taylor_shift import TaylorShiftAttention
from sr_edge.spec import TileSpec
from tests.expected_errors import raises
from tests.export.twins.equal_twins import randomised, require_equal_twin

SMALL = SwinConfig(12, (2, 2), 3, 8, 2, Upsampler.PIXELSHUFFLE_DIRECT)


def config(**changes: object) -> SwinConfig:
    return SwinConfig(**{**SMALL.__dict__, **changes})


def configs() -> Iterator[tuple[SwinConfig, int, int]]:
    yield SMALL, 8, 8
    yield SMALL, 16, 16
    yield SMALL, 8, 24
    yield SMALL, 24, 16
    yield config(heads=2, window=16), 32, 48  # d = 6, efficient
    yield config(heads=4, window=16), 32, 32  # d = 3, even number of coordinates
    yield config(upsampler=Upsampler.PIXELSHUFFLE, scale=4), 16, 16
    yield config(scale=3), 16, 8


@pytest.mark.parametrize(("size", "height", "width"), list(configs()))
def test_taylor_swinir_twin_equals_the_training_form(size: SwinConfig, height: int, width: int) -> None:
    require_equal_twin(randomised(TaylorSwinIR(size)), height, width)


def test_both_forms_are_reached_by_the_configurations_above() -> None:
    forms = {
        form.split(",")[0]
        for size, height, width in configs()
        for form in forms_of(to_static(TaylorSwinIR(size), height, width)).values()
    }
    assert forms == {"direct", "efficient"}


@pytest.mark.parametrize(("tokens", "dim", "heads"), [(16, 12, 3), (60, 20, 2), (400, 20, 2), (200, 12, 4)])
def test_lone_attention_layer(tokens: int, dim: int, heads: int) -> None:
    layer = randomised(TaylorShiftAttention(dim, heads))
    x = torch.randn(2, tokens, dim, dtype=torch.float64)
    with torch.inference_mode():
        assert (StaticTaylorTokens(layer, x.shape)(x) - layer(x)).abs().max() <= 1e-10


def test_a_layer_inside_a_foreign_network_is_replaced() -> None:
    class Foreign(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 12, 1)
            self.attention = TaylorShiftAttention(12, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            tokens = self.conv(x).flatten(2).transpose(1, 2)
            return self.attention(tokens).transpose(1, 2).reshape(1, 12, *x.shape[2:])

    network = randomised(Foreign())
    static = to_static(network, 6, 10)
    x = torch.rand(1, 3, 6, 10, dtype=torch.float64)
    assert [type(layer) for layer in static.children()] == [nn.Conv2d, StaticTaylorTokens]
    assert (static(x) - network(x)).abs().max() <= 1e-10


def test_a_layer_used_at_two_sizes_is_refused() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = TaylorShiftAttention(3, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            tokens = x.flatten(2).transpose(1, 2)
            return self.attention(tokens) + self.attention(tokens[:, :4]).mean()

    with raises(ExportError, found=2, wanted=1):
        to_static(Twice(), 6, 6)


def test_a_network_without_such_layers_is_its_own_deployed_form() -> None:
    network = build_network("convnet-tiny", 2).eval()
    static = to_static(network, 16, 16)
    assert static is network and not static.training
    x = torch.rand(1, 3, 16, 16)
    assert torch.equal(static(x), network(x))


def test_a_twin_has_no_twin() -> None:
    static = to_static(TaylorSwinIR(SMALL), 16, 16)
    again = to_static(static, 16, 16)
    assert [type(layer) for layer in again.modules()] == [type(layer) for layer in static.modules()]


def test_a_tile_that_no_window_divides_says_which_would() -> None:
    with raises(TileError, found=TileSpec(30, 20), wanted=8):
        to_static(TaylorSwinIR(SMALL), 30, 20)


@pytest.mark.parametrize("d", [1, 2, 3, 8, 10])
def test_products_reproduce_the_taylor_weight(d: int) -> None:
    """sum c phi(u) phi(w) = 1 + s + s²/2, every pair once."""
    torch.manual_seed(0)
    pairs = {tuple(sorted(pair)) for pair in feature_pairs(d).T.tolist()}
    assert len(pairs) == feature_pairs(d).shape[1] == feature_count(d)
    q, k = torch.randn(2, 1, 1, d, 7, dtype=torch.float64)
    one = torch.ones(1, 1, 1, 7, dtype=torch.float64)
    phi_q, phi_k = (Products(d)(torch.cat([one, x], dim=2)) for x in (q, k))
    weights = (phi_q * feature_weights(d)[:, None]).transpose(-1, -2) @ phi_k
    scores = q.transpose(-1, -2) @ k
    torch.testing.assert_close(weights, 1 + scores + scores**2 / 2)


def test_forms_meet_at_the_symmetric_crossover() -> None:
    assert choose_form(72, 10) is AttentionForm.DIRECT
    assert choose_form(73, 10) is AttentionForm.EFFICIENT


def test_cells_group_into_the_regions_of_shifted_windows() -> None:
    grid = CellGrid(32, 16, 8)
    regions = grid.labels(shifted=True).reshape(8, 4)
    assert [[len(set(regions[:, 0].tolist())), len(set(regions[0].tolist()))]] == [[5, 3]]
    assert regions[1, 1] == regions[2, 2] != regions[0, 0]
    plane = torch.arange(2 * 32 * 16.0).reshape(1, 2, 32, 16)
    assert torch.equal(grid.join(grid.cut(plane)), plane)
    assert torch.equal(grid.cut(plane)[5], plane[0, :, 4:8, 4:8])


def test_mean_free_norm_is_layer_norm_and_does_not_cancel() -> None:
    """A common offset of 10 standard deviations costs float32 nothing, since nothing is subtracted."""
    torch.manual_seed(0)
    norm = nn.LayerNorm(60)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    x = torch.randn(1, 60, 4, 4, dtype=torch.float64) + 10
    reflection = mean_reflection(60)
    torch.testing.assert_close(reflection @ reflection, torch.eye(60, dtype=torch.float64))
    weight, bias = fold_norm(norm.double(), torch.eye(60), torch.zeros(60))
    wanted = norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    reflected = torch.einsum("ij,bjhw->bihw", reflection, x)
    for dtype, bound in ((torch.float64, 1e-12), (torch.float32, 1e-5)):
        normed = MeanFreeNorm(norm.to(dtype))(reflected.to(dtype)).double()
        actual = torch.einsum("ij,bjhw->bihw", weight, normed) + bias[:, None, None]
        assert (actual - wanted).abs().max() <= bound
