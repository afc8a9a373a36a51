"""Networks of spandrel's families are recognised by their keys and shapes; what is not is told apart in words."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sr_edge.deploy.manifest import WEIGHTS_FILE, write_network_weights
from sr_edge.errors import UnknownNameError, WeightsError
from sr_edge.models import LoadedModel, load_model
from sr_edge.models.loading.load import reopen_model
from sr_edge.models.loading.spandrel_networks import (
    FamilyCall,
    describe_unrecognized,
    family_rows,
    load_family,
    nearest_network,
    recognize,
)
from sr_edge.models.loading.weights import Differences
from sr_edge.models.recognition.families import FAMILIES
from sr_edge.models.recognition.library import require_library, suppress_output
from sr_edge.models.recognition.signatures import nearest_family
from sr_edge.spec import TileSpec, Tiling
from tests.expected_errors import raises

spandrel_here = importlib.util.find_spec("spandrel") is not None
needs_spandrel = pytest.mark.skipif(not spandrel_here, reason="spandrel is not installed; scripts/make_venv brings it")

StateDict = dict[str, Tensor]
COMPACT = "Compact (SRVGGNetCompact)"

NETWORKS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "compact": ("Compact", "Compact", {"num_feat": 8, "num_conv": 2, "upscale": 4}),
    "compact gray": (
        "Compact",
        "Compact",
        {"num_in_ch": 1, "num_out_ch": 1, "num_feat": 8, "num_conv": 2, "upscale": 2},
    ),
    "compact rgba": (
        "Compact",
        "Compact",
        {"num_in_ch": 4, "num_out_ch": 4, "num_feat": 8, "num_conv": 2, "upscale": 2},
    ),
    "compact x1": ("Compact", "Compact", {"num_feat": 8, "num_conv": 2, "upscale": 1}),
    "esrgan": ("ESRGAN", "ESRGAN", {"num_filters": 8, "num_blocks": 1, "scale": 4}),
    "esrgan unshuffle": (
        "ESRGAN",
        "ESRGAN",
        {"in_nc": 12, "num_filters": 8, "num_blocks": 1, "scale": 4, "shuffle_factor": 2},
    ),
    "span": ("SPAN", "SPAN", {"num_in_ch": 3, "num_out_ch": 3, "feature_channels": 8, "upscale": 2}),
    "safmn": ("SAFMN", "SAFMN", {"dim": 12, "n_blocks": 2, "upscaling_factor": 4}),
    "realplksr": ("PLKSR", "RealPLKSR", {"dim": 16, "n_blocks": 2, "upscaling_factor": 4}),
    "fdncnn": ("DnCNN", "DnCNN", {"in_nc": 4, "out_nc": 3, "nc": 8, "nb": 8, "act_mode": "R", "mode": "FDnCNN"}),
    "uformer": ("Uformer", "Uformer", {"embed_dim": 8, "depths": [1] * 9, "num_heads": [1] * 9}),
}
"""A small network of each: spandrel's package, its class and sizes."""

RECOGNISED = {
    # name: scale, channels, (multiple, minimum, square), purpose
    "compact": (4, 3, (1, 1, False), "super-resolution"),
    "compact gray": (2, 1, (1, 1, False), "super-resolution"),
    "compact rgba": (2, 4, (1, 1, False), "super-resolution"),
    "compact x1": (1, 3, (1, 1, False), "restoration"),
    "esrgan": (4, 3, (1, 2, False), "super-resolution"),
    "esrgan unshuffle": (2, 3, (4, 4, False), "super-resolution"),
    "span": (2, 3, (1, 1, False), "super-resolution"),
    "safmn": (4, 3, (8, 1, False), "super-resolution"),
    "realplksr": (4, 3, (1, 1, False), "super-resolution"),
    "fdncnn": (1, 3, (1, 1, False), "denoising"),
    "uformer": (1, 3, (128, 1, True), "denoising and deblurring"),
}


def build(name: str) -> nn.Module:
    require_library()  # which knows how to import it without torchvision
    family, constructor, sizes = NETWORKS[name]
    with suppress_output(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        package = importlib.import_module(f"spandrel.architectures.{family}")
        network: nn.Module = getattr(package, constructor)(**sizes)
    return network.eval()


@pytest.fixture
def compact() -> StateDict:
    """The weights of a small Compact, whose keys need no spandrel."""
    torch.manual_seed(0)
    shapes = {0: (8, 3, 3, 3), 1: (8,), 2: (8, 8, 3, 3), 3: (8,), 4: (48, 8, 3, 3)}
    weights = {f"body.{index}.weight": torch.randn(shape) for index, shape in shapes.items()}
    biases = {f"body.{index}.bias": torch.zeros(shape[0]) for index, shape in shapes.items() if len(shape) == 4}
    return {**weights, **biases}


def checkpoint(name: str) -> Path:
    """A public checkpoint of `../shared/checkpoints`; skips where it is absent."""
    root = next(folder for folder in Path(__file__).resolve().parents if (folder / "pyproject.toml").is_file())
    beside = root.parent / "shared" / "data"
    path = Path(os.environ.get("SR_EDGE_DATA") or beside).parent / "checkpoints" / name
    if not path.is_file():
        pytest.skip(f"{path} is absent; set SR_EDGE_DATA to the data folder beside the folder of checkpoints")
    return path


def state_of(path: Path) -> StateDict:
    found = torch.load(path, map_location="cpu", weights_only=True)
    return found.get("params", found)


@needs_spandrel
@pytest.mark.parametrize("name", RECOGNISED)
def test_a_network_is_recognised_with_its_needs(name: str) -> None:
    network = build(name)
    scale, channels, needs, purpose = RECOGNISED[name]
    recognised = recognize(network.state_dict())
    assert recognised is not None
    assert recognised.architecture == f"spandrel/{NETWORKS[name][0]}"
    assert (recognised.scale, recognised.input_channels, recognised.output_channels) == (scale, channels, channels)
    assert (recognised.multiple_px, recognised.minimum_px, recognised.square) == needs
    assert (recognised.purpose, recognised.tiling) == (purpose, Tiling.SUPPORTED)
    assert not recognised.module.training


@needs_spandrel
@pytest.mark.parametrize(
    ("name", "channels", "scale"), [("compact gray", 1, 2), ("compact rgba", 4, 2), ("compact x1", 3, 1)]
)
def test_a_checkpoint_with_other_channels_or_of_scale_1_loads(
    name: str, channels: int, scale: int, tmp_path: Path
) -> None:
    torch.save({"params": build(name).state_dict()}, tmp_path / "net.pth")
    model = load_model(str(tmp_path / "net.pth"), None, tile=TileSpec(12, 16))
    assert (model.card.channels, model.card.scale) == (channels, scale)
    again = reopen_model(model.architecture, model.card, stored_weights(model, tmp_path))
    picture = torch.rand(1, channels, 12, 16)
    with torch.inference_mode():
        assert torch.equal(model.module(picture), again.module(picture))


def stored_weights(model: LoadedModel, folder: Path) -> Path:
    """The file of weights that a bundle keeps."""
    write_network_weights(model, folder)
    return folder / WEIGHTS_FILE


@needs_spandrel
@pytest.mark.parametrize("name", ["compact", "esrgan unshuffle", "fdncnn"])
def test_its_module_computes_what_the_network_did_and_is_built_again_from_what_a_bundle_keeps(name: str) -> None:
    network = build(name)
    recognised = recognize(network.state_dict())
    assert recognised is not None
    picture = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    noise_level = torch.full_like(picture[:, :1], 15 / 255)
    again = load_family(recognised.architecture, recognised.state, recognised.hyper_parameters)
    with torch.inference_mode():
        wanted = network(torch.cat([picture, noise_level], 1) if name == "fdncnn" else picture)
        assert torch.equal(recognised.module(picture), wanted)
        assert torch.equal(again(picture), wanted)
    assert isinstance(recognised.module, FamilyCall) == (name == "fdncnn")


@needs_spandrel
def test_what_the_networks_own_keys_do_not_tell_is_read_from_the_state_that_a_bundle_keeps() -> None:
    with suppress_output():
        package = importlib.import_module(f"{require_library().spandrel.__name__}.architectures.SwinIR")
        sizes = {"embed_dim": 8, "depths": [2], "num_heads": [2], "window_size": 8, "mlp_ratio": 2.0}
        network = package.SwinIR(**sizes, start_unshuffle=2, upscale=4, upsampler="pixelshuffle")
    # As such networks are published; the class itself has the key without the index.
    state = {key.replace("conv_first.", "conv_first.1."): value for key, value in network.state_dict().items()}
    recognised = recognize(state)
    assert recognised is not None
    assert (recognised.scale, recognised.input_channels, recognised.tiling) == (2, 3, Tiling.DISCOURAGED)
    load_family(recognised.architecture, recognised.state, recognised.hyper_parameters)
    shapes = ["conv_last.weight (3, 64, 3, 3) instead of (12, 64, 3, 3)", "conv_last.bias (3) instead of (12)"]
    with raises(WeightsError, found=Differences([], [], shapes), wanted="SwinIR"):
        load_family(recognised.architecture, recognised.module.state_dict(), recognised.hyper_parameters)


@needs_spandrel
def test_hyper_parameters_and_licence_are_told(compact: StateDict) -> None:
    recognised = recognize(compact)
    assert recognised is not None
    assert recognised.hyper_parameters["num_feat"] == "8" and recognised.hyper_parameters["num_conv"] == "1"
    assert recognised.architecture_licence == "BSD-3-Clause"


@needs_spandrel
def test_half_precision_becomes_float32_and_the_callers_state_and_generator_stay_as_they_are(
    compact: StateDict,
) -> None:
    half = {f"module.{key}": value.half() for key, value in compact.items()}
    keys, generator = list(half), torch.get_rng_state()
    recognised = recognize(half)
    assert recognised is not None
    assert {parameter.dtype for parameter in recognised.module.parameters()} == {torch.float32}
    assert list(half) == keys and torch.equal(torch.get_rng_state(), generator)


@needs_spandrel
def test_a_published_compact_checkpoint_is_recognised() -> None:
    recognised = recognize(state_of(checkpoint("realesr-animevideov3.pth")))
    assert recognised is not None
    assert (recognised.architecture, recognised.scale) == ("spandrel/Compact", 4)
    assert (recognised.hyper_parameters["num_feat"], recognised.hyper_parameters["num_conv"]) == ("64", "16")


@needs_spandrel
@pytest.mark.parametrize(
    ("key", "replaced"),
    [
        ("body.2.weight", None),
        ("body.4.bias", None),
        ("body.2.weight", (7, 8, 3, 3)),
        ("further.weight", (3,)),
    ],
)
def test_a_damaged_state_of_a_family_names_the_key(
    compact: StateDict, key: str, replaced: tuple[int, ...] | None
) -> None:
    damaged = {name: value for name, value in compact.items() if name != key}
    if replaced is not None:
        damaged[key] = torch.zeros(replaced)
    assert recognize(damaged) is None
    miss = nearest_network(damaged)
    assert miss.name == COMPACT and any(key in entry for entry in chain(*miss.differences))


@needs_spandrel
@pytest.mark.parametrize(
    "claimed",
    [
        {"body.0.weight": torch.zeros(1).expand(2**20, 2**20, 3, 3)},
        {"body.0.weight": torch.zeros(100_000, 3, 1, 1)},
        {"body.999999999999.weight": torch.zeros(1)},
        {"body.9999999.weight": torch.zeros(1)},
    ],
)
def test_a_state_that_asks_for_a_huge_network_is_not_built(compact: StateDict, claimed: StateDict) -> None:
    state = {**compact, **claimed}
    assert recognize(state) is None
    assert nearest_network(state).name == COMPACT


@needs_spandrel
def test_integer_weights_are_refused_by_key(compact: StateDict) -> None:
    integers = {**compact, "body.2.weight": compact["body.2.weight"].to(torch.int8)}
    with raises(WeightsError, found="body.2.weight", wanted="floating-point values"):
        recognize(integers)


@needs_spandrel
def test_networks_for_another_purpose_are_refused_by_name() -> None:
    faces = {"toRGB.0.weight": torch.zeros(1), "stylegan_decoder.style_mlp.1.weight": torch.zeros(1)}
    with raises(WeightsError, found="GFPGAN"):
        recognize(faces)
    with raises(WeightsError, found="LaMa"):
        recognize({"model.model.1.bn_l.running_mean": torch.zeros(1)})


@needs_spandrel
def test_a_bundle_with_other_weights_than_it_says_is_refused(compact: StateDict) -> None:
    recognised = recognize(compact)
    assert recognised is not None
    told = {**recognised.hyper_parameters, "num_feat": "64"}
    with raises(WeightsError, found={"num_feat": "8"}, wanted={"num_feat": "64"}):
        load_family("spandrel/Compact", compact, told)
    with raises(WeightsError, wanted="SPAN"):
        load_family("spandrel/SPAN", compact)
    for name in ("spandrel/NoSuchNetwork", "Compact"):
        with raises(UnknownNameError, found=name):
            load_family(name, compact)


@pytest.mark.parametrize(
    ("file", "family", "missing"),
    [
        ("span_x4_ch28.pth", "SPAN", "conv_1.sk.weight"),
        ("safmn_x4_dim40_blocks15.pth", "SAFMN", "feats.0.norm1.weight"),
    ],
)
def test_a_published_variant_names_its_family_and_the_keys_that_differ(file: str, family: str, missing: str) -> None:
    state = state_of(checkpoint(file))
    assert recognize(state) is None
    near = nearest_family(state)
    assert near is not None and (near.family, near.missing[0]) == (family, missing)
    described = describe_unrecognized(state)
    assert family in described and missing in described


@needs_spandrel
@pytest.mark.parametrize("name", NETWORKS)
def test_the_kept_keys_are_those_of_the_networks(name: str) -> None:
    near = nearest_family(build(name).state_dict())
    assert near is not None
    assert (near.family, near.missing, near.unexpected) == (NETWORKS[name][0], (), ()), (
        "run scripts/make_family_signatures.py"
    )


def keys_of(prefixes: list[str], layers: str) -> list[str]:
    return [f"{prefix}{layer}" for prefix in prefixes for layer in layers.split()]


STRANGERS: Mapping[str, list[str]] = {
    "resnet": [
        *("conv1.weight", "bn1.weight", "bn1.bias", "bn1.running_mean", "fc.weight", "fc.bias"),
        *keys_of(
            [f"layer{stage}.{block}." for stage in (1, 2, 3, 4) for block in (0, 1)],
            "conv1.weight bn1.weight bn1.running_mean conv2.weight bn2.weight downsample.0.weight downsample.1.weight",
        ),
    ],
    "vgg": [
        *keys_of([f"features.{i}." for i in range(9)], "weight bias"),
        "classifier.0.weight",
        "classifier.3.weight",
    ],
    "vision transformer": [
        *("cls_token", "pos_embed", "patch_embed.proj.weight", "norm.weight", "head.weight"),
        *keys_of(
            [f"blocks.{block}." for block in range(12)],
            "norm1.weight attn.qkv.weight attn.proj.weight norm2.weight mlp.fc1.weight mlp.fc2.weight",
        ),
    ],
    "swin classifier": [
        *("patch_embed.proj.weight", "patch_embed.norm.weight", "norm.weight", "head.weight"),
        *keys_of(
            [f"layers.{stage}.blocks.{block}." for stage in range(4) for block in range(2)],
            "norm1.weight attn.relative_position_bias_table attn.relative_position_index attn.qkv.weight "
            "attn.proj.weight norm2.weight mlp.fc1.weight mlp.fc2.weight attn_mask",
        ),
    ],
    "diffusion unet": [
        *("time_embedding.linear_1.weight", "conv_in.weight", "conv_norm_out.weight", "conv_out.weight"),
        *keys_of(
            [f"{half}_blocks.{stage}." for half in ("down", "up") for stage in range(4)],
            "resnets.0.norm1.weight resnets.0.conv1.weight resnets.0.time_emb_proj.weight resnets.0.conv2.weight "
            "attentions.0.proj_in.weight attentions.0.transformer_blocks.0.attn1.to_q.weight "
            "attentions.0.transformer_blocks.0.attn1.to_out.0.weight attentions.0.transformer_blocks.0.norm1.weight",
        ),
    ],
    "sequential": ["0.weight", "0.bias", "2.weight", "2.bias"],
    "nothing": [],
}


@pytest.mark.parametrize("name", STRANGERS)
def test_what_is_no_such_network_is_not_called_a_near_miss(name: str) -> None:
    state = {key: torch.zeros(1) for key in STRANGERS[name]}
    assert recognize(state) is None
    assert nearest_family(state) is None
    assert nearest_network(state).name == ""


@needs_spandrel
def test_the_table_has_every_family_of_the_installed_release() -> None:
    registry = require_library().spandrel.MAIN_REGISTRY
    assert {str(entry.architecture.id) for entry in registry} == {family.id for family in FAMILIES}


def test_rows_say_what_is_loaded_and_what_our_own_registry_has() -> None:
    rows = {row.architecture: row for row in family_rows()}
    assert len(rows) == len(FAMILIES)
    assert rows["spandrel/SwinIR"].registered == "swinir"
    assert {name for name, row in rows.items() if row.refused} == {
        *("spandrel/AuraSR", "spandrel/GFPGAN", "spandrel/LaMa", "spandrel/RestoreFormer")
    }
