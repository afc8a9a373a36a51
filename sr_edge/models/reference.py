"""The reference rendering: what a network in PyTorch makes of one frame."""

from __future__ import annotations

import torch

from sr_edge.controls import Controls
from sr_edge.frames import Frame, batch_from_frame, frame_from_batch
from sr_edge.models.controlled import control_tensors, controls_of
from sr_edge.models.loaded import LoadedModel


def reference_frame(model: LoadedModel, frame_hwc: Frame, controls: Controls, bfloat16: bool = False) -> Frame:
    """Runs an RGB frame through the network as one tile.

    Args:
        model: the network.
        frame_hwc: uint8 or uint16 (height, width, 3), of a size that the network takes.
        controls: values of its run-time scalars; those left out are at their defaults.
        bfloat16: whether torch's autocast puts convolutions and matrix products into bfloat16; else all is float32.

    Returns:
        A frame of the same type, `card.scale` times as large.
    """
    scalars = control_tensors(controls_of(model.module), controls)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
        batch = model.module(torch.from_numpy(batch_from_frame(frame_hwc)), *scalars)
    return frame_from_batch(batch.float().numpy(), frame_hwc.dtype)
