"""The parity gate refuses wrong graphs, patch by patch, and excuses only what the network's own rounding explains."""

from __future__ import annotations

import copy
import math
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from sr_edge.errors import ExportError, NotDeployable
from sr_edge.export.checks.parity import (
    NOISE_FACTOR,
    NOISE_THRESHOLD,
    PARITY_BOUND,
    Difference,
    Parity,
    PatchParity,
    compare_with_network,
    difference,
)
from sr_edge.export.checks.references.float64 import run_float64
from sr_edge.export.graph.patches import CheckPatch, PatchKind, check_patches, worst_case_patches
from sr_edge.export.passes.simplify import simplify
from sr_edge.export.passes.tracing import trace
from sr_edge.spec import TileSpec
from tests.expected_errors import raises
from tests.export.checks.counted import counted_worst_cases, photographs
from tests.export.odd_networks import Upscaling

TILE = TileSpec(16, 16)


def refused(graph: onnx.ModelProto | Path, module: nn.Module, tile: TileSpec = TILE) -> bool:
    """Whether the gate refuses on the patches that every export is checked on."""
    parity = compare_with_network(graph, module, check_patches(tile))
    if parity.passed:
        parity.require_within("")
        return False
    with raises(ExportError, problem=parity.refusal, remedy="look at it"):
        parity.require_within("look at it")
    return True


def with_changed_constant(graph: onnx.ModelProto, suffix: str, change: object) -> onnx.ModelProto:
    """A copy of the graph in which `change` was applied to the initializer whose name ends so."""
    changed = onnx.ModelProto()
    changed.CopyFrom(graph)
    (tensor,) = [constant for constant in changed.graph.initializer if constant.name.endswith(suffix)]
    values = onnx.numpy_helper.to_array(tensor).copy()
    assert callable(change)
    tensor.CopyFrom(onnx.numpy_helper.from_array(np.ascontiguousarray(change(values), dtype=np.float32), tensor.name))
    return changed


def test_graph_and_module_agree_to_float32(
    attention_graph: onnx.ModelProto, attention_net: nn.Module, tile: TileSpec, tmp_path: Path
) -> None:
    path = tmp_path / "a.onnx"
    onnx.save(attention_graph, path)
    parity = compare_with_network(path, attention_net, check_patches(tile))
    assert parity.passed and not parity.excused
    assert parity.max_abs_error < 1e-5
    assert parity.psnr_db > 110.0
    assert not refused(path, attention_net, tile)


def test_a_slightly_different_module_is_refused(
    shuffle_graph: onnx.ModelProto, shuffle_net: nn.Module, tile: TileSpec
) -> None:
    other = copy.deepcopy(shuffle_net)
    with torch.no_grad():
        other.get_parameter("last.bias").add_(1e-3)
    parity = compare_with_network(shuffle_graph, other, counted_worst_cases(tile))
    assert parity.max_abs_error == pytest.approx(1e-3, rel=1e-2)
    assert parity.psnr_db == pytest.approx(60.0, abs=0.1)
    assert refused(shuffle_graph, other, tile)


class Amplifier(nn.Module):
    """A convolution network that is tame on pictures and, by the energy of fine detail, explodes on binary noise."""

    def __init__(self, gain: float = 1.0) -> None:
        super().__init__()
        self.detail = nn.Conv2d(3, 3, 3, padding=1, groups=3, bias=False)
        self.last = nn.Conv2d(3, 12, 3, padding=1)
        self.gain = gain
        with torch.no_grad():
            self.detail.weight.copy_(torch.tensor([[0.0, -1, 0], [-1, 4, -1], [0, -1, 0]]).expand(3, 1, 3, 3))
            self.last.weight.mul_(0.5)

    def forward(self, x: Tensor) -> Tensor:
        burst = torch.relu(self.detail(x).abs().mean() - 1.0) * self.gain
        return nn.functional.pixel_shuffle(self.last(x) * (1.0 + burst) ** 4, 2)


@pytest.fixture(scope="module")
def exploding() -> tuple[onnx.ModelProto, nn.Module]:
    """On binary noise its output peaks near 1e3 and its float32 output is off by more than the bound for pictures."""
    torch.manual_seed(0)
    network = Amplifier(gain=9.0).eval()
    return simplify(trace(network, TILE)).model, network


def test_an_unstable_network_is_excused_on_its_worst_case_alone(
    exploding: tuple[onnx.ModelProto, nn.Module],
) -> None:
    graph, network = exploding
    with torch.inference_mode():
        peak = float(network(torch.from_numpy(worst_case_patches(TILE)[1])).abs().max())
    assert peak > 500.0
    assert not refused(graph, network)


class TestWrongGraphsAreRefusedAlthoughAnotherPatchExplodes:
    """Each was within 1e-4 of the largest output over all patches."""

    def test_a_wrong_bias(self, exploding: tuple[onnx.ModelProto, nn.Module]) -> None:
        graph, network = exploding
        assert refused(with_changed_constant(graph, "last.bias", lambda bias: bias + 0.01), network)

    def test_two_channels_swapped(self, exploding: tuple[onnx.ModelProto, nn.Module]) -> None:
        graph, network = exploding
        swapped = with_changed_constant(graph, "last.weight", lambda weight: weight[:, [1, 0, 2]])
        assert refused(swapped, network)

    def test_a_corner_that_is_wrong_on_one_patch(self, exploding: tuple[onnx.ModelProto, nn.Module]) -> None:
        """By 0.05 in one pixel, where another patch peaks at 1000."""
        graph, network = exploding
        wrong = onnx.ModelProto()
        wrong.CopyFrom(graph)
        height, width = 2 * TILE.height, 2 * TILE.width
        corner = np.zeros((1, 3, height, width), np.float32)
        corner[0, :, 0, 0] = 0.05
        wrong.graph.initializer.append(onnx.numpy_helper.from_array(corner, "corner"))
        wrong.graph.node[-1].output[0] = "before_corner"
        wrong.graph.node.append(onnx.helper.make_node("Add", ["before_corner", "corner"], ["output"]))
        assert refused(wrong, network)


class Windows(nn.Module):
    """Multiplies every 4x4 window by its own mean."""

    def __init__(self, shift: int = 0) -> None:
        super().__init__()
        self.shift = shift

    def forward(self, x: Tensor) -> Tensor:
        rolled = torch.roll(x, (self.shift, self.shift), (2, 3))
        means = nn.functional.interpolate(nn.functional.avg_pool2d(rolled, 4), scale_factor=4.0)
        shifted_back = torch.roll(rolled * means, (-self.shift, -self.shift), (2, 3))
        return nn.functional.interpolate(shifted_back, scale_factor=2.0)


def test_windows_shifted_by_one_are_refused() -> None:
    assert not refused(simplify(trace(Windows(), TILE)).model, Windows())
    assert refused(simplify(trace(Windows(shift=1), TILE)).model, Windows())


def patch(kind: PatchKind, error: float, noise: float | None = None) -> PatchParity:
    return PatchParity("a patch", kind, Difference(error, 60.0), noise)


@pytest.mark.parametrize("kind", [PatchKind.PHOTOGRAPH, PatchKind.FLAT])
def test_pictures_are_never_excused(kind: PatchKind, exploding: tuple[onnx.ModelProto, nn.Module]) -> None:
    graph, network = exploding
    binary = worst_case_patches(TILE)[1]
    parity = compare_with_network(graph, network, [CheckPatch("noise called a picture", kind, binary)])
    assert parity.patches[0].float32_noise is None
    assert not parity.passed


def test_a_worst_case_is_excused_by_the_networks_own_noise_up_to_a_multiple_of_it() -> None:
    noise = 3.0 * NOISE_THRESHOLD * 10
    others = (patch(PatchKind.WORST_CASE, 0.0), patch(PatchKind.WORST_CASE, 0.0))
    within = patch(PatchKind.WORST_CASE, 0.99 * NOISE_FACTOR * noise, noise)
    beyond = patch(PatchKind.WORST_CASE, 1.01 * NOISE_FACTOR * noise, noise)
    assert Parity((within, *others)).passed
    assert len(Parity((within, *others)).remarks) == 1
    assert not Parity((beyond, *others)).passed


def test_a_stable_network_is_not_excused() -> None:
    stable = patch(PatchKind.WORST_CASE, 1.01 * PARITY_BOUND, 0.99 * NOISE_THRESHOLD)
    assert not Parity((stable, patch(PatchKind.WORST_CASE, 0.0))).passed


def test_more_than_half_of_the_worst_cases_cannot_be_excused() -> None:
    excused, fine = patch(PatchKind.WORST_CASE, 0.01, 0.01), patch(PatchKind.WORST_CASE, 0.0)
    assert Parity((excused, fine)).passed
    assert not Parity((excused, excused, fine)).passed
    with raises(ExportError, found=2, wanted=1):
        Parity((excused, excused, fine)).require_within("")


def test_nan_of_the_network_itself_excuses_nothing() -> None:
    class Undefined(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return nn.functional.interpolate(torch.log(x - x.mean() + 0.3), scale_factor=2.0)

    parity = compare_with_network(simplify(trace(Undefined(), TILE)).model, Undefined(), check_patches(TILE))
    assert not parity.passed
    assert parity.max_abs_error == math.inf


def test_a_value_that_is_not_finite_is_an_infinite_error() -> None:
    good, bad = np.zeros((1, 3)), np.array([[0.0, math.nan, 0.0]])
    assert difference(bad, good) == Difference(math.inf, -math.inf)


def test_equal_pictures_have_infinite_psnr_and_no_error() -> None:
    picture = np.full((1, 3, 2, 2), 0.5, np.float32)
    assert difference(picture, picture) == Difference(0.0, math.inf)


def test_nothing_to_compare_and_other_shapes_are_refused(
    shuffle_graph: onnx.ModelProto, shuffle_net: nn.Module
) -> None:
    with raises(ExportError, found=0):
        compare_with_network(shuffle_graph, shuffle_net, [])
    with raises(ExportError, found=(2,), wanted=(3,)):
        difference(np.zeros(2), np.zeros(3))


def test_the_patches_hold_photographs_flat_pictures_and_worst_cases(tile: TileSpec) -> None:
    patches = check_patches(tile)
    assert {patch.kind for patch in patches} == set(PatchKind)
    assert {patch.batch.shape for patch in patches} == {(1, 3, tile.height, tile.width)}
    assert min(patch.batch.min() for patch in patches) == 0.0
    assert max(patch.batch.max() for patch in patches) == 1.0
    assert all(patch.batch.dtype == np.float32 for patch in patches)
    assert len({patch.name for patch in patches}) == len(patches)


def test_a_bundled_photograph_joins_those_given(tile: TileSpec) -> None:
    mine = np.full((1, 3, tile.height, tile.width), 0.25, np.float32)
    taken = [patch.batch for patch in check_patches(tile, [mine]) if patch.kind is PatchKind.PHOTOGRAPH]
    assert len(taken) == 2 and taken[0] is mine
    assert taken[1].std() > 0.05


def test_a_bundled_photograph_smaller_than_the_tile_is_continued() -> None:
    (first, *_) = check_patches(TileSpec(400, 600))
    assert first.batch.shape == (1, 3, 400, 600)


class MakesItsOwnTensors(nn.Module):
    """Creates float32 tensors in its forward pass, by default, by name and by conversion; fills one in place."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.table = torch.linspace(0, 1, 3).reshape(1, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        mask = torch.zeros(1, 1, *x.shape[2:])
        mask[..., ::2] = 1.0
        named = torch.ones(1, dtype=torch.float32) / 3.0
        return self.conv(x).float() * mask + named.to(torch.float32) + self.table


def test_the_float64_reference_computes_in_float64_whatever_the_network_asks_for() -> None:
    torch.manual_seed(0)
    network = MakesItsOwnTensors().eval()
    batch = worst_case_patches(TILE)[2]
    output = run_float64(network, batch, {})
    doubled = copy.deepcopy(network).double()
    with torch.no_grad():
        convolved = doubled.conv(torch.from_numpy(batch).double())
        mask = torch.zeros(1, 1, TILE.height, TILE.width, dtype=torch.float64)
        mask[..., ::2] = 1.0
        wanted = convolved * mask + 1.0 / 3.0 + network.table.double()
    np.testing.assert_allclose(output, wanted.numpy(), atol=1e-14)
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}
    assert torch.get_default_dtype() is torch.float32


class Experts(nn.Module):
    """Asks the expert that suits the picture, by a Python index: a trace knows one of them."""

    def __init__(self) -> None:
        super().__init__()
        self.experts = nn.ModuleList(nn.Conv2d(3, 12, 1) for _ in range(2))

    def choice(self, x: Tensor) -> int:
        return int(x.mean() > 0.6)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.pixel_shuffle(self.experts[self.choice(x)](x), 2)


class ListedExperts(Experts):
    def choice(self, x: Tensor) -> int:
        best: list[int] = x.mean((0, 2, 3)).topk(1).indices.tolist()
        return best[0] % 2


class Guarded(Experts):
    """Looks at the picture, too, and decides the same for every one."""

    def choice(self, x: Tensor) -> int:
        return int(bool(torch.isnan(x).any()))


@pytest.mark.parametrize(("kind", "read"), [(Experts, "Tensor.__int__"), (ListedExperts, "Tensor.tolist")])
def test_a_decision_by_the_picture_is_refused_although_the_compared_patches_agree(
    kind: type[Experts], read: str
) -> None:
    torch.manual_seed(0)
    network = kind().eval()
    with torch.no_grad():
        network.experts[1].load_state_dict(network.experts[0].state_dict())  # no patch can tell them apart
    graph = simplify(trace(network, TILE)).model
    red = np.zeros((1, 3, TILE.height, TILE.width), np.float32)
    red[:, 1] = 1.0
    patches = [*check_patches(TILE), *photographs([red])]
    with raises(NotDeployable, found=read):
        compare_with_network(graph, network, patches)


def test_a_number_that_is_the_same_for_every_picture_is_no_decision_and_is_said() -> None:
    torch.manual_seed(0)
    network = Guarded().eval()
    graph = simplify(trace(network, TILE)).model
    assert not refused(graph, network)
    (remark,) = compare_with_network(graph, network, check_patches(TILE)).remarks
    assert "__bool__" in remark


class Inquisitive(Upscaling):
    """Asks for properties of its features, none of which depends on the image."""

    def transform(self, features: Tensor) -> Tensor:
        assert not features.is_nested and features.is_floating_point() and features.type() == "torch.FloatTensor"
        return features


def test_properties_of_a_tensor_are_no_numbers_of_the_picture() -> None:
    network = Inquisitive().eval()
    assert compare_with_network(trace(network, TILE), network, check_patches(TILE)).remarks == ()


class GreenExpert(Experts):
    """Asks another expert for green pictures alone, of which no check patch is one."""

    def choice(self, x: Tensor) -> int:
        red, green, blue = x.mean((0, 2, 3))
        return int(torch.stack([torch.full((), 0.08), green - torch.maximum(red, blue)]).argmax())


def test_a_decision_that_only_the_colour_of_a_picture_shows_is_refused() -> None:
    torch.manual_seed(0)
    network = GreenExpert().eval()
    assert len({network.choice(torch.from_numpy(patch.batch)) for patch in check_patches(TILE)}) == 1
    with raises(NotDeployable, found="Tensor.__int__"):
        compare_with_network(simplify(trace(network, TILE)).model, network, check_patches(TILE))


class ThroughNumpy(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.interpolate(torch.from_numpy(x.numpy() * 0.5), scale_factor=2.0)


def test_a_graph_that_the_picture_does_not_enter_is_refused() -> None:
    with raises(NotDeployable, found=0):
        compare_with_network(trace(ThroughNumpy(), TILE), ThroughNumpy(), check_patches(TILE))


class WritesIntoItsTable(nn.Module):
    """Keeps a float32 tensor in a plain attribute and writes into it whenever it runs."""

    def __init__(self) -> None:
        super().__init__()
        self.table = torch.zeros(1, 3, TILE.height, TILE.width)

    def forward(self, x: Tensor) -> Tensor:
        self.table.copy_(x)
        return nn.functional.interpolate(self.table * 0.5, scale_factor=2.0)


def test_the_float64_reference_sees_what_a_network_writes_into_its_own_tensors() -> None:
    batch = worst_case_patches(TILE)[2]
    expected = WritesIntoItsTable()(torch.from_numpy(batch)).numpy()
    np.testing.assert_allclose(run_float64(WritesIntoItsTable(), batch, {}), expected, atol=1e-6)
