"""All rewrites of a float graph, in order."""

from __future__ import annotations

import onnx

from sr_edge.export.passes.pass_result import GraphPass, PassResult
from sr_edge.export.passes.rewrites.cumulative_sum import cumulative_sum_as_product
from sr_edge.export.passes.rewrites.einsum import einsum_as_product
from sr_edge.export.passes.rewrites.fourier import fourier_as_product
from sr_edge.export.passes.rewrites.masked_assignment import assignment_as_selection
from sr_edge.export.passes.rewrites.merge_axes import merge_axes
from sr_edge.export.passes.rewrites.pixel_rearrangement import rearranged_pixels

REWRITES: tuple[GraphPass, ...] = (
    assignment_as_selection,
    fourier_as_product,
    einsum_as_product,
    cumulative_sum_as_product,
    rearranged_pixels,
    merge_axes,
)
"""The rewrites in the order in which they run: those that write new Reshape and Transpose nodes are first."""


def rewrite(model: onnx.ModelProto) -> tuple[PassResult, ...]:
    """Applies all rewrites to a simplified float graph of any origin, with constant shapes and at any opset.

    Args:
        model: the graph; it is not modified.

    Returns:
        The result of each rewrite, in order; the `model` of the last one is the rewritten graph.

    Raises:
        ExportError: the shapes of the graph contradict each other.
    """
    results: list[PassResult] = []
    for graph_pass in REWRITES:
        results.append(graph_pass(results[-1].model if results else model))
    return tuple(results)
