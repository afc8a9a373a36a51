"""Tensors of PyTorch as pictures: (height, width), (channels, height, width), or a batch of the latter.

PyTorch is not imported here: a program that has a tensor has loaded it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

from sr_edge.errors import FrameError
from sr_edge.frames import Picture
from sr_edge.spec import CHANNELS
from sr_edge.upscaler.arrays import Conversion, pictures_of_array

Tensor = Any
_TYPES = ("uint8", "uint16", "float16", "bfloat16", "float32", "float64")


def pictures_of_tensor(tensor: Tensor, order: str) -> Conversion:
    """The pictures in a tensor on the CPU.

    Raises:
        FrameError: The tensor is on another device, requires a gradient, or has another shape or type, or as
            `pictures_of_array`.
    """
    _require_readable(tensor)
    _require_shape(tensor)
    torch = sys.modules["torch"]
    array = (tensor.float() if tensor.dtype is torch.bfloat16 else tensor).resolve_neg().numpy()
    given = pictures_of_array(array if array.ndim == 2 else np.moveaxis(array, -3, -1), order)

    def restore(results: Iterator[Picture]) -> Tensor:
        upscaled = given.restore(results)
        channels_first = upscaled if upscaled.ndim == 2 else np.moveaxis(upscaled, -1, -3)
        return torch.from_numpy(np.ascontiguousarray(channels_first)).to(tensor.dtype)

    return Conversion(given.pictures, restore)


def _require_readable(tensor: Tensor) -> None:
    torch = sys.modules["torch"]
    is_boolean, is_float = tensor.dtype is torch.bool, tensor.is_floating_point()
    kind = str(tensor.dtype).removeprefix("torch.")
    is_picture = kind in _TYPES
    obstacles = (
        (tensor.device.type != "cpu", f"is on the device {tensor.device}", str(tensor.device), "tensor.cpu()"),
        (tensor.requires_grad, "requires a gradient, which the result cannot have", "requires_grad", "tensor.detach()"),
        (tensor.layout is not torch.strided, f"is {tensor.layout}", str(tensor.layout), "tensor.to_dense()"),
        (tensor.is_quantized, "is quantized", str(tensor.dtype), "tensor.dequantize()"),
        (not tensor.numel(), "is empty", tuple(tensor.shape), "one with at least one pixel"),
        (is_boolean, "has booleans", kind, "tensor.to(torch.uint8) * 255"),
        (tensor.is_complex(), "has complex samples", kind, "tensor.abs(), for example"),
        (is_float and not is_picture, f"is {kind}", kind, "tensor.float()"),
        (not is_picture, f"is {kind}", kind, "tensor.to(torch.uint8) if its values are 0 to 255"),
    )
    for is_one, problem, found, call in obstacles:
        if is_one:
            raise FrameError(f"the tensor {problem}", found=found, wanted="a dense CPU tensor", remedy=f"give {call}")


def _require_shape(tensor: Tensor) -> None:
    shape = tuple(tensor.shape)
    if tensor.ndim == 2 or (tensor.ndim in (3, 4) and shape[-3] in CHANNELS):
        return
    channels_last = tensor.ndim in (3, 4) and shape[-1] in CHANNELS
    axes = "2, 0, 1" if tensor.ndim == 3 else "0, 3, 1, 2"
    raise FrameError(
        f"a tensor of shape {shape} is not a picture",
        found=shape,
        wanted=("(channels, height, width)", "(number, channels, height, width)", "(height, width)"),
        remedy=f"move its channels to the front: tensor.permute({axes})"
        if channels_last
        else "give (channels, height, width) with 1, 3 or 4 channels, or a batch of them",
    )
