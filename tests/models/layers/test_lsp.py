"""LSP and CoA against the paper's equations, written here as plain float64 loops; and what the centroids may do."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch.nn import functional

from sr_edge.models.layers.lsp import (
    Centroids,
    CollaborativeAttention,
    as_tokens,
    nearest,
    sparse_pattern,
    spherical_kmeans,
    updated_centroids,
    window_places,
)
from sr_edge.models.layers.stea import NonLocalAttention

Array = npt.NDArray[np.float64]


def plain_lcoa(embedded: Array, values: Array, centroids: Array, window: int) -> Array:
    """A_s V of eqs. 7, 11 and 12, token by token; (tokens, features) each, `centroids` (clusters, features)."""
    order = plain_order(embedded, centroids)
    missing = -len(order) % window
    filled = list(order)
    repeated = order * (1 + missing // len(order))
    if missing:
        filled += repeated[-missing:]
    windows = [filled[start : start + window] for start in range(0, len(filled), window)]
    out = np.zeros_like(values)
    for number, own in enumerate(windows):
        keys = [*own, *windows[number - 1], *windows[(number + 1) % len(windows)]]
        for place, query in enumerate(own):
            if number * window + place < len(order):
                out[query] = plain_softmax_average(embedded[query], embedded[keys], values[keys])
    return out


def plain_order(embedded: Array, centroids: Array) -> list[int]:
    actual = []
    for position, token in enumerate(embedded):
        cosines = [token @ u / (np.sqrt(token @ token) * np.sqrt(u @ u)) for u in centroids]
        best = max(range(len(cosines)), key=lambda cluster: (cosines[cluster], -cluster))
        actual.append((best, position))
    return [position for _, position in sorted(actual)]


def plain_softmax_average(query: Array, keys: Array, values: Array) -> Array:
    lengths = np.sqrt((keys**2).sum(1))
    weights = np.exp(keys @ query / np.maximum(lengths, 5e-5))
    return (weights[:, None] * values).sum(0) / weights.sum()


def a_layer(features: int, clusters: int, window: int) -> CollaborativeAttention:
    torch.manual_seed(0)
    return CollaborativeAttention(features, clusters, window).double().eval()


@pytest.mark.parametrize(
    ("height", "width", "window"),
    [(8, 8, 384), (8, 8, 128), (5, 7, 16), (16, 24, 384), (11, 35, 384), (4, 8, 16), (2, 3, 16)],
)
def test_layer_is_the_equations(height: int, width: int, window: int) -> None:
    """One, two and several windows, full ones and ones filled up, fewer tokens than half a window."""
    layer = a_layer(6, 5, window)
    x = torch.randn(2, 6, height, width, dtype=torch.float64)
    with torch.inference_mode():
        actual = layer(x, layer.compute_pattern(x))
        embedded, values = (as_tokens(conv(x)).numpy() for conv in (layer.conv_match, layer.conv_assembly))
    for picture in range(2):
        attended = plain_lcoa(embedded[picture], values[picture], layer.kmeans.means[0].numpy(), window)
        wanted = x[picture].numpy() + 0.1 * attended.T.reshape(6, height, width)
        np.testing.assert_allclose(actual[picture].numpy(), wanted, rtol=0, atol=1e-12)


def test_a_later_group_uses_the_pattern_and_its_own_values() -> None:
    first, later = a_layer(6, 5, 16), a_layer(6, 5, 16)
    torch.nn.init.normal_(later.conv_assembly[0].weight)  # type: ignore[arg-type]
    x, deeper = torch.randn(2, 1, 6, 7, 7, dtype=torch.float64)
    with torch.inference_mode():
        actual = later(deeper, first.compute_pattern(x))
        embedded, values = as_tokens(first.conv_match(x)), as_tokens(later.conv_assembly(deeper))
    attended = plain_lcoa(embedded[0].numpy(), values[0].numpy(), first.kmeans.means[0].numpy(), 16)
    np.testing.assert_allclose((actual - deeper)[0].numpy(), 0.1 * attended.T.reshape(6, 7, 7), rtol=0, atol=1e-12)


def test_places_repeat_the_end_of_the_list_cyclically() -> None:
    assert window_places(5, 4).tolist() == [0, 1, 2, 3, 4, 2, 3, 4]
    assert window_places(3, 8).tolist() == [0, 1, 2, 1, 2, 0, 1, 2]
    assert window_places(8, 4).tolist() == list(range(8))


def test_tokens_of_one_cluster_keep_their_order() -> None:
    clusters = torch.tensor([[2, 0, 2, 1, 0, 0, 2]])
    pattern = sparse_pattern(torch.randn(1, 7, 3), clusters, window=4)
    assert pattern.order.tolist() == [[1, 4, 5, 3, 0, 2, 6]]


def test_ties_go_to_the_lowest_cluster() -> None:
    centroids = torch.tensor([[0.0, 1.0], [1.0, 0.0], [2.0, 0.0], [0.0, 5.0]])
    unit = functional.normalize(torch.tensor([[3.0, 0.0], [0.0, 2.0], [1.0, 1.0], [0.0, 0.0]]), dim=-1)
    assert nearest(unit, centroids).tolist() == [1, 0, 0, 0]


def test_centroids_move_by_equation_10() -> None:
    """Old direction times lambda, direction of the assigned tokens' sum times 1 - lambda, back to length 1."""
    centroids = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]], dtype=torch.float64)
    unit = torch.tensor([[0.6, 0.8], [0.8, 0.6], [0.0, 1.0]], dtype=torch.float64)
    moved = updated_centroids(centroids, unit, torch.tensor([0, 0, 1]), decay=0.9)
    mean = np.array([1.4, 1.4]) / np.linalg.norm([1.4, 1.4])
    wanted = 0.9 * np.array([1.0, 0.0]) + 0.1 * mean
    np.testing.assert_allclose(moved[0], wanted / np.linalg.norm(wanted), rtol=1e-12)
    assert moved[1:].tolist() == [[0, 1], [-1, 0]]  # the same direction, and no tokens


def test_centroids_find_separate_clusters() -> None:
    torch.manual_seed(0)
    directions = functional.normalize(torch.randn(4, 8), dim=-1)
    unit = functional.normalize(directions.repeat_interleave(50, 0) + 0.02 * torch.randn(200, 8), dim=-1)
    actual = spherical_kmeans(unit, 4)
    assert (actual @ directions.T).amax(0).min() > 0.99


@pytest.mark.parametrize("started", [False, True])
def test_eval_mode_changes_nothing(started: bool) -> None:
    centroids = Centroids(4, 3).eval()
    centroids.initted.fill_(started)
    before = centroids.means.clone()
    centroids(torch.randn(2, 30, 3))
    assert torch.equal(centroids.means, before) and bool(centroids.initted) is started


def test_training_writes_the_centroids_back() -> None:
    torch.manual_seed(0)
    centroids = Centroids(4, 3).train()
    tokens = torch.randn(2, 30, 3)
    centroids(tokens)
    assert centroids.initted
    started = centroids.means.clone()
    centroids(tokens + torch.tensor([1.0, 0.0, 0.0]))
    step = (centroids.means - started).abs().max()
    assert 0 < step < 2e-3  # a thousandth of the way
    torch.testing.assert_close(centroids.means.norm(dim=-1), torch.ones(1, 4))


def test_autocast_does_not_move_tokens() -> None:
    torch.manual_seed(0)
    centroids = Centroids(32, 16).eval()
    tokens = torch.randn(1, 500, 16)
    wanted = centroids(tokens)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(centroids(tokens), wanted)


def test_a_query_keeps_its_length_and_a_key_does_not() -> None:
    embedded = torch.randn(1, 4, 3, dtype=torch.float64)
    clusters = torch.zeros(1, 4, dtype=torch.long)
    longer = embedded.clone()
    longer[0, 2] *= 3
    before, after = (sparse_pattern(x, clusters, window=4).weights[0, 0] for x in (embedded, longer))
    torch.testing.assert_close(after[[0, 1, 3]], before[[0, 1, 3]])
    assert (after[2] - before[2]).abs().max() > 1e-3


def test_nonlocal_attention_is_equations_1_to_5() -> None:
    torch.manual_seed(0)
    layer = NonLocalAttention(4).double().eval()
    x = torch.randn(1, 4, 3, 5, dtype=torch.float64)
    with torch.inference_mode():
        actual = layer(x)[0].flatten(1).T.numpy()
    tokens = x[0].flatten(1).T.numpy()
    project: Callable[[torch.nn.Conv2d, Array], Array] = lambda conv, rows: (  # noqa: E731
        rows @ conv.weight.detach().numpy()[:, :, 0, 0].T + conv.bias.detach().numpy()  # type: ignore[union-attr]
    )
    queries, keys, values = (project(conv, tokens) for conv in (layer.query, layer.key, layer.value))
    for token, query in enumerate(queries):
        weights = np.exp([query @ key for key in keys])
        average = (weights[:, None] * values).sum(0) / weights.sum()
        np.testing.assert_allclose(actual[token], tokens[token] + project(layer.output, average), atol=1e-12)
