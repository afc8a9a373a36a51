"""Small networks of spandrel's families: constructor arguments, and factories for `--arch network_recipes:NAME`.

The arguments are small, and where spandrel cannot read one from a state dict they are what it assumes, so that the
network it builds from a checkpoint is the one that wrote it.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

SEED = 0
DEFAULT_TILE_PX = 96

Call = Callable[[Any, Tensor], Tensor]


@dataclass(frozen=True)
class Fit:
    """How long the weights are fitted, on how many patches a step, and of which side."""

    steps: int = 100
    batch: int = 2
    patch_px: int = 48


QUICK, SLOW = Fit(), Fit(steps=30)


@dataclass(frozen=True)
class Recipe:
    """A small network of one family.

    Attributes:
        family: spandrel's id of the architecture.
        constructor: class or function in `spandrel.architectures.FAMILY`.
        scale: magnification; 1 for restoration.
        arguments: what the constructor is called with.
        call: how the family is called, where that is not `network(x)`; as spandrel's descriptor does it.
        fit: how its weights are fitted.
        tile_px: side of the tile to deploy; the product's default unless the family cannot take it.
    """

    family: str
    constructor: str
    scale: int
    arguments: Mapping[str, Any] = field(default_factory=dict)
    call: Call | None = None
    fit: Fit = QUICK
    tile_px: int = DEFAULT_TILE_PX

    @property
    def purpose(self) -> str:
        return "restoration" if self.scale == 1 else "super-resolution"


def _recipe(
    family: str,
    constructor: str,
    scale: int,
    /,
    *,
    call: Call | None = None,
    fit: Fit = QUICK,
    tile_px: int = DEFAULT_TILE_PX,
    **arguments: Any,
) -> Recipe:
    return Recipe(family, constructor, scale, arguments, call, fit, tile_px)


def _first(network: Any, x: Tensor) -> Tensor:
    return network(x)[0]


def _with_noise_level(network: Any, x: Tensor) -> Tensor:
    return network(torch.cat([x, torch.full_like(x[:, :1], 15 / 255)], dim=1))


def _from_signed(network: Any, x: Tensor) -> Tensor:
    return network(x) * 0.5 + 0.5


def _in_pieces(network: Any, x: Tensor) -> Tensor:
    """IPT takes patches of one size: its own code cuts the picture and joins the results."""
    model = importlib.import_module("spandrel.architectures.IPT").Model(network)
    return model.forward(x * network.rgb_range, 0) / network.rgb_range


_SWIN: dict[str, Any] = {"embed_dim": 24, "depths": [2, 2], "num_heads": [2, 2], "window_size": 8, "mlp_ratio": 2.0}
_DIRECT: dict[str, Any] = {"upscale": 4, "upsampler": "pixelshuffledirect"}
_SHUFFLE: dict[str, Any] = {"upscale": 4, "upsampler": "pixelshuffle"}

# fmt: off
RECIPES: dict[str, Recipe] = {
    "atd": _recipe("ATD", "ATD", 4, num_tokens=32, reducted_dim=4, fit=SLOW, **_SWIN, **_DIRECT),
    "aurasr": _recipe(
        "AuraSR", "AuraSR", 4, dim=8, image_size=None, input_image_size=None, self_attn_dim_head=8,
        style_network={"dim_in": 16, "dim_out": 64, "depth": 2}, attn_depths=(2, 2, 2, 1, 1), mid_attn_depth=1,
        skip_connect_scale=0.4, fit=Fit(steps=1),
    ),
    "compact": _recipe("Compact", "Compact", 4, num_feat=24, num_conv=6, upscale=4),
    "craft": _recipe("CRAFT", "CRAFT", 4, embed_dim=32, depths=[1, 1], num_heads=[2, 2], upscale=4, fit=SLOW),
    "dat": _recipe(
        "DAT", "DAT", 4, embed_dim=32, depth=[3, 2], num_heads=[2, 2], expansion_factor=2.0, split_size=[8, 16],
        **_DIRECT,
    ),
    "dctlsa": _recipe("DCTLSA", "DCTLSA", 4, nf=25, upscale=4, fit=SLOW),
    "ditn": _recipe("DITN", "DITN", 4, dim=24, ITL_blocks=2, SAL_blocks=2, UFONE_blocks=1, upscale=4),
    "dncnn": _recipe("DnCNN", "DnCNN", 1, in_nc=3, out_nc=3, nc=24, nb=6),
    "drct": _recipe(
        "DRCT", "DRCT", 4, embed_dim=24, depths=[6], num_heads=[2], window_size=8, gc=8, fit=SLOW, **_SHUFFLE
    ),
    "drunet": _recipe("DRUNet", "DRUNet", 1, nc=[16, 16, 24, 32], nb=2, in_nc=4, out_nc=3, call=_with_noise_level),
    "esrgan": _recipe("ESRGAN", "ESRGAN", 4, num_filters=24, num_blocks=2, scale=4, fit=SLOW),
    "esrgan_x2": _recipe("ESRGAN", "ESRGAN", 2, in_nc=12, num_filters=24, num_blocks=2, scale=4, shuffle_factor=2),
    "fbcnn": _recipe("FBCNN", "FBCNN", 1, nc=[16, 16, 24, 512], nb=2, call=_first, fit=SLOW),
    "fdat": _recipe("FDAT", "FDAT", 4, embed_dim=24, num_groups=1, depth_per_group=1, num_heads=2, scale=4),
    "fftformer": _recipe(
        "FFTformer", "FFTformer", 1, dim=16, num_blocks=[1, 1, 1], num_refinement_blocks=1, fit=Fit(patch_px=64)
    ),
    "grl": _recipe(
        "GRL", "GRL", 4, embed_dim=32, depths=[2, 2], num_heads_window=[2, 2], num_heads_stripe=[2, 2], mlp_ratio=2.0,
        window_size=16, stripe_size=[32, 64], stripe_shift=True, anchor_window_down_factor=4, upscale=4,
        upsampler="nearest+conv", fit=Fit(steps=10),
    ),
    "hat": _recipe("HAT", "HAT", 4, compress_ratio=3, squeeze_factor=8, fit=SLOW, **_SWIN, **_SHUFFLE),
    "hvi_cidnet": _recipe("HVICIDNet", "HVICIDNet", 1, channels=[12, 12, 24, 48]),
    "ipt": _recipe(
        "IPT", "IPT", 4, patch_size=24, n_feats=16, num_layers=2, scale=[4], call=_in_pieces,
        fit=Fit(steps=12, batch=1), tile_px=48,
    ),
    "kbnet_l": _recipe("KBNet", "KBNet_l", 1, dim=24, num_blocks=[1, 1, 1, 1], num_refinement_blocks=1, fit=SLOW),
    "kbnet_s": _recipe(
        "KBNet", "KBNet_s", 1, width=16, middle_blk_num=1, enc_blk_nums=[1, 1], dec_blk_nums=[1, 1]
    ),
    "mixdehazenet": _recipe("MixDehazeNet", "MixDehazeNet", 1, call=_from_signed),
    "mmrealsr": _recipe(
        "MMRealSR", "MMRealSR", 4, num_in_ch=3, num_out_ch=3, scale=4, num_feat=24, num_block=2, num_grow_ch=12,
        num_feats=[16, 24, 32, 48], num_blocks=[1, 1, 1, 1], call=_first, fit=SLOW,
    ),
    "moesr": _recipe("MoESR", "MoESR", 4, dim=24, n_blocks=2, n_block=2, scale=4),
    "mosr": _recipe("MoSR", "MoSR", 4, n_block=3, dim=24, upscale=4),
    "mosr_dysample": _recipe("MoSR", "MoSR", 4, n_block=3, dim=24, upscale=4, upsampler="dys"),
    "mosr_geo": _recipe("MoSR", "MoSR", 4, n_block=3, dim=24, upscale=4, upsampler="gps"),
    "nafnet": _recipe(
        "NAFNet", "NAFNet", 1, width=16, middle_blk_num=1, enc_blk_nums=[1, 1, 1], dec_blk_nums=[1, 1, 1]
    ),
    "omnisr": _recipe("OmniSR", "OmniSR", 4, num_feat=32, res_num=2, block_num=1, up_scale=4),
    "plksr": _recipe("PLKSR", "PLKSR", 4, dim=32, n_blocks=3, upscaling_factor=4),
    "rcan": _recipe("RCAN", "RCAN", 4, n_resgroups=2, n_resblocks=2, n_feats=24, reduction=8, scale=4),
    "realcugan_x2": _recipe("RealCUGAN", "UpCunet2x", 2, fit=SLOW),
    "realcugan_x2_fast": _recipe("RealCUGAN", "UpCunet2x_fast", 2),
    "realcugan_x3": _recipe("RealCUGAN", "UpCunet3x", 3, fit=SLOW),
    "realcugan_x4": _recipe("RealCUGAN", "UpCunet4x", 4, fit=SLOW),
    "realplksr": _recipe("PLKSR", "RealPLKSR", 4, dim=32, n_blocks=3, upscaling_factor=4),
    "realplksr_dysample": _recipe("PLKSR", "RealPLKSR", 4, dim=32, n_blocks=3, upscaling_factor=4, dysample=True),
    "retinexformer": _recipe("RetinexFormer", "RetinexFormer", 1, n_feat=16, stage=1),
    "rgt": _recipe(
        "RGT", "RGT", 4, embed_dim=32, depth=[2, 2], num_heads=[2, 2], mlp_ratio=2.0, upscale=4, split_size=[8, 8],
        fit=SLOW,
    ),
    "safmn": _recipe("SAFMN", "SAFMN", 4, dim=24, n_blocks=3, upscaling_factor=4),
    "safmn_bcie": _recipe("SAFMNBCIE", "SAFMNBCIE", 1, dim=24, n_blocks=2, num_layers=2),
    "scunet": _recipe("SCUNet", "SCUNet", 1, config=[1] * 7, dim=64, fit=SLOW),
    "seemore": _recipe("SeemoRe", "SeemoRe", 4, num_experts=3, num_layers=2, embedding_dim=24, scale=4),
    "span": _recipe("SPAN", "SPAN", 4, num_in_ch=3, num_out_ch=3, feature_channels=24, upscale=4),
    "swift_srgan": _recipe("SwiftSRGAN", "SwiftSRGAN", 4, num_channels=24, num_blocks=3, upscale_factor=4),
    "swin2sr": _recipe("Swin2SR", "Swin2SR", 4, **_SWIN, **_DIRECT),
    "swinir": _recipe("SwinIR", "SwinIR", 4, **_SWIN, **_DIRECT),
    "uformer": _recipe(
        "Uformer", "Uformer", 1, embed_dim=16, depths=[1, 1, 1, 1, 2, 1, 1, 1, 1],
        num_heads=[1, 2, 4, 4, 4, 4, 4, 4, 2], fit=Fit(steps=15, patch_px=128), tile_px=128,
    ),
}
# fmt: on

NOT_COVERED: dict[str, str] = {
    "GFPGAN": "restores aligned faces of 512x512 with a StyleGAN decoder that cannot be made small",
    "LaMa": "fills holes: takes a mask beside the picture",
    "RestoreFormer": "restores aligned faces with a vector-quantized code book of fixed size",
}
"""Families of spandrel's registry that have no recipe, and why."""


def build(name: str) -> nn.Module:
    """The network of a recipe with seeded initial weights, called as its recipe says.

    Raises:
        ImportError: spandrel is not installed.
    """
    _import_spandrel()
    recipe = RECIPES[name]
    constructor = getattr(importlib.import_module(f"spandrel.architectures.{recipe.family}"), recipe.constructor)
    with torch.random.fork_rng():
        torch.manual_seed(SEED)
        network: nn.Module = constructor(**recipe.arguments)
    return network.eval() if recipe.call is None else _called(network, recipe.call).eval()


class _Plain:
    """A network under its own `forward`, with its attributes."""

    def __init__(self, network: nn.Module, forward: Callable[..., Any]) -> None:
        self._network, self.forward = network, functools.partial(forward, network)

    def __call__(self, *inputs: Tensor) -> Any:
        return self.forward(*inputs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._network, name)


def _called(network: nn.Module, call: Call) -> nn.Module:
    """The same network with another `forward`; the keys of its state stay as they are, unlike in a wrapper."""
    plain = type(network)

    def forward(self: nn.Module, x: Tensor) -> Tensor:
        return call(_Plain(self, plain.forward), x)

    network.__class__ = type(plain.__name__, (plain,), {"forward": forward})
    return network


def registered_families() -> list[str]:
    """The ids of all architectures in spandrel's registry."""
    return [str(support.architecture.id) for support in _import_spandrel().MAIN_REGISTRY]


def _import_spandrel() -> Any:
    """The package, imported as the product does it where the product can: without a working torchvision."""
    with contextlib.suppress(ModuleNotFoundError):
        importlib.import_module("sr_edge.models.recognition.library").require_library()
    return importlib.import_module("spandrel")


def __getattr__(name: str) -> Callable[[], nn.Module]:
    """A factory for each recipe, so that `--arch network_recipes:compact` works."""
    if name in RECIPES:
        return functools.partial(build, name)
    raise AttributeError(f"no recipe {name!r} in {__name__}; there are {', '.join(RECIPES)}")
