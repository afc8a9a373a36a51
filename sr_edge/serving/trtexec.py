"""Builds the command with which NVIDIA's trtexec builds and times the engine that sr-edge would build from a graph.

The flags are those of the command line reference of TensorRT 10 and of the migration guide to 11, where strong typing
is the only mode and the precision flags no longer exist. trtexec reads types and shapes of a static graph from the
graph, uint8 frames included, and refuses --shapes for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import onnx

from sr_edge.export.checks.tensorrt_releases import TensorRTRelease
from sr_edge.export.graph.view import picture_channels, picture_inputs
from sr_edge.runtimes.engine.host_format import graph_shape
from sr_edge.spec import RGB, FrameFormat, TileSpec, member_of

ALWAYS_STRONGLY_TYPED = (11, 0)


@dataclass(frozen=True)
class TrtexecFiles:
    """The paths of the files that trtexec reads and writes, as they appear in the command.

    Attributes:
        graph: The ONNX file.
        engine: The engine to write.
        timing_cache: The timing cache to read and write.
    """

    graph: Path
    engine: Path
    timing_cache: Path


def build_trtexec_command(
    model: onnx.ModelProto,
    files: TrtexecFiles,
    release: TensorRTRelease,
    tile: TileSpec | str,
    io: FrameFormat | str,
    workspace_mib: int | None = None,
) -> list[str]:
    """Builds the command as a list of arguments.

    Args:
        model: The graph in `files.graph`.
        files: The files that the command names.
        release: The TensorRT release of trtexec.
        tile: The input size of the engine of a dynamic graph; ignored for a static one.
        io: The frame format of the graph.
        workspace_mib: Limit of the workspace of the builder; None leaves TensorRT its default, all device memory.
    """
    tile = TileSpec.of(tile)
    io = member_of(FrameFormat, io, "frame format")
    arguments = ["trtexec", f"--onnx={files.graph}", f"--saveEngine={files.engine}"]
    if release.version < ALWAYS_STRONGLY_TYPED:
        arguments.append("--stronglyTyped")  # otherwise TensorRT may choose precisions other than those of the graph
    arguments += ["--noTF32", f"--timingCacheFile={files.timing_cache}"]
    if workspace_mib is not None:
        arguments.append(f"--memPoolSize=workspace:{workspace_mib}")
    arguments += [_shape(value, tile, io) for value in picture_inputs(model) if _is_dynamic(value)]
    return [*arguments, "--useCudaGraph"]


def _is_dynamic(value: onnx.ValueInfoProto) -> bool:
    return any(not dim.HasField("dim_value") for dim in value.type.tensor_type.shape.dim)


def _shape(value: onnx.ValueInfoProto, tile: TileSpec, io: FrameFormat) -> str:
    """The shape argument; with --optShapes only, trtexec uses the same minimum and maximum shape."""
    shape = graph_shape(io, tile, picture_channels(value) or RGB)
    return f"--optShapes={value.name}:{'x'.join(map(str, shape))}"
