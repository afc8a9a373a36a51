"""Opens what the user named as a bundle; an ONNX file becomes a temporary one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from sr_edge.bundle import Bundle, open_bundle
from sr_edge.errors import BundleError, UsageError
from sr_edge.model_sources.kinds import SourceKind, source_kind
from sr_edge.spec import TileSpec


def open_model(
    path: str | Path,
    *,
    input_range: float | None = None,
    channel_order: str = "rgb",
    tile: TileSpec | str | None = None,
) -> Bundle:
    """Opens a bundle, or an ONNX file as a temporary bundle of one graph, which is removed when it is closed.

    Args:
        path: A bundle or an ONNX file. The other arguments are for ONNX files only; a bundle has them in its manifest.
        input_range: The largest value of the pictures, 1 or 255; None determines it.
        channel_order: "rgb", or "bgr" for a network whose first channel is blue.
        tile: Height and width for a file that takes any size; None takes the default of the network.

    Returns:
        The bundle; `remarks` says what was found out about an ONNX file and what was changed.

    Raises:
        BundleError: The bundle is damaged, or `path` is neither a bundle nor an ONNX file.
        ExportError: The ONNX file is unreadable, unsafe, or no network that turns one picture into a larger one.
        UsageError: An argument was given for a bundle, or does not fit the file.
    """
    tile = None if tile is None else TileSpec.of(tile)
    path = _path_of(path)
    kind = source_kind(path)
    if kind is SourceKind.ONNX:
        from sr_edge.model_sources.onnx_bundle import bundle_of
        from sr_edge.model_sources.onnx_file import read_onnx_model

        model = read_onnx_model(path, input_range=input_range, channel_order=channel_order, tile=tile)
        return bundle_of(model, tile or model.default_tile)
    _require_kind(path, kind, "a bundle or an ONNX file")
    _refuse_options(
        path,
        {
            "--input-range": input_range is not None,
            "--channel-order": channel_order != "rgb",
            "--tile": tile is not None,
        },
    )
    return open_bundle(path)


def open_deployed(path: str | Path) -> Bundle:
    """Opens a bundle, for work that needs one, such as the golden frames or the INT8 graph in it.

    Raises:
        BundleError: The bundle is damaged, or `path` is an ONNX file, a checkpoint or nothing that exists.
    """
    path = _path_of(path)
    _require_kind(path, source_kind(path), "a bundle")
    return open_bundle(path)


def _path_of(path: str | Path) -> Path:
    """The path; raises UsageError for an empty text, which as a path would be the current folder."""
    if path == "":
        raise UsageError(
            "the path of the model is empty",
            found="",
            wanted="a path",
            remedy="give the path of a bundle or an ONNX file",
        )
    return Path(path)


def _require_kind(path: Path, kind: SourceKind, wanted: str) -> None:
    """Raises BundleError for a factory, and for an existing file of another kind than a bundle."""
    if kind is SourceKind.FACTORY:
        raise BundleError(
            f"{path} is a factory, but {wanted} is needed here",
            found=str(kind),
            wanted=wanted,
            remedy=f"make a bundle of its network: sr-edge deploy --arch {path}",
        )
    if path.is_file() and kind is not SourceKind.BUNDLE:
        article = "an" if kind is SourceKind.ONNX else "a"
        raise BundleError(
            f"{path} is {article} {kind}, but {wanted} is needed here",
            found=str(kind),
            wanted=wanted,
            remedy=f"make a bundle of it: sr-edge deploy {path}",
        )


def _refuse_options(path: Path, given: Mapping[str, bool]) -> None:
    names = tuple(name for name, is_given in given.items() if is_given)
    if names:
        raise UsageError(
            f"{', '.join(names)} is for ONNX files, whereas {path} is a bundle, which has it in its manifest",
            found=names,
            remedy="leave it out" if len(names) == 1 else "leave these options out",
        )
