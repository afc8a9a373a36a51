"""The command with which NVIDIA's trtexec builds and times the engine that sr-edge would build of a graph.

Flags: command line reference of TensorRT 10 and its guide for the way to 11, where --stronglyTyped has become the only
way and the flags for precisions are gone. Types and shapes of a static graph stand in the graph: trtexec takes them
from there, uint8 frames included, and refuses --shapes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import onnx

from sr_edge.export.checks.tensorrt_releases import TensorRTRelease
from sr_edge.export.graph import picture_inputs
from sr_edge.spec import FrameFormat, TileSpec

ALWAYS_STRONGLY_TYPED = (11, 0)


@dataclass(frozen=True)
class TrtexecFiles:
    """The files that trtexec reads and writes, as the command shall name them."""

    graph: Path
    engine: Path
    timing_cache: Path


def trtexec_command(
    model: onnx.ModelProto,
    files: TrtexecFiles,
    release: TensorRTRelease,
    tile: TileSpec,
    io: FrameFormat,
    workspace_mib: int | None = None,
) -> list[str]:
    """The words of the command.

    Args:
        model: the graph that `files.graph` holds.
        release: the TensorRT that trtexec belongs to.
        tile: the size that an engine of a dynamic graph is to have; a static graph has its own.
        io: the frames that the graph takes.
        workspace_mib: the cap of the builder's scratch memory; None leaves it to TensorRT: all there is.
    """
    words = ["trtexec", f"--onnx={files.graph}", f"--saveEngine={files.engine}"]
    if release.version < ALWAYS_STRONGLY_TYPED:
        words.append("--stronglyTyped")  # or TensorRT would choose other precisions than the graph's
    words += ["--noTF32", f"--timingCacheFile={files.timing_cache}"]
    if workspace_mib is not None:
        words.append(f"--memPoolSize=workspace:{workspace_mib}")
    words += [_shape(value, tile, io) for value in picture_inputs(model) if _is_dynamic(value)]
    return [*words, "--useCudaGraph"]


def _is_dynamic(value: onnx.ValueInfoProto) -> bool:
    return any(not dim.HasField("dim_value") for dim in value.type.tensor_type.shape.dim)


def _shape(value: onnx.ValueInfoProto, tile: TileSpec, io: FrameFormat) -> str:
    """--optShapes alone sets the least and the largest size, too."""
    sides = (1, 3, tile.height, tile.width) if io is FrameFormat.FLOAT_NCHW else (1, tile.height, tile.width, 3)
    return f"--optShapes={value.name}:{'x'.join(map(str, sides))}"
