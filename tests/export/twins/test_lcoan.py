"""The static twin of LCoAN: the training form exactly, the same clusters in every runtime, nothing dead left."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import onnx
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from sr_edge.errors import ExportError
from sr_edge.export.checks.rules import check_graph
from sr_edge.export.graph.onnxruntime_run import run_onnxruntime
from sr_edge.export.passes.simplify import simplify
from sr_edge.export.passes.tracing import trace
from sr_edge.export.twins.lcoan import (
    NearestCentroid,
    StaticLCoAN,
    StaticPattern,
    digits_of,
    moved_share,
)
from sr_edge.export.twins.registry import to_static
from sr_edge.models import build_network, load_model
from sr_edge.models.architectures.lcoan import LCOAN_SIZES, LCoAN, LCoANConfig, ResidualGroup
from sr_edge.models.layers.lsp import Centroids, CollaborativeAttention, as_tokens, nearest, sparse_pattern
from sr_edge.models.registry import count_parameters
from sr_edge.spec import TileSpec
from tests.expected_errors import raises
from tests.export.twins.test_counting_sort import graph_of

SMALL = LCoANConfig(features=8, groups=3, blocks=1, clusters=12, window=384)
SIZES = [(8, 8), (16, 24), (11, 35), (1, 769)]  # 64, 384, 385 and 769 tokens


def small_network(config: LCoANConfig = SMALL) -> LCoAN:
    torch.manual_seed(0)
    network = LCoAN(config).double().eval()
    with torch.no_grad():
        for shift in (network.sub_mean, network.add_mean):  # as no published weights have them: the folding is general
            shift.weight.add_(0.1 * torch.randn_like(shift.weight))
    return network


@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize("scale", [2, 4])
def test_twin_equals_the_training_form(height: int, width: int, scale: int) -> None:
    network = small_network(SMALL.at_scale(scale))
    before = {key: value.clone() for key, value in network.state_dict().items()}
    static = to_static(network, height, width)
    x = torch.rand(1, 3, height, width, dtype=torch.float64)
    with torch.inference_mode():
        assert (static(x) - network(x)).abs().max() <= 1e-10
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_pattern_has_the_order_and_weights_of_the_training_form(height: int, width: int) -> None:
    torch.manual_seed(0)
    layer = CollaborativeAttention(8, 12, 384).double().eval()
    x = torch.randn(1, 8, height, width, dtype=torch.float64)
    twin = StaticPattern(layer, height * width)
    with torch.inference_mode():
        clusters = twin.fp32_nearest(twin.embedded(x))
        wanted = sparse_pattern(as_tokens(layer.conv_match(x)), clusters[None], 384)
        pattern = twin(x)
    assert torch.equal(pattern.ranks.argsort(), wanted.order[0])
    weights = wanted.weights[0]
    if len(weights) == 1:  # three copies of the window itself
        weights = weights.reshape(*weights.shape[:-1], 3, -1).sum(-2)
    torch.testing.assert_close(pattern.weights, weights, rtol=0, atol=1e-12)


def test_a_second_rewrite_changes_nothing() -> None:
    static = to_static(small_network(), 8, 8)
    again = to_static(static, 8, 8)
    assert [type(layer) for layer in again.modules()] == [type(layer) for layer in static.modules()]


def test_a_near_miss_is_left_alone() -> None:
    class Variant(LCoAN):
        pass

    assert type(to_static(Variant(SMALL).eval(), 8, 8)) is Variant


def test_nothing_dead_remains() -> None:
    """Paper size: 9 query convolutions of 147,584 go; the twin also folds the mean shifts and drops `a`."""
    network = build_network("lcoan-m", 2)
    assert isinstance(network, LCoAN)
    later_groups = list(cast("Iterable[ResidualGroup]", network.body))[1:]
    dead = sum(count_parameters(group.lcoa.conv_match) for group in later_groups)
    assert count_parameters(network) - dead == 14_340_252
    folded = count_parameters(network.sub_mean) + count_parameters(network.add_mean) + network.a.numel()
    assert count_parameters(to_static(network, 8, 8)) == 14_340_252 - folded


def a_map(tokens: int, features: int, centroids: Centroids) -> Tensor:
    """Tokens with exact ties, copies of centroids and zeros among them."""
    values = torch.randn(tokens, features) * torch.rand(tokens, 1) * 100
    values[1] = 0
    values[2:6] = centroids.means[0, :4] * 3
    values[6:9] = values[9:12]
    return values


def some_centroids(clusters: int, features: int) -> Centroids:
    torch.manual_seed(0)
    centroids = Centroids(clusters, features).eval()
    centroids.means[0, 7] = centroids.means[0, 3]  # a tie: 3 must win
    centroids.means[0, 2] = 4 * centroids.means[0, 9]
    return centroids


def test_nearest_centroid_is_that_of_the_largest_cosine() -> None:
    """In float64, where the cosine itself is no closer than the digits tell apart."""
    centroids = some_centroids(128, 128)
    tokens = a_map(3000, 128, centroids)
    cosines = functional.normalize(tokens.double(), dim=-1) @ functional.normalize(centroids.means[0].double()).T
    clusters = NearestCentroid(centroids)(tokens)
    best, second = cosines.topk(2).values.unbind(-1)
    clear = best - second > 2.0**-20
    assert clear.double().mean() > 0.97
    assert torch.equal(clusters[clear], cosines.argmax(-1)[clear])
    assert torch.equal(clusters[clear], nearest(tokens, centroids.means[0])[clear])
    assert clusters[1] == 0 and clusters[5] == 3 and not (clusters == 7).any() and not (clusters == 9).any()


def test_digits_are_exact() -> None:
    torch.manual_seed(0)
    values = torch.rand(200, 8) * 2 - 1
    values[0] = torch.tensor([1.0, -1.0, 0.0, 0.5, -0.5, 127.5 / 128, 1 / 256, -1 / 256])
    digits = digits_of(values)
    first, second, third = torch.split(digits.double(), 8, dim=-1)
    assert torch.equal(digits, digits.round()) and digits.abs().max() <= 128
    assert (first / 2**7 + second / 2**15 + third / 2**23 - values.double()).abs().max() <= 2.0**-24


@pytest.mark.parametrize("tokens", [64, 384, 385, 769])
def test_runtimes_choose_the_same_clusters_for_the_same_map(tokens: int, openvino_core: Any) -> None:
    """Bit for bit, near ties included, and however a runtime adds: the channels come in another order, too."""
    centroids = some_centroids(128, 128)
    with torch.no_grad():
        centroids.means[0, 64:] = centroids.means[0, :64] + 1e-6 * torch.randn(64, 128)
    layer = NearestCentroid(centroids)
    embedded = a_map(tokens, 128, centroids)
    wanted = layer(embedded).numpy()
    graph = graph_of(layer, embedded)
    results = [next(iter(run_onnxruntime(graph, {"input": embedded.numpy()}).values()))]
    model = openvino_core.read_model(graph.SerializeToString())
    compiled = openvino_core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    results.append(compiled({"input": embedded.numpy()})[0])
    shuffled = torch.randperm(128)
    centroids.means.copy_(centroids.means[..., shuffled])
    results.append(NearestCentroid(centroids)(embedded[:, shuffled]).numpy())
    for clusters in results:
        np.testing.assert_array_equal(clusters, wanted)


def test_too_many_features_for_exact_sums_are_refused() -> None:
    with raises(ExportError, found=342, wanted=341):
        NearestCentroid(Centroids(2, 342))


class ClustersAndRanks(nn.Module):
    """What a twin sorts, as digits that bf16 holds, behind one more matmul (see SortOf)."""

    identity: Tensor

    def __init__(self, twin: StaticLCoAN) -> None:
        super().__init__()
        self.twin = twin
        self.register_buffer("identity", torch.eye(3))

    def forward(self, x: Tensor) -> Tensor:
        clusters = self.twin.clusters(x)
        ranks, _ = self.twin.pattern.sort(clusters)
        return torch.stack([clusters, ranks % 128, ranks // 128], dim=-1).float() @ self.identity


def test_bf16_moves_few_tokens_and_ranks_them_exactly(
    record_property: Callable[[str, object], None], openvino_core: Any
) -> None:
    if "BF16" not in openvino_core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        pytest.skip("this CPU has no bf16")
    tile = TileSpec(48, 48)
    twin = to_static(load_model("lcoan-tiny", 2, random_weights=True).module, tile.height, tile.width)
    assert isinstance(twin, StaticLCoAN)
    graph = simplify(trace(ClustersAndRanks(twin), tile)).model
    picture = smooth_picture(tile)
    digits = {"onnxruntime": next(iter(run_onnxruntime(graph, {"input": picture}).values()))}
    for hint in ("f32", "bf16"):
        model = openvino_core.read_model(graph.SerializeToString())
        digits[hint] = openvino_core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": hint})(
            {"input": picture}
        )[0]
    clusters: dict[str, Tensor] = {}
    for name, values in digits.items():
        whole = torch.from_numpy(np.rint(values)).long()
        clusters[name] = whole[:, 0]
        wanted = np.argsort(np.argsort(whole[:, 0].numpy(), kind="stable"))
        np.testing.assert_array_equal((whole[:, 1] + 128 * whole[:, 2]).numpy(), wanted)
    share = moved_share(clusters["bf16"], clusters["onnxruntime"])
    record_property("share of tokens that bf16 moves", share)
    assert 0 < share < 0.05
    assert moved_share(clusters["f32"], clusters["onnxruntime"]) < 0.001
    assert len(set(clusters["bf16"].tolist())) > 5


def smooth_picture(tile: TileSpec) -> npt.NDArray[np.float32]:
    rows, columns = np.mgrid[: tile.height, : tile.width]
    waves = [0.5 + 0.4 * np.sin((rows * (colour + 1) + columns * 2) / 7) for colour in range(3)]
    return np.stack(waves)[None].astype(np.float32)


@pytest.fixture(scope="module")
def tiny_graph() -> onnx.ModelProto:
    twin = to_static(build_network("lcoan-tiny", 2), 12, 12)
    return simplify(trace(twin, TileSpec(12, 12))).model


def test_graph_is_static_and_portable(tiny_graph: onnx.ModelProto) -> None:
    assert check_graph(tiny_graph) == ()
    operators = {node.op_type for node in tiny_graph.graph.node}
    assert not operators & {"TopK", "CumSum", "NonZero", "Einsum", "ArgMax", "Range", "Shape"}


def test_pattern_is_computed_once(tiny_graph: onnx.ModelProto) -> None:
    operators = [node.op_type for node in tiny_graph.graph.node]
    groups = LCOAN_SIZES["tiny"].groups
    assert operators.count("Softmax") == operators.count("ScatterElements") == 1
    matmuls = [node for node in tiny_graph.graph.node if node.op_type == "MatMul"]
    assert len(matmuls) == 2 + groups  # centroids, scores, and one a group
