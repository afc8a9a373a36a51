"""PSNR-Y of a network in PyTorch on whole images."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from sr_edge.frames import batch_from_frame, frame_from_batch
from sr_edge.metrics import psnr_y_db
from sr_edge.resize import resize_bicubic
from sr_edge.training.data import PairSet


def psnr_by_picture(network: nn.Module, pairs: PairSet) -> dict[str, float]:
    """PSNR-Y in dB of every pair, without a border of `scale` pixels.

    Args:
        network: it is put into eval mode and runs on its own device; its output is rounded to 8 bits.
        pairs: the test pairs.
    """
    network.eval()
    device = next(network.parameters()).device
    psnr_db = {}
    with torch.inference_mode():
        for pair in pairs.pairs:
            batch = torch.from_numpy(batch_from_frame(pair.lr)).to(device)
            frame = frame_from_batch(network(batch).cpu().numpy(), np.uint8)
            psnr_db[pair.name] = psnr_y_db(frame, pair.hr, border=pairs.scale)
    return psnr_db


def mean_psnr_db(network: nn.Module, pairs: PairSet) -> float:
    """Mean PSNR-Y in dB over all pairs (`psnr_by_picture`)."""
    return float(np.mean(list(psnr_by_picture(network, pairs).values())))


def mean_bicubic_psnr_db(pairs: PairSet) -> float:
    """Mean PSNR-Y in dB of bicubic upsampling of the same low-resolution images."""
    upscaled = ((resize_bicubic(pair.lr, pairs.scale), pair.hr) for pair in pairs.pairs)
    return float(np.mean([psnr_y_db(frame, hr, border=pairs.scale) for frame, hr in upscaled]))
