"""The reference result: one frame upscaled by the network in PyTorch."""

from __future__ import annotations

import torch

from sr_edge.controls import Controls
from sr_edge.frames import Frame, batch_from_frame, frame_from_batch
from sr_edge.models.controlled import control_tensors, controls_of
from sr_edge.models.loaded import LoadedModel


def reference_frame(model: LoadedModel, frame_hwc: Frame, controls: Controls, bfloat16: bool = False) -> Frame:
    """Upscales a frame with the network in PyTorch, as one tile.

    Args:
        model: the network.
        frame_hwc: uint8 or uint16 (height, width, card.channels), of a size that the network accepts.
        controls: values of its controls by name; a control that is left out has its default.
        bfloat16: run convolutions and matrix multiplications in bfloat16 by torch.autocast; otherwise all in float32.

    Returns:
        A frame of the same type, `card.scale` times as large.
    """
    scalars = control_tensors(controls_of(model.module), controls)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
        batch = model.module(torch.from_numpy(batch_from_frame(frame_hwc)), *scalars)
    return frame_from_batch(batch.float().numpy(), frame_hwc.dtype)
