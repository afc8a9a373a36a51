"""Exact counts of a network's multiply-accumulates at one input size, without computing or allocating anything.

A multiply-accumulate is one product of a convolution, linear map or matrix product and its addition to a sum.
Elementwise work (activations, biases, norms, products with a scale per channel) is not counted, as in the papers'
"FLOPs", which are multiply-accumulates too.
"""

from __future__ import annotations

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functional_call
from torch.utils.flop_counter import FlopCounterMode

FLOPS_PER_MAC = 2


def count_macs(module: nn.Module, height: int, width: int, channels: int = 3) -> int:
    """Multiply-accumulates of one forward pass on an image (1, channels, height, width).

    Runs on fake tensors, so the size costs nothing. `module` may be on the meta device and is not changed.
    """
    return count_layer_macs(module, torch.Size((1, channels, height, width)))


def count_layer_macs(layer: nn.Module, input_shape: torch.Size) -> int:
    """Multiply-accumulates of one forward pass of a layer on a tensor of `input_shape`.

    Args:
        layer: takes one tensor; it may be on the meta device and is not changed.
        input_shape: shape of that tensor.
    """
    tensors = {**dict(layer.named_parameters()), **dict(layer.named_buffers())}
    dtype = next((tensor.dtype for tensor in tensors.values() if tensor.is_floating_point()), torch.float32)
    counter = FlopCounterMode(display=False)
    # Fake tensors instead of meta tensors, since autocast and sorting need tensors that claim to be on the CPU.
    with torch.no_grad(), FakeTensorMode():
        fake_tensors = {name: torch.empty(tensor.shape, dtype=tensor.dtype) for name, tensor in tensors.items()}
        with counter:
            functional_call(layer, fake_tensors, (torch.empty(input_shape, dtype=dtype),))
    return counter.get_total_flops() // FLOPS_PER_MAC
