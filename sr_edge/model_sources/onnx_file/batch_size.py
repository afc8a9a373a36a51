"""Brings a graph of a fixed batch of several pictures to one picture at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import onnx

from sr_edge.errors import ExportError
from sr_edge.export.graph.view import graph_inputs
from sr_edge.model_sources.onnx_file.picture_runs import PictureFormat, PictureRunner
from sr_edge.model_sources.onnx_file.rewrites.names import rename_tensors, unused_prefix
from sr_edge.model_sources.onnx_file.sizes import ProbedGraph, photograph
from sr_edge.spec import Control, TileSpec

_SHAPED = {"Reshape": 1, "Expand": 1, "ConstantOfShape": 0, "Resize": 3}
"""Operators that contain the sizes of their output, and the position of that input."""

RELATIVE_TOLERANCE = 1e-4


def with_batch_of_one(
    model: onnx.ModelProto, probed: ProbedGraph, controls: Sequence[Control] = ()
) -> tuple[onnx.ModelProto, ProbedGraph, str]:
    """Makes the batch of a graph 1.

    The batch is replaced in the input and in the constants that contain the sizes of tensors. Where the result does not
    agree with the original, the picture is repeated instead and the first result taken, which takes as long as the
    whole batch.

    Returns:
        The graph, how it takes and returns pictures now, and what was done; empty if the batch is 1 already.

    Raises:
        ExportError: Neither graph agrees with the original.
    """
    batch = probed.input.port.batch
    single = _with_first_dimension(model, probed.input.port.name, 1)
    if batch == 1:
        return single, probed, ""
    reduced = _with_reduced_shapes(single, batch)
    opened = _agreeing(reduced, probed, controls)
    if opened is not None:
        return reduced, opened, f"batch of {batch} brought to 1"
    repeated = _with_repeated_picture(model, probed, batch)
    opened = _agreeing(repeated, probed, controls)
    if opened is None:
        raise ExportError(
            f"the graph works on batches of {batch} pictures and cannot be brought to one picture",
            found=batch,
            wanted=1,
            remedy="export it again with a batch of 1",
        )
    return repeated, opened, f"batch of {batch} computed for one picture, {batch} times as slow; export it with batch 1"


def _with_first_dimension(model: onnx.ModelProto, name: str, batch: int) -> onnx.ModelProto:
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    for value in graph_inputs(changed):
        if value.name == name:
            dim = value.type.tensor_type.shape.dim[0]
            dim.Clear()
            dim.dim_value = batch
    for output in changed.graph.output:
        output.type.tensor_type.ClearField("shape")
    changed.graph.ClearField("value_info")
    return changed


def _with_reduced_shapes(model: onnx.ModelProto, batch: int) -> onnx.ModelProto:
    """Divides the first size in the constants of reshapes by the batch, in place."""
    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute and node.attribute[0].name == "value":
            constants[node.output[0]] = node.attribute[0].t
    names = {
        node.input[position]
        for node in graph.node
        if (position := _SHAPED.get(node.op_type)) is not None and position < len(node.input)
    }
    for name in names & constants.keys():
        sizes = onnx.numpy_helper.to_array(constants[name]).copy()
        if sizes.ndim == 1 and sizes.size and sizes.dtype == np.int64 and sizes[0] > 0 and sizes[0] % batch == 0:
            sizes[0] //= batch
            constants[name].CopyFrom(onnx.numpy_helper.from_array(sizes, constants[name].name))
    return model


def _with_repeated_picture(model: onnx.ModelProto, probed: ProbedGraph, batch: int) -> onnx.ModelProto:
    """Tiles the only picture to the batch, and slices the first result out of it."""
    repeated = _with_first_dimension(model, probed.input.port.name, 1)
    graph, name, result = repeated.graph, probed.input.port.name, probed.output.port.name
    prefix = unused_prefix(graph, "batch/")
    inner, outer = f"{prefix}pictures", f"{prefix}results"
    rename_tensors(graph, {name: inner, result: outer})
    for value in (*graph.input, *graph.output):
        value.name = {inner: name, outer: result}.get(value.name, value.name)
    lists = {"repeats": [batch, 1, 1, 1], "first": [0], "end": [1], "axes": [0]}
    repeats, *cut = (f"{prefix}{key}" for key in lists)
    graph.initializer.extend(
        onnx.numpy_helper.from_array(np.array(values, np.int64), f"{prefix}{key}") for key, values in lists.items()
    )
    body = list(graph.node)
    graph.ClearField("node")
    graph.node.extend(
        [
            onnx.helper.make_node("Tile", [name, repeats], [inner], name=f"{prefix}Tile"),
            *body,
            onnx.helper.make_node("Slice", [outer, *cut], [result], name=f"{prefix}Slice"),
        ]
    )
    return repeated


def _agreeing(model: onnx.ModelProto, probed: ProbedGraph, controls: Sequence[Control]) -> ProbedGraph | None:
    """How the new graph is run, or None if it fails or its picture differs from that of the original."""
    source = _with_batch(probed.input)
    result = _with_batch(probed.output)
    picture = photograph(TileSpec(probed.size.height, probed.size.width), source.port.channels)
    wanted = probed.output.decode(probed.runner.run(source.port.name, probed.input.encode(picture))[result.port.name])
    try:
        runner = PictureRunner(model, controls)
        actual = result.decode(runner.run(source.port.name, source.encode(picture))[result.port.name])
    except ExportError:
        return None
    tolerance = RELATIVE_TOLERANCE * max(1.0, float(np.abs(wanted).max()))
    if actual.shape != wanted.shape or not float(np.abs(actual - wanted).max()) <= tolerance:
        return None
    return replace(probed, runner=runner, input=source, output=result)


def _with_batch(picture: PictureFormat) -> PictureFormat:
    return replace(picture, port=replace(picture.port, shape=(1, *picture.port.shape[1:])))
