"""Weights that behave like trained ones, for the small networks of network_recipes.py.

Plain random weights give outputs far from any picture, and gates that judge pictures say nothing about them. So seeded
initial weights are fitted for a few steps to the bicubic enlargement of the two pictures that come along (to
the picture itself where nothing is enlarged): L1 loss, Adam, one cycle of the learning rate.

python benchmarks/network_fit.py NAME FILE writes the state dict of one network.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from network_recipes import RECIPES, SEED, Fit, build
from PIL import Image
from torch import Tensor, nn

RATE, GRADIENT_NORM = 2e-3, 1.0
PICTURES = Path(__file__).resolve().parents[1] / "sr_edge" / "export" / "pictures"


def fitted(name: str, steps: int | None = None) -> nn.Module:
    """The network of a recipe in eval mode, after its fit or after so many steps."""
    recipe = RECIPES[name]
    network = build(name).train()
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = torch.optim.Adam(parameters, lr=RATE)
    steps = recipe.fit.steps if steps is None else steps
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps + 1)
    pictures = read_pictures()
    with torch.random.fork_rng():
        torch.manual_seed(SEED)
        for _ in range(steps):
            batch = _batch(pictures, recipe.fit)
            loss = nn.functional.l1_loss(network(batch.clone()), enlarged(batch, recipe.scale))
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(parameters, GRADIENT_NORM)
            optimizer.step()
            schedule.step()
    return network.eval()


def nearness_db(network: nn.Module, scale: int, tile_px: int) -> float:
    """PSNR of the network's output against the bicubic enlargement, on the middle of the first picture."""
    picture = read_pictures()[0]
    top, left = ((side - tile_px) // 2 for side in picture.shape[1:])
    patch = picture[None, :, top : top + tile_px, left : left + tile_px]
    with torch.inference_mode():
        error = network(patch.clone()) - enlarged(patch, scale)  # some networks overwrite their input
    return float(-10 * torch.log10(error.square().mean()))


def enlarged(batch: Tensor, scale: int) -> Tensor:
    """What the fit aims at: the bicubic enlargement, or the picture itself at scale 1."""
    if scale == 1:
        return batch
    return nn.functional.interpolate(batch, scale_factor=scale, mode="bicubic").clamp(0, 1)


def read_pictures() -> list[Tensor]:
    """The pictures that come along, float (3, height, width) in [0, 1]."""
    pictures = [np.asarray(Image.open(path).convert("RGB"), np.float32) for path in sorted(PICTURES.glob("*.png"))]
    return [torch.from_numpy(pixels / 255).permute(2, 0, 1) for pixels in pictures]


def _batch(pictures: Sequence[Tensor], fit: Fit) -> Tensor:
    return torch.stack([_crop(pictures[index % len(pictures)], fit.patch_px) for index in range(fit.batch)])


def _crop(picture: Tensor, side: int) -> Tensor:
    top, left = (int(torch.randint(0, length - side + 1, ())) for length in picture.shape[1:])
    return picture[:, top : top + side, left : left + side]


def recipe_digest(name: str) -> str:
    """Changes with everything that the weights of a recipe depend on; a checkpoint of another digest is out of date."""
    recipe = RECIPES[name]
    call = recipe.call.__name__ if recipe.call is not None else ""
    found = (recipe.family, recipe.constructor, recipe.scale, sorted(recipe.arguments.items()), call, recipe.fit, SEED)
    return hashlib.sha256(repr((*found, RATE, GRADIENT_NORM)).encode()).hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=sorted(RECIPES), metavar="NAME", help="the recipe, of network_recipes.py")
    parser.add_argument("file", type=Path, metavar="FILE", help="the state dict to write")
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # equal sums whatever the machine
    recipe, network = RECIPES[arguments.name], fitted(arguments.name)
    arguments.file.parent.mkdir(parents=True, exist_ok=True)
    torch.save(network.state_dict(), arguments.file)
    print(json.dumps({"nearness_db": nearness_db(network, recipe.scale, recipe.tile_px)}))


if __name__ == "__main__":
    main()
