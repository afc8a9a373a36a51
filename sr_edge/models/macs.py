"""Multiply-accumulates of a network at an input size, counted exactly and without computing or allocating anything.

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


def count_macs(module: nn.Module, height: int, width: int) -> int:
    """Multiply-accumulates of one forward pass on RGB (1, 3, height, width).

    Runs on tensors without content, so size costs nothing; `module`, which may be on the meta device, is left alone.
    """
    return count_layer_macs(module, torch.Size((1, 3, height, width)))


def count_layer_macs(layer: nn.Module, input_shape: torch.Size) -> int:
    """As `count_macs`, for a layer that takes a tensor of `input_shape`."""
    tensors = {**dict(layer.named_parameters()), **dict(layer.named_buffers())}
    dtype = next((tensor.dtype for tensor in tensors.values() if tensor.is_floating_point()), torch.float32)
    counter = FlopCounterMode(display=False)
    # Fake tensors and not meta ones: they pass for the CPU's, which autocast and sorting ask for.
    with torch.no_grad(), FakeTensorMode():
        shadows = {name: torch.empty(tensor.shape, dtype=tensor.dtype) for name, tensor in tensors.items()}
        with counter:
            functional_call(layer, shadows, (torch.empty(input_shape, dtype=dtype),))
    return counter.get_total_flops() // FLOPS_PER_MAC
