"""Checks that the output of a network resembles its input, which wrong normalization in its code prevents.

Constants such as a mean, a range or a last activation are in the code of a network and not in its checkpoint. A network
that was written from the keys of a checkpoint can lack them. Its graph is then equal to it, and both outputs are gray.
"""

from __future__ import annotations

import math

import numpy as np
import torch

from sr_edge.export.graph.patches import CheckPatch
from sr_edge.models.controlled import control_tensors, controls_of
from sr_edge.models.loaded import LoadedModel

MIN_PSNR_DB = 15.0
"""Of the output, reduced to the size of the input, against the input. Super-resolution stays above 25 dB; a network
that brightens or removes haze changes the image, and still stays above this on most."""


def resemblance_remark(model: LoadedModel, photograph: CheckPatch) -> str:
    """A remark where the output does not resemble the photograph, otherwise ""."""
    with torch.inference_mode():
        output = model.module(torch.from_numpy(photograph.batch), *control_tensors(controls_of(model.module)))
    reduced = torch.nn.functional.avg_pool2d(output, model.card.scale).numpy()
    square = float(np.mean(np.square(np.clip(reduced, 0.0, 1.0) - photograph.batch)))
    psnr_db = math.inf if square == 0.0 else -10.0 * math.log10(square)
    if psnr_db >= MIN_PSNR_DB:
        return ""
    return (
        f"the output does not resemble the input: reduced to its size, the output has a PSNR of {psnr_db:.1f} dB on a "
        "photograph, where 25 dB are usual; check the normalization in the network's code (mean, range, last "
        "activation: they are not in a checkpoint) and --input-range"
    )
