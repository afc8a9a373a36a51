"""LCoAN: the paper's counts, the published keys, the whole network against loops over its formulas, and training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from sr_edge.errors import WeightsError
from sr_edge.models import build_network, load_model
from sr_edge.models.architectures.lcoan import LCOAN_SIZES, LCoAN, LCoANConfig, initialize_lcoan
from sr_edge.models.loading.weights import Differences
from sr_edge.models.registry import SCALES, count_parameters
from sr_edge.training.data import CropSource, ImagePair, Originals, PairSet
from sr_edge.training.loop import Training, train
from sr_edge.training.recipe import Recipe
from tests.expected_errors import raises
from tests.models.layers.test_lsp import Array, plain_lcoa

SMALL = LCoANConfig(features=4, groups=2, blocks=1, clusters=3, window=16)


def test_parameter_counts_are_the_papers() -> None:
    with torch.device("meta"):
        counts = {scale: count_parameters(build_network("lcoan-m", scale)) for scale in SCALES}
        light, tiny = (
            max(count_parameters(build_network(f"lcoan-{size}", scale)) for scale in SCALES)
            for size in ("light", "tiny")
        )
    assert counts[2] == 15_668_508
    assert [f"{counts[scale] / 1e6:.2f}" for scale in (3, 4)] == ["16.41", "16.26"]
    assert light <= 1_000_000 and tiny <= 200_000


def published_keys(config: LCoANConfig) -> set[str]:
    convolutions = ["sub_mean", "add_mean", "head.0", "m_conv.0", "tail.0.0", "tail.1"]
    if config.scale == 4:
        convolutions.append("tail.0.2")
    keys = {"a"}
    for group in range(config.groups):
        body = f"body.{group}"
        keys |= {f"{body}.attention.0.kmeans.{name}" for name in ("means", "initted")}
        convolutions += [f"{body}.attention.0.{name}.0" for name in ("conv_match", "conv_assembly")]
        convolutions.append(f"{body}.m_conv.0")
        for block in range(config.blocks):
            convolutions += [f"{body}.local_body.{block}.body.{place}" for place in (0, 2)]
    return keys | {f"{name}.{kind}" for name in convolutions for kind in ("weight", "bias")}


@pytest.mark.parametrize("scale", SCALES)
def test_keys_are_those_of_published_weights(scale: int) -> None:
    config = LCOAN_SIZES["m"].at_scale(scale)
    with torch.device("meta"):
        state = LCoAN(config).state_dict()
    assert set(state) == published_keys(config)
    shapes = {key: tuple(state[key].shape) for key in state if "kmeans" in key or key in ("a", "sub_mean.weight")}
    assert set(shapes.values()) == {(1, 128, 128), (), (1,), (3, 3, 1, 1)}


MEANS = "body.0.attention.0.kmeans.means"


def tiny_state() -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    return build_network("lcoan-tiny", 3).state_dict()


def test_published_weights_load_and_are_recognised(tmp_path: Path) -> None:
    state = tiny_state()
    state["body.0.attention.0.kmeans.initted"] = torch.tensor(True)
    torch.save(state, tmp_path / "model.pt")
    model = load_model(None, None, tmp_path / "model.pt")
    assert (model.card.name, model.card.scale) == ("lcoan-tiny", 3)
    assert all(torch.equal(model.module.state_dict()[key], value) for key, value in state.items())


@pytest.mark.parametrize(
    ("clusters", "differences"),
    [
        (torch.zeros(1, 33, 24), Differences([], [], [f"{MEANS} (1, 33, 24) instead of (1, 32, 24)"])),
        (None, Differences([MEANS], [], [])),
    ],
)
def test_centroids_that_do_not_fit_are_named(
    tmp_path: Path, clusters: torch.Tensor | None, differences: Differences
) -> None:
    path = checkpoint_with(tmp_path, clusters)
    with raises(WeightsError, found=differences):
        load_model("lcoan-tiny", 3, path)


@pytest.mark.parametrize(
    ("clusters", "wanted"),
    [
        (torch.full((1, 32, 24), torch.nan), "finite values"),
        (torch.ones(1, 32, 24, dtype=torch.int64), "floating-point values"),
    ],
)
def test_centroids_that_are_no_numbers_are_named(tmp_path: Path, clusters: torch.Tensor, wanted: str) -> None:
    path = checkpoint_with(tmp_path, clusters)
    with raises(WeightsError, found=(str(path), MEANS), wanted=wanted):
        load_model("lcoan-tiny", 3, path)


def checkpoint_with(folder: Path, clusters: torch.Tensor | None) -> Path:
    """A checkpoint of lcoan-tiny with other centroids, or without any."""
    state = tiny_state()
    del state[MEANS]
    if clusters is not None:
        state[MEANS] = clusters
    torch.save(state, folder / "model.pt")
    return folder / "model.pt"


def plain_conv(x: Array, weight: torch.Tensor, bias: torch.Tensor) -> Array:
    """(inputs, height, width) -> (outputs, height, width), zero padding, pixel by pixel."""
    kernel = weight.detach().numpy()
    reach = kernel.shape[-1] // 2
    padded = np.pad(x, ((0, 0), (reach, reach), (reach, reach)))
    out = np.zeros((len(kernel), *x.shape[1:]))
    for row, column in np.ndindex(*x.shape[1:]):
        patch = padded[:, row : row + 2 * reach + 1, column : column + 2 * reach + 1]
        out[:, row, column] = (kernel * patch).sum((1, 2, 3)) + bias.detach().numpy()
    return out


def plain_shuffle(x: Array, factor: int) -> Array:
    out = np.zeros((len(x) // factor**2, x.shape[1] * factor, x.shape[2] * factor))
    for channel, row, column in np.ndindex(*out.shape):
        source = channel * factor**2 + (row % factor) * factor + column % factor
        out[channel, row, column] = x[source, row // factor, column // factor]
    return out


def plain_lcoan(state: dict[str, torch.Tensor], picture: Array, config: LCoANConfig) -> Array:
    """The formulas at the top of lcoan.py, from the weights alone."""

    def conv(x: Array, name: str) -> Array:
        return plain_conv(x, state[f"{name}.weight"], state[f"{name}.bias"])

    def rows(x: Array) -> Array:
        return x.reshape(len(x), -1).T

    mean = np.array([0.4488, 0.4371, 0.4040])[:, None, None]
    shallow = deep = conv(picture - mean, "head.0")
    shared = np.zeros(0)
    for number in range(config.groups):
        local = deep
        for block in range(config.blocks):
            name = f"body.{number}.local_body.{block}.body"
            local = local + conv(np.maximum(conv(local, f"{name}.0"), 0), f"{name}.2")
        attention = f"body.{number}.attention.0"
        if number == 0:
            shared = rows(conv(local, f"{attention}.conv_match.0"))
        values = rows(conv(local, f"{attention}.conv_assembly.0"))
        centroids = state["body.0.attention.0.kmeans.means"][0].numpy()
        attended = plain_lcoa(shared, values, centroids, config.window).T.reshape(local.shape)
        deep = deep + 0.1 * conv(local + 0.1 * attended, f"body.{number}.m_conv.0")
    upscaled = shallow + conv(deep, "m_conv.0")
    for place, factor in {2: [(0, 2)], 3: [(0, 3)], 4: [(0, 2), (2, 2)]}[config.scale]:
        upscaled = plain_shuffle(conv(upscaled, f"tail.0.{place}"), factor)
    return conv(upscaled, "tail.1") + mean


@pytest.mark.parametrize(("scale", "height", "width"), [(2, 8, 8), (3, 5, 7), (4, 3, 4)])
def test_network_is_the_papers_formulas(scale: int, height: int, width: int) -> None:
    torch.manual_seed(0)
    config = SMALL.at_scale(scale)
    network = LCoAN(config).double().eval()
    network.load_state_dict({**network.state_dict(), **exact_means()})
    x = torch.rand(1, 3, height, width, dtype=torch.float64)
    with torch.inference_mode():
        actual = network(x)[0].numpy()
    np.testing.assert_allclose(actual, plain_lcoan(network.state_dict(), x[0].numpy(), config), rtol=0, atol=1e-10)


def exact_means() -> dict[str, torch.Tensor]:
    """The mean shifts in float64: they are made in float32."""
    mean = torch.tensor([0.4488, 0.4371, 0.4040], dtype=torch.float64)
    return {"sub_mean.bias": -mean, "add_mean.bias": mean}


def test_pictures_of_a_batch_do_not_see_each_other() -> None:
    torch.manual_seed(0)
    network = LCoAN(SMALL).eval()
    x = torch.rand(2, 3, 9, 8)
    with torch.inference_mode():
        together, apart = network(x), torch.cat([network(picture[None]) for picture in x])
    torch.testing.assert_close(together, apart)


def test_eval_leaves_a_fresh_network_as_it_is() -> None:
    network = build_network("lcoan-tiny", 2)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    network(torch.rand(1, 3, 16, 16))
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_training_keeps_what_the_centroids_learnt(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = build_network("lcoan-tiny", 2)
    initialize_lcoan(network)
    hr = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    crops, pairs = CropSource(Originals((("a", hr),), 2)), PairSet((ImagePair("a", hr, hr[::2, ::2]),), 2)
    recipe = Recipe(steps=2, batch=1, patch_px=16, validate_every=2)
    weights = train(network, Training(crops, pairs, tmp_path, recipe))
    kept = load_file(weights)
    assert kept["body.0.attention.0.kmeans.initted"]
    loaded = load_model("lcoan-tiny", 2, weights).module
    torch.testing.assert_close(
        loaded.state_dict()["body.0.attention.0.kmeans.means"],
        network.state_dict()["body.0.attention.0.kmeans.means"],
        rtol=0,
        atol=1e-3,  # float16 in the file
    )


@pytest.mark.parametrize("scale", SCALES)
def test_learning_begins_with_an_enlarged_picture(scale: int) -> None:
    torch.manual_seed(0)
    network = build_network("lcoan-tiny", scale)
    initialize_lcoan(network)
    x = torch.rand(1, 3, 12, 12)
    with torch.inference_mode():
        actual = network(x)
    wanted = x.repeat_interleave(scale, 2).repeat_interleave(scale, 3)
    torch.testing.assert_close(actual, wanted)
