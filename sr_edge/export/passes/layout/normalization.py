"""Normalizations as means, products and sums, which compilers compute in the layout of the tensor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sr_edge.export.graph.view import Constant
from sr_edge.export.passes.rewrites.edit import NodeChain

_OPSET_OF_AXES_INPUT = 18
"""Since this opset, the axes of ReduceMean are an input."""


@dataclass(frozen=True)
class Normalization:
    """What a normalization computes: (x - mean) / sqrt(variance + epsilon) * scale + bias.

    Attributes:
        axes: the axes over which mean and variance are taken.
        epsilon: the number that is added to the variance.
        dtype: the type of the tensors.
        scale: the factors, of a shape that is broadcast with the tensor; None for no factors.
        bias: the summands; None for none.
        mixing: the weight of a 1x1 convolution of all means, with which means of channels become means of groups.
    """

    axes: tuple[int, ...]
    epsilon: float
    dtype: np.dtype[np.generic]
    scale: Constant | None = None
    bias: Constant | None = None
    mixing: Constant | None = None


def add_normalization(chain: NodeChain, tensor: str, norm: Normalization, *, output: str = "") -> str:
    """Adds the nodes of a normalization with the variance of the centred values; returns the name of its output."""
    centred = chain.add("Sub", [tensor, _mean(chain, tensor, norm)])
    variance = _mean(chain, chain.add("Mul", [centred, centred]), norm)
    epsilon = chain.constant(np.array(norm.epsilon, norm.dtype), "epsilon")
    deviation = chain.add("Sqrt", [chain.add("Add", [variance, epsilon])])
    steps = [("Div", deviation)]
    if norm.scale is not None:
        steps.append(("Mul", chain.constant(norm.scale, "scale")))
    if norm.bias is not None:
        steps.append(("Add", chain.constant(norm.bias, "bias")))
    result = centred
    for operator, operand in steps[:-1]:
        result = chain.add(operator, [result, operand])
    return chain.add(steps[-1][0], [result, steps[-1][1]], output=output)


def add_mean(chain: NodeChain, tensor: str, axes: Sequence[int]) -> str:
    """Adds a ReduceMean that keeps the axes."""
    if chain.opset < _OPSET_OF_AXES_INPUT:
        return chain.add("ReduceMean", [tensor], axes=list(axes), keepdims=1)
    return chain.add("ReduceMean", [tensor, chain.constant(np.array(axes, np.int64), "axes")], keepdims=1)


def _mean(chain: NodeChain, tensor: str, norm: Normalization) -> str:
    mean = add_mean(chain, tensor, norm.axes)
    if norm.mixing is None:
        return mean
    return chain.add("Conv", [mean, chain.constant(norm.mixing, "means_of_groups")])
