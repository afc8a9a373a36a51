"""Small seeded networks of spandrel's families: constructor arguments, and factories for `--arch network_recipes:NAME`.

The arguments are small, and wherever spandrel cannot read one from a state dict they are what it assumes, so that the
network it builds from the checkpoint is the one that wrote it. `fitted` makes weights that behave like trained ones:
seeded initial weights, fitted for a few steps to the bicubic enlargement of the pictures that calibration brings along
(to the picture itself where nothing is enlarged), because plain random weights give outputs far from any picture.
"""

from __future__ import annotations

import functools
import importlib
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

SEED = 0
FIT_STEPS, SLOW_FIT_STEPS, FIT_RATE = 120, 50, 2e-3
PICTURES = Path(__file__).resolve().parents[1] / "sr_edge" / "calibration" / "pictures"

Call = Callable[[Any, Tensor], Tensor]


@dataclass(frozen=True)
class Recipe:
    """A small network of one family.

    Attributes:
        family: spandrel's id of the architecture.
        constructor: class or function in `spandrel.architectures.FAMILY`.
        scale: magnification; 1 for restoration.
        arguments: what the constructor is called with.
        tile_px: side of the tile to deploy; the product's default unless the family cannot take it.
        fit_px: side of the patches to fit on.
        fit_batch: how many patches a step of the fit takes.
        call: how the family is called, where that is not `network(x)`; as spandrel's descriptor does it.
        fit_steps: how many steps it takes; fewer where a step is slow.
    """

    family: str
    constructor: str
    scale: int
    arguments: Mapping[str, Any] = field(default_factory=dict)
    tile_px: int = 96
    fit_px: int = 64
    fit_batch: int = 2
    call: Call | None = None
    fit_steps: int = FIT_STEPS

    @property
    def purpose(self) -> str:
        return "restoration" if self.scale == 1 else "super-resolution"


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


_SWIN = {"embed_dim": 24, "depths": [2, 2], "num_heads": [2, 2], "window_size": 8, "mlp_ratio": 2.0}
_UNET = {"nc": [16, 16, 24, 32], "nb": 2}

RECIPES: dict[str, Recipe] = {
    "compact": Recipe("Compact", "Compact", 4, {"num_feat": 24, "num_conv": 6, "upscale": 4}),
    "swift_srgan": Recipe("SwiftSRGAN", "SwiftSRGAN", 4, {"num_channels": 24, "num_blocks": 3, "upscale_factor": 4}),
    "hat": Recipe(
        "HAT",
        "HAT",
        4,
        {**_SWIN, "compress_ratio": 3, "squeeze_factor": 8, "upscale": 4, "upsampler": "pixelshuffle"},
        fit_steps=SLOW_FIT_STEPS,
    ),
    "grl": Recipe(
        "GRL",
        "GRL",
        4,
        {
            "embed_dim": 32,
            "depths": [2, 2],
            "num_heads_window": [2, 2],
            "num_heads_stripe": [2, 2],
            "mlp_ratio": 2.0,
            "window_size": 16,
            "stripe_size": [32, 64],
            "stripe_shift": True,
            "anchor_window_down_factor": 4,
            "upscale": 4,
            "upsampler": "nearest+conv",
        },
        fit_steps=SLOW_FIT_STEPS,
    ),
    "swin2sr": Recipe("Swin2SR", "Swin2SR", 4, {**_SWIN, "upscale": 4, "upsampler": "pixelshuffledirect"}),
    "swinir": Recipe("SwinIR", "SwinIR", 4, {**_SWIN, "upscale": 4, "upsampler": "pixelshuffledirect"}),
    "omnisr": Recipe("OmniSR", "OmniSR", 4, {"num_feat": 32, "res_num": 2, "block_num": 1, "up_scale": 4}),
    "scunet": Recipe("SCUNet", "SCUNet", 1, {"config": [1] * 7, "dim": 64}, fit_steps=SLOW_FIT_STEPS),
    "fbcnn": Recipe("FBCNN", "FBCNN", 1, {"nc": [16, 16, 24, 512], "nb": 2}, call=_first, fit_steps=SLOW_FIT_STEPS),
    "uformer": Recipe(
        "Uformer",
        "Uformer",
        1,
        {"embed_dim": 16, "depths": [1, 1, 1, 1, 2, 1, 1, 1, 1], "num_heads": [1, 2, 4, 4, 4, 4, 4, 4, 2]},
        tile_px=128,
        fit_px=128,
        fit_steps=SLOW_FIT_STEPS,
    ),
    "rgt": Recipe(
        "RGT",
        "RGT",
        4,
        {"embed_dim": 32, "depth": [2, 2], "num_heads": [2, 2], "mlp_ratio": 2.0, "upscale": 4, "split_size": [8, 8]},
        fit_steps=SLOW_FIT_STEPS,
    ),
    "dat": Recipe(
        "DAT",
        "DAT",
        4,
        {
            "embed_dim": 32,
            "depth": [3, 2],
            "num_heads": [2, 2],
            "expansion_factor": 2.0,
            "split_size": [8, 16],
            "upscale": 4,
            "upsampler": "pixelshuffledirect",
        },
    ),
    "craft": Recipe(
        "CRAFT",
        "CRAFT",
        4,
        {"embed_dim": 24, "depths": [2, 2], "num_heads": [2, 2], "upscale": 4},
        fit_steps=SLOW_FIT_STEPS,
    ),
    "kbnet_s": Recipe(
        "KBNet",
        "KBNet_s",
        1,
        {"width": 16, "middle_blk_num": 1, "enc_blk_nums": [1, 1], "dec_blk_nums": [1, 1]},
    ),
    "kbnet_l": Recipe(
        "KBNet",
        "KBNet_l",
        1,
        {"dim": 24, "num_blocks": [1, 1, 1, 1], "num_refinement_blocks": 1},
        fit_steps=SLOW_FIT_STEPS,
    ),
    "ditn": Recipe("DITN", "DITN", 4, {"dim": 24, "ITL_blocks": 2, "SAL_blocks": 2, "UFONE_blocks": 1, "upscale": 4}),
    "mmrealsr": Recipe(
        "MMRealSR",
        "MMRealSR",
        4,
        {
            "num_in_ch": 3,
            "num_out_ch": 3,
            "scale": 4,
            "num_feat": 24,
            "num_block": 2,
            "num_grow_ch": 12,
            "num_feats": [16, 24, 32, 48],
            "num_blocks": [1, 1, 1, 1],
        },
        call=_first,
        fit_steps=SLOW_FIT_STEPS,
    ),
    "span": Recipe("SPAN", "SPAN", 4, {"num_in_ch": 3, "num_out_ch": 3, "feature_channels": 24, "upscale": 4}),
    "realcugan_x2": Recipe("RealCUGAN", "UpCunet2x", 2, fit_batch=1, fit_steps=SLOW_FIT_STEPS),
    "realcugan_x3": Recipe("RealCUGAN", "UpCunet3x", 3, fit_px=48, fit_batch=1, fit_steps=SLOW_FIT_STEPS),
    "realcugan_x4": Recipe("RealCUGAN", "UpCunet4x", 4, fit_px=48, fit_batch=1, fit_steps=SLOW_FIT_STEPS),
    "realcugan_x2_fast": Recipe("RealCUGAN", "UpCunet2x_fast", 2),
    "safmn": Recipe("SAFMN", "SAFMN", 4, {"dim": 24, "n_blocks": 3, "upscaling_factor": 4}),
    "safmn_bcie": Recipe("SAFMNBCIE", "SAFMNBCIE", 1, {"dim": 24, "n_blocks": 2, "num_layers": 2}),
    "dctlsa": Recipe("DCTLSA", "DCTLSA", 4, {"nf": 25, "upscale": 4}, fit_steps=SLOW_FIT_STEPS),
    "fftformer": Recipe("FFTformer", "FFTformer", 1, {"dim": 16, "num_blocks": [1, 1, 1], "num_refinement_blocks": 1}),
    "nafnet": Recipe(
        "NAFNet",
        "NAFNet",
        1,
        {"width": 16, "middle_blk_num": 1, "enc_blk_nums": [1, 1, 1], "dec_blk_nums": [1, 1, 1]},
    ),
    "atd": Recipe(
        "ATD",
        "ATD",
        4,
        {**_SWIN, "num_tokens": 32, "reducted_dim": 4, "upscale": 4, "upsampler": "pixelshuffledirect"},
        fit_steps=SLOW_FIT_STEPS,
    ),
    "mixdehazenet": Recipe("MixDehazeNet", "MixDehazeNet", 1, call=_from_signed),
    "drunet": Recipe("DRUNet", "DRUNet", 1, {**_UNET, "in_nc": 4, "out_nc": 3}, call=_with_noise_level),
    "dncnn": Recipe("DnCNN", "DnCNN", 1, {"in_nc": 3, "out_nc": 3, "nc": 24, "nb": 6}),
    "ipt": Recipe(
        "IPT",
        "IPT",
        4,
        {"patch_size": 24, "n_feats": 16, "num_layers": 2, "scale": [4]},
        call=_in_pieces,
        fit_px=48,
        fit_batch=1,
        fit_steps=SLOW_FIT_STEPS,
    ),
    "drct": Recipe(
        "DRCT",
        "DRCT",
        4,
        {
            "embed_dim": 24,
            "depths": [6],
            "num_heads": [2],
            "window_size": 8,
            "gc": 8,
            "upscale": 4,
            "upsampler": "pixelshuffle",
        },
        fit_steps=SLOW_FIT_STEPS,
    ),
    "esrgan": Recipe("ESRGAN", "ESRGAN", 4, {"num_filters": 24, "num_blocks": 2, "scale": 4}, fit_steps=SLOW_FIT_STEPS),
    "esrgan_x2": Recipe(
        "ESRGAN", "ESRGAN", 2, {"in_nc": 12, "num_filters": 24, "num_blocks": 2, "scale": 4, "shuffle_factor": 2}
    ),
    "plksr": Recipe("PLKSR", "PLKSR", 4, {"dim": 32, "n_blocks": 3, "upscaling_factor": 4}),
    "realplksr": Recipe("PLKSR", "RealPLKSR", 4, {"dim": 32, "n_blocks": 3, "upscaling_factor": 4}),
    "realplksr_dysample": Recipe(
        "PLKSR", "RealPLKSR", 4, {"dim": 32, "n_blocks": 3, "upscaling_factor": 4, "dysample": True}
    ),
    "retinexformer": Recipe("RetinexFormer", "RetinexFormer", 1, {"n_feat": 16, "stage": 1}),
    "hvi_cidnet": Recipe("HVICIDNet", "HVICIDNet", 1, {"channels": [12, 12, 24, 48]}),
    "seemore": Recipe("SeemoRe", "SeemoRe", 4, {"num_experts": 3, "num_layers": 2, "embedding_dim": 24, "scale": 4}),
    "mosr": Recipe("MoSR", "MoSR", 4, {"n_block": 3, "dim": 24, "upscale": 4}),
    "mosr_geo": Recipe("MoSR", "MoSR", 4, {"n_block": 3, "dim": 24, "upscale": 4, "upsampler": "gps"}),
    "mosr_dysample": Recipe("MoSR", "MoSR", 4, {"n_block": 3, "dim": 24, "upscale": 4, "upsampler": "dys"}),
    "moesr": Recipe("MoESR", "MoESR", 4, {"dim": 24, "n_blocks": 2, "n_block": 2, "scale": 4}),
    "rcan": Recipe("RCAN", "RCAN", 4, {"n_resgroups": 2, "n_resblocks": 2, "n_feats": 24, "reduction": 8, "scale": 4}),
    "aurasr": Recipe(
        "AuraSR",
        "AuraSR",
        4,
        {
            "dim": 8,
            "image_size": None,
            "input_image_size": None,
            "self_attn_dim_head": 8,
            "skip_connect_scale": 0.4,
            "style_network": {"dim_in": 16, "dim_out": 64, "depth": 2},
            "attn_depths": (2, 2, 2, 1, 1),
            "mid_attn_depth": 1,
        },
        fit_steps=SLOW_FIT_STEPS,
    ),
    "fdat": Recipe(
        "FDAT", "FDAT", 4, {"embed_dim": 24, "num_groups": 1, "depth_per_group": 1, "num_heads": 2, "scale": 4}
    ),
}

NOT_COVERED: dict[str, str] = {
    "GFPGAN": "restores aligned faces of 512x512 with a StyleGAN decoder that cannot be made small",
    "RestoreFormer": "restores aligned faces with a vector-quantized code book of fixed size",
    "LaMa": "fills holes: takes a mask beside the picture",
}
"""Families of spandrel's registry that have no recipe, and why."""


def build(name: str) -> nn.Module:
    """The network of a recipe with seeded initial weights, called as its recipe says.

    Raises:
        ImportError: spandrel is not installed.
    """
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


def fitted(name: str) -> nn.Module:
    """The network of a recipe after a short seeded fit: its output is near the enlarged input, as a trained one's."""
    recipe = RECIPES[name]
    network = build(name).train()
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = torch.optim.Adam(parameters, lr=FIT_RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, FIT_RATE, total_steps=recipe.fit_steps)
    pictures = [_read(path) for path in sorted(PICTURES.glob("*.png"))]
    with torch.random.fork_rng():
        torch.manual_seed(SEED)
        for _ in range(recipe.fit_steps):
            batch = _batch(pictures, recipe.fit_batch, recipe.fit_px)
            loss = nn.functional.l1_loss(network(batch.clone()), _enlarged(batch, recipe.scale))
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            schedule.step()
    return network.eval()


def nearness_db(network: nn.Module, recipe: Recipe) -> float:
    """PSNR of the network's output against the bicubic enlargement, on the middle of the first picture."""
    picture = _read(sorted(PICTURES.glob("*.png"))[0])
    top, left = ((side - recipe.tile_px) // 2 for side in picture.shape[1:])
    patch = picture[None, :, top : top + recipe.tile_px, left : left + recipe.tile_px]
    with torch.inference_mode():
        error = network(patch.clone()) - _enlarged(patch, recipe.scale)
    return float(-10 * torch.log10(error.square().mean()))


def _read(path: Path) -> Tensor:
    pixels = np.asarray(Image.open(path).convert("RGB"), dtype=np.float32) / 255
    return torch.from_numpy(pixels).permute(2, 0, 1)


def _batch(pictures: Sequence[Tensor], count: int, side: int) -> Tensor:
    return torch.stack([_crop(pictures[index % len(pictures)], side) for index in range(count)])


def _crop(picture: Tensor, side: int) -> Tensor:
    top, left = (int(torch.randint(0, length - side + 1, ())) for length in picture.shape[1:])
    return picture[:, top : top + side, left : left + side]


def _enlarged(batch: Tensor, scale: int) -> Tensor:
    if scale == 1:
        return batch
    return nn.functional.interpolate(batch, scale_factor=scale, mode="bicubic").clamp(0, 1)


def __getattr__(name: str) -> Callable[[], nn.Module]:
    """A factory for each recipe, so that `--arch network_recipes:compact` works."""
    if name in RECIPES:
        return functools.partial(build, name)
    raise AttributeError(f"no recipe {name!r} in {__name__}; there are {', '.join(RECIPES)}")


def registered_families() -> list[str]:
    """The ids of all architectures in spandrel's registry."""
    registry = importlib.import_module("spandrel").MAIN_REGISTRY
    return [str(support.architecture.id) for support in registry]


def write_checkpoint(name: str, path: Path) -> float:
    """Writes the state dict of the fitted network; returns how near its output is to the enlarged input, in dB."""
    network = fitted(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(network.state_dict(), path)
    return nearness_db(network, RECIPES[name])


if __name__ == "__main__":
    print(json.dumps({"nearness_db": write_checkpoint(sys.argv[1], Path(sys.argv[2]))}))
