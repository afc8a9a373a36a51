"""UPS against a plain, slow reference that is written from the equations, in float64 and without our layers."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from sr_edge.errors import UsageError
from sr_edge.models import build_network, load_model
from sr_edge.models.architectures.ups import UPS, UPS_SIZES, Sharing, UPSBlock, UPSConfig
from sr_edge.models.layers.swin import Upsampler
from sr_edge.models.layers.ups_attention import ValueSource
from tests.expected_errors import raises

Array = npt.NDArray[np.float64]
Weights = dict[str, Array]

SMALL = UPSConfig(6, (2, 1), 1, 4, 2, Upsampler.PIXELSHUFFLE_DIRECT, projection_dim=9)
VARIANTS = [
    SMALL,
    UPSConfig(**{**SMALL.__dict__, "values": ValueSource.PROJECTED, "scale": 3}),
    UPSConfig(**{**SMALL.__dict__, "sharing": Sharing.PER_LAYER, "projection_dim": 4}),
]


def trained(config: UPSConfig) -> UPS:
    """Weights as after training: no gamma of one, no beta of zero."""
    torch.manual_seed(0)
    network = UPS(config).double().eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(0.1, 0.4)
    return network


def reference(w: Weights, config: UPSConfig, picture: Array) -> Array:
    """The network pixel by pixel; pictures are (height, width, channels)."""
    mean = np.array([0.4488, 0.4371, 0.4040], np.float32).astype(np.float64)  # as the network stores it
    features = conv3x3(picture - mean, w, "conv_first")
    x = layer_norm(features, w, "patch_embed.norm")
    for g, depth in enumerate(config.depths):
        start = x
        for b in range(depth):
            name = f"layers.{g}.residual_group.blocks.{b}"
            shift = config.window // 2 if b % 2 and min(x.shape[:2]) > config.window else 0
            x = x + attention(layer_norm(x, w, f"{name}.norm1"), w, name, config.window, shift)
            hidden = linear(layer_norm(x, w, f"{name}.norm2"), w, f"{name}.mlp.fc1")
            hidden = hidden * (1 + np.vectorize(math.erf)(hidden / math.sqrt(2))) / 2
            x = x + linear(hidden, w, f"{name}.mlp.fc2")
        x = start + conv3x3(x, w, f"layers.{g}.conv")
    x = features + conv3x3(layer_norm(x, w, "norm"), w, "conv_after_body")
    return shuffle(conv3x3(x, w, "upsample.0"), config.scale) + mean


def attention(x: Array, w: Weights, name: str, window: int, shift: int) -> Array:
    """S = ReLU(cos(X P, X P)), rows divided by their sum + 1e-6; a pixel sees the pixels of its window."""
    height, width, dim = x.shape
    p = w["projection.matrix"] if "projection.matrix" in w else w[f"{name}.projection.matrix"]
    z = x @ p
    value = linear(x, w, f"{name}.attn.value") if f"{name}.attn.value.weight" in w else x
    out = np.zeros_like(x)
    for row in range(height):
        for column in range(width):
            total, weighted = 0.0, np.zeros(dim)
            for i in range(height):
                for j in range(width):
                    if (i + shift) // window != (row + shift) // window:
                        continue
                    if (j + shift) // window != (column + shift) // window:
                        continue
                    a, b = z[row, column], z[i, j]
                    similarity = max(0.0, float(a @ b) / math.sqrt(float(a @ a) * float(b @ b)))
                    total += similarity
                    weighted += similarity * value[i, j]
            out[row, column] = weighted / (total + 1e-6)
    return linear(out, w, f"{name}.attn.proj")


def linear(x: Array, w: Weights, name: str) -> Array:
    return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]


def layer_norm(x: Array, w: Weights, name: str) -> Array:
    centred = x - x.mean(-1, keepdims=True)
    normed = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
    return normed * w[f"{name}.weight"] + w[f"{name}.bias"]


def conv3x3(x: Array, w: Weights, name: str) -> Array:
    height, width, _ = x.shape
    padded = np.pad(x, ((1, 1), (1, 1), (0, 0)))
    shifted = ((i, j, padded[i : i + height, j : j + width]) for i in range(3) for j in range(3))
    return w[f"{name}.bias"] + sum(part @ w[f"{name}.weight"][:, :, i, j].T for i, j, part in shifted)


def shuffle(x: Array, scale: int) -> Array:
    height, width, _ = x.shape
    cells = x.reshape(height, width, 3, scale, scale)
    return cells.transpose(0, 3, 1, 4, 2).reshape(height * scale, width * scale, 3)


@pytest.mark.parametrize("config", VARIANTS, ids=["unified", "projected values", "per layer"])
@pytest.mark.parametrize("size", [(8, 12), (4, 8)])
def test_the_network_is_its_equations(config: UPSConfig, size: tuple[int, int]) -> None:
    network = trained(config)
    picture = np.random.default_rng(0).random((*size, 3))
    wanted = reference({name: value.numpy() for name, value in network.state_dict().items()}, config, picture)
    with torch.inference_mode():
        actual = network(torch.from_numpy(picture).permute(2, 0, 1)[None])[0].permute(1, 2, 0).numpy()
    assert np.abs(actual - wanted).max() <= 1e-12 * np.abs(wanted).max()


def blocks_of(network: nn.Module) -> list[UPSBlock]:
    return [module for module in network.modules() if isinstance(module, UPSBlock)]


def test_all_layers_share_one_matrix_which_is_stored_once() -> None:
    network = UPS(UPS_SIZES["m"])
    assert network.projection.matrix.shape == (60, 128)
    assert {id(block.attn.projection) for block in blocks_of(network)} == {id(network.projection)}
    assert [key for key in network.state_dict() if "projection" in key] == ["projection.matrix"]


def test_the_ablation_gives_each_layer_its_own() -> None:
    network = UPS(VARIANTS[2])
    assert len({id(block.attn.projection) for block in blocks_of(network)}) == 3
    assert sum("projection" in key for key in network.state_dict()) == 3
    assert not hasattr(network, "projection")


def test_the_gradient_of_every_layer_reaches_the_shared_matrix() -> None:
    """It is the sum of the gradients that the layers' own matrices get where all of them are equal to it."""
    unified = trained(SMALL)
    separate = UPS(UPSConfig(**{**SMALL.__dict__, "sharing": Sharing.PER_LAYER})).double()
    state = unified.state_dict()
    shared = state.pop("projection.matrix")
    own = {name: shared for name in separate.state_dict() if "projection" in name}
    separate.load_state_dict({**state, **own})
    x = torch.rand(1, 3, 8, 8, dtype=torch.float64)
    for network in (unified, separate):
        network(x).sum().backward()
    parts = [block.attn.projection.matrix.grad for block in blocks_of(separate)]
    torch.testing.assert_close(unified.projection.matrix.grad, sum(part for part in parts if part is not None))


def test_weights_are_detected(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_file(build_network("ups-tiny", 3).state_dict(), path)
    card = load_model(None, None, path).card
    assert (card.name, card.scale) == ("ups-tiny", 3)


def test_sizes() -> None:
    """Paper: SwinIR-light (910,152 at x2) less q, k, v and bias tables, plus P of 60 x 128."""
    counts = {name: load_model(f"ups-{name}", 2, random_weights=True).card.parameters for name in UPS_SIZES}
    assert counts["m"] == 910_152 - 24 * (3 * 60 * 61 + 15**2 * 6) + 60 * 128
    assert counts["light"] < counts["m"] / 1.9
    assert counts["tiny"] <= 200_000


def test_heads_are_refused() -> None:
    with raises(UsageError, found=2, wanted=1):
        UPSConfig(12, (2,), 2, 8, 2, Upsampler.PIXELSHUFFLE_DIRECT)
