"""Opens what the user named as a bundle; an ONNX file becomes a temporary one."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from sr_edge.bundle import Artifact, ArtifactKind, Bundle, Manifest, open_bundle, sha256_of
from sr_edge.errors import BundleError, UsageError
from sr_edge.model_sources.kinds import SourceKind, source_kind
from sr_edge.spec import FrameFormat, Precision, TileSpec

if TYPE_CHECKING:
    from sr_edge.model_sources.onnx_file import OnnxModel


def open_model(
    path: str | Path, *, input_range: float | None = None, channel_order: str = "rgb", tile: TileSpec | None = None
) -> Bundle:
    """Opens a bundle, or an ONNX file as a temporary bundle of one graph, which is removed when it is closed.

    Args:
        path: A bundle or an ONNX file. The other arguments are for ONNX files only; a bundle has them in its manifest.
        input_range: The value of white, 1 or 255; None finds it out.
        channel_order: "rgb", or "bgr" for a network whose first channel is blue.
        tile: Height and width for a file that takes any size; None takes the default of the network.

    Returns:
        The bundle; `remarks` says what was found out about an ONNX file and what was changed.

    Raises:
        BundleError: The bundle is damaged, or `path` is neither a bundle nor an ONNX file.
        ExportError: The ONNX file is unreadable, unsafe, or no network that turns one picture into a larger one.
        UsageError: An argument was given for a bundle, or does not fit the file.
    """
    path = Path(path)
    kind = source_kind(path)
    if kind is SourceKind.ONNX:
        from sr_edge.model_sources.onnx_file import read_onnx_model

        model = read_onnx_model(path, input_range=input_range, channel_order=channel_order)
        return _temporary_bundle(model, tile or model.default_tile)
    _refuse_options(
        path,
        {
            "--input-range": input_range is not None,
            "--channel-order": channel_order != "rgb",
            "--tile": tile is not None,
        },
    )
    if kind is SourceKind.CHECKPOINT and path.is_file():
        raise BundleError(
            f"{path} is a checkpoint, but only bundles and ONNX files can be run",
            found=path,
            wanted="a bundle or an ONNX file",
            remedy=f"make a bundle of it: sr-edge deploy {path}",
        )
    return open_bundle(path)


def _refuse_options(path: Path, given: Mapping[str, bool]) -> None:
    names = tuple(name for name, is_given in given.items() if is_given)
    if names:
        raise UsageError(
            f"{', '.join(names)} is for ONNX files, whereas {path} is a bundle, which has it in its manifest",
            found=names,
            remedy="leave it out" if len(names) == 1 else "leave these options out",
        )


def _temporary_bundle(model: OnnxModel, tile: TileSpec) -> Bundle:
    folder = Path(tempfile.mkdtemp(prefix="sr-edge-onnx-"))
    try:
        graph = folder / "model.onnx"
        graph.write_bytes(model.graph(tile).SerializeToString())
        shape = (1, model.card.input_channels, tile.height, tile.width)
        artifact = Artifact(
            graph.name,
            ArtifactKind.ONNX,
            Precision.FP32,
            Precision.FP32,
            None,
            FrameFormat.FLOAT_NCHW,
            shape,
            sha256_of(graph),
        )
        return Bundle(model.path, folder, Manifest(model.card, tile, (artifact,)), folder, model.changes)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
