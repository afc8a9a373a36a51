"""Every registered network: its size, its shapes, and the rules for windows."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sr_edge.errors import TileError, UnknownNameError, UsageError
from sr_edge.export import REWRITES
from sr_edge.export.twins import registry
from sr_edge.models import ARCHITECTURES, build_network, model_names, model_rows
from sr_edge.models.architectures.swinir import MASKED, partition, relative_position_index, shift_mask, unpartition
from sr_edge.models.architectures.taylor_swinir import TAYLOR_SWINIR_SIZES, TaylorBlock, window_bands
from sr_edge.models.layers.swin import pad_to_multiple
from sr_edge.models.layers.taylor_shift import taylor_attention_direct
from sr_edge.models.registry import SCALES
from tests.expected_errors import raises

PUBLISHED_PARAMETERS = {
    ("taylor-swinir-m", 2): 11_704_103,
    ("taylor-swinir-light", 2): 910_152 - 24 * 15**2 * 6 + 24 * 6,
    ("taylor-swinir-light", 4): 929_628 - 24 * 15**2 * 6 + 24 * 6,
    ("swinir-m", 2): 11_752_487,
    ("swinir-light", 2): 910_152,
    ("swinir-light", 4): 929_628,
}
CEILINGS = {"taylor-swinir-tiny": 200_000, "convnet-tiny": 60_000}


def test_parameter_counts_are_the_published_ones() -> None:
    counts = {(row.name, scale): count for row in model_rows() for scale, count in row.parameters.items()}
    assert {key: counts[key] for key in PUBLISHED_PARAMETERS} == PUBLISHED_PARAMETERS
    assert all(counts[name, scale] <= ceiling for name, ceiling in CEILINGS.items() for scale in SCALES)


@pytest.mark.parametrize("name", [name for name in model_names() if not name.endswith("-m")])
@pytest.mark.parametrize("scale", SCALES)
def test_every_network_enlarges_by_its_scale(name: str, scale: int) -> None:
    network = build_network(name, scale)
    with torch.inference_mode():
        assert network(torch.rand(1, 3, 30, 40)).shape == (1, 3, 30 * scale, 40 * scale)


def test_names_and_scales_that_do_not_exist_are_refused() -> None:
    with raises(UnknownNameError, found="taylor-swinir-huge", wanted=model_names()):
        build_network("taylor-swinir-huge", 2)
    with raises(UsageError, found=5, wanted=SCALES):
        build_network("convnet-tiny", 5)


def test_architecture_names_are_unique() -> None:
    assert len(set(model_names())) == len(model_names()) == sum(len(a.sizes) for a in ARCHITECTURES)


def test_a_layer_type_has_one_static_twin() -> None:
    types = [layer_type for layer_type, _ in REWRITES]
    assert len(set(types)) == len(types)


def test_every_module_of_twins_belongs_to_an_architecture() -> None:
    named = {name for architecture in ARCHITECTURES for name in architecture.static_twins}
    modules = Path(registry.__file__).parent.glob("*.py")
    assert named == {path.stem for path in modules if "\nTWINS" in path.read_text(encoding="utf-8")}


def test_window_bands_cut_where_the_mask_separates() -> None:
    assert window_bands(96, 48, 24) == [slice(0, 24), slice(24, 72), slice(72, 96)]
    assert window_bands(96, 48, 0) == [slice(0, 48), slice(48, 96)]
    assert window_bands(48, 48, 0) == [slice(0, 48)]


@pytest.mark.parametrize(("height", "width"), [(16, 16), (8, 16), (24, 16)])
def test_shifted_block_is_swins_masked_attention(height: int, width: int) -> None:
    """Regions against the roll-and-mask of Swin, its mask multiplying t(s) by 0 or 1, in float64."""
    torch.manual_seed(0)
    window = 8
    config = TAYLOR_SWINIR_SIZES["tiny"]
    block = TaylorBlock(config, shifted=True).double().eval()
    block.window = window
    x = torch.randn(1, height, width, config.dim, dtype=torch.float64)
    shift = window // 2 if min(height, width) > window else 0
    with torch.inference_mode():
        difference = block.attend(x) - masked_attention(block, x, window, shift)
    assert difference.abs().max() <= 1e-12


def masked_attention(block: TaylorBlock, x: torch.Tensor, window: int, shift: int) -> torch.Tensor:
    """The definition, written from Swin: roll, windows, weights t(s) masked and normalised, roll back."""
    height, width = x.shape[1:3]
    layer, heads = block.attn, block.attn.heads
    windows = partition(torch.roll(x, (-shift, -shift), (1, 2)), window)
    count, tokens, dim = windows.shape
    q, k, v = layer.qkv(windows).reshape(count, tokens, 3, heads, dim // heads).permute(2, 0, 3, 1, 4)
    scores = layer.temperature * (q / q.norm(dim=-1, keepdim=True)) @ (k / k.norm(dim=-1, keepdim=True)).mT
    weights = 1 + scores + scores**2 / 2
    if shift:
        weights = weights * (shift_mask(height, width, window, shift) == 0)[:, None]
    out = (weights / weights.sum(-1, keepdim=True)) @ v
    projected = layer.proj(out.transpose(1, 2).reshape(count, tokens, dim))
    return torch.roll(unpartition(projected, window, height, width), (shift, shift), (1, 2))


def test_no_shift_where_one_window_spans_the_shorter_side() -> None:
    block = TaylorBlock(TAYLOR_SWINIR_SIZES["tiny"], shifted=True)
    assert [block.shift_for(*size) for size in ((48, 48), (48, 96), (96, 96))] == [0, 0, 24]


def test_partition_and_its_inverse() -> None:
    x = torch.arange(2 * 8 * 12 * 3.0).reshape(2, 8, 12, 3)
    windows = partition(x, 4)
    assert windows.shape == (12, 16, 3)
    assert torch.equal(windows[1].reshape(4, 4, 3), x[0, :4, 4:8])
    assert torch.equal(unpartition(windows, 4, 8, 12), x)


def test_swin_tables() -> None:
    index = relative_position_index(2)
    assert index.tolist() == [[4, 3, 1, 0], [5, 4, 2, 1], [7, 6, 4, 3], [8, 7, 5, 4]]
    mask = shift_mask(8, 8, 4, 2)
    assert mask.shape == (4, 16, 16) and not mask[0].any()
    assert mask[3, 0, 15] == MASKED and mask[3, 0, 1] == 0


def test_padding_that_reflection_cannot_give_is_refused() -> None:
    assert pad_to_multiple(torch.rand(1, 3, 30, 48), 48).shape == (1, 3, 48, 48)
    with raises(TileError, found=(20, 48), wanted=25):
        pad_to_multiple(torch.rand(1, 3, 20, 48), 48)


def test_both_forms_serve_the_layer() -> None:
    """The layer takes the direct form at few tokens and the efficient one at many; both give the definition."""
    torch.manual_seed(0)
    layer = TaylorBlock(TAYLOR_SWINIR_SIZES["tiny"], shifted=False).attn.double()
    for tokens in (20, 200):
        x = torch.randn(1, tokens, 32, dtype=torch.float64)
        q, k, v = layer.qkv(x).reshape(1, tokens, 3, 4, 8).permute(2, 0, 3, 1, 4)
        wanted = layer.proj(taylor_attention_direct(q, k, v, layer.temperature).transpose(1, 2).reshape(x.shape))
        torch.testing.assert_close(layer(x), wanted, rtol=0, atol=1e-12)
