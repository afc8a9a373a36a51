"""Does a network give the picture that it was given, only larger? A wrong normalisation fits every weight and does not.

Constants such as a mean, a range or a last activation stand in the code of a network and not in its checkpoint. A
network written from the keys of a checkpoint can lack them: its graph is its own function, and its output is gray.
"""

from __future__ import annotations

import math

import numpy as np
import torch

from sr_edge.export.patches import CheckPatch
from sr_edge.models.controlled import control_tensors, controls_of
from sr_edge.models.loaded import LoadedModel

LEAST_DB = 15.0
"""Of the output, shrunk to the input's size, against the input. Super-resolution stays above 25 dB; a network that
brightens or removes haze changes a picture, and still stays above this on most."""


def resemblance_remark(model: LoadedModel, photograph: CheckPatch) -> str:
    """A warning where the output does not resemble the photograph, or ""."""
    with torch.inference_mode():
        output = model.module(torch.from_numpy(photograph.batch), *control_tensors(controls_of(model.module)))
    shrunk = torch.nn.functional.avg_pool2d(output, model.card.scale).numpy()
    square = float(np.mean(np.square(np.clip(shrunk, 0.0, 1.0) - photograph.batch)))
    psnr_db = math.inf if square == 0.0 else -10.0 * math.log10(square)
    if psnr_db >= LEAST_DB:
        return ""
    return (
        f"the output does not resemble the picture: shrunk to its size it has {psnr_db:.1f} dB on a photograph, where "
        "25 are usual; check the normalisation in the network's code (mean, range, last activation: they are not in a "
        "checkpoint) and --input-range"
    )
