"""Trains the small networks of networks.py on the photographs that calibration comes with, a minute or so each.

python -m tests.calibration.train_networks                     all of them
python -m tests.calibration.train_networks residual grouped    some of them
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from sr_edge.bench.compare.comparison import PICTURES as UNSEEN
from sr_edge.export.graph.patches import PICTURES
from sr_edge.frames import batch_from_frame, frame_from_batch
from sr_edge.image_files import list_pictures, read_picture
from sr_edge.metrics import psnr_y_db
from sr_edge.resize import resize_bicubic
from tests.calibration.networks import FIGURES, NETWORKS, SmallNetwork, trained, weights_of

STEPS = 1500
CROP_PX = 48
"""Of the low-resolution side: a multiple of the attention windows; all of a crop's pixels make one step."""

LEARNING_RATE = 3e-3
NOISE = 12.0 / 255.0
"""What the network of the same size has to remove."""

UNSEEN_PX = 96
Pixels = npt.NDArray[np.float32]


def main(names: Sequence[str]) -> None:
    torch.set_num_threads(1)  # the same weights from any machine of that kind, and as fast: the networks are tiny
    figures = json.loads(FIGURES.read_text()) if FIGURES.exists() else {}
    for name in names or NETWORKS:
        state = train(NETWORKS[name], seed=len(name))
        save_file({key: value.half().contiguous() for key, value in state.items()}, weights_of(name))
        network_db, bicubic_db = unseen_psnr_db(name)
        figures[name] = {"network_db": round(network_db, 2), "bicubic_db": round(bicubic_db, 2)}
        FIGURES.write_text(json.dumps(figures, indent=1) + "\n")
        sys.stdout.write(f"{name}: {network_db:.2f} dB, bicubic {bicubic_db:.2f} dB\n")
        sys.stdout.flush()


def train(network: SmallNetwork, seed: int) -> dict[str, Tensor]:
    """Adam on the mean absolute error, its rate falling along a cosine; one crop of one photograph a step."""
    torch.manual_seed(seed)
    generator = np.random.default_rng(seed)
    pairs = [pair(read_picture(path).pixels, network) for path in list_pictures(PICTURES)]
    module = network.build().train()
    optimizer = torch.optim.Adam(module.parameters(), LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    for _ in range(STEPS):
        low, high = (torch.from_numpy(batch) for batch in crop(*pairs[generator.integers(len(pairs))], generator))
        optimizer.zero_grad()
        nn.functional.l1_loss(module(low), high).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    return {name: value.detach() for name, value in module.state_dict().items()}


def pair(frame_hwc: npt.NDArray[np.unsignedinteger], network: SmallNetwork) -> tuple[Pixels, Pixels]:
    """What the network is given and what it should make of it: float (1, colours, height, width)."""
    high = batch_from_frame(np.ascontiguousarray(frame_hwc))
    if network.colours == 1:
        high = np.tensordot(np.array([0.299, 0.587, 0.114], np.float32), high, axes=(0, 1))[np.newaxis]
    high = high[..., : high.shape[2] // network.scale * network.scale, : high.shape[3] // network.scale * network.scale]
    if network.scale == 1:
        noise = np.random.default_rng(0).standard_normal(high.shape).astype(np.float32)
        return np.clip(high + np.float32(NOISE) * noise, 0.0, 1.0), high
    return enlarged(high, 1 / network.scale), high


def enlarged(batch: Pixels, scale: float) -> Pixels:
    """By bicubic interpolation."""
    planes = resize_bicubic(np.ascontiguousarray(batch[0].transpose(1, 2, 0)), scale)
    return np.clip(planes.transpose(2, 0, 1)[np.newaxis], 0.0, 1.0)


def crop(low: Pixels, high: Pixels, generator: np.random.Generator) -> tuple[Pixels, Pixels]:
    """The same place of both, turned and mirrored alike."""
    scale = high.shape[2] // low.shape[2]
    top, left = (int(generator.integers(side - CROP_PX + 1)) for side in low.shape[2:])
    low = low[..., top : top + CROP_PX, left : left + CROP_PX]
    high = high[..., scale * top : scale * (top + CROP_PX), scale * left : scale * (left + CROP_PX)]
    turns, mirrored = int(generator.integers(4)), bool(generator.integers(2))
    turned = [np.rot90(batch, turns, (2, 3))[..., :: -1 if mirrored else 1] for batch in (low, high)]
    return np.ascontiguousarray(turned[0]), np.ascontiguousarray(turned[1])


def unseen_psnr_db(name: str) -> tuple[float, float]:
    """PSNR of luma in the middle of a photograph that nobody trained on: the network's, and bicubic enlargement's."""
    network = NETWORKS[name]
    (path,) = list_pictures(UNSEEN)
    frame, side = read_picture(path).pixels, UNSEEN_PX * network.scale
    top, left = ((length - side) // 2 for length in frame.shape[:2])
    low, high = pair(frame[top : top + side, left : left + side], network)
    with torch.inference_mode():
        upscaled: Pixels = trained(name)(torch.from_numpy(low)).numpy()
    reference, *given = (shown(batch) for batch in (high, upscaled, enlarged(low, network.scale)))
    network_db, bicubic_db = (psnr_y_db(frame, reference, network.scale) for frame in given)
    return network_db, bicubic_db


def shown(batch: Pixels) -> npt.NDArray[np.unsignedinteger]:
    """As 8-bit RGB; gray is equal colours."""
    return frame_from_batch(np.broadcast_to(batch, (1, 3, *batch.shape[2:])))


if __name__ == "__main__":
    main(sys.argv[1:])
