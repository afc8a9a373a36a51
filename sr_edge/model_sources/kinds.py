"""Decides what a MODEL argument is: a bundle, an ONNX file, a checkpoint, a factory, or a registered name."""

from __future__ import annotations

from enum import Enum
from pathlib import Path

from sr_edge.bundle.archive import contains_manifest
from sr_edge.files.headers import HEADER_BYTES, is_onnx, is_pickle, is_safetensors, is_zip

BUNDLE_SUFFIXES = (".sredge", ".zip")
CHECKPOINT_SUFFIXES = (".pth", ".pt", ".safetensors", ".ckpt", ".pkl", ".bin", ".th")
ONNX_SUFFIX = ".onnx"


class SourceKind(str, Enum):
    """What a MODEL argument is."""

    BUNDLE = "bundle"
    ONNX = "ONNX file"
    CHECKPOINT = "checkpoint"
    FACTORY = "factory"
    NAME = "name of a model"

    def __str__(self) -> str:
        return self.value


def source_kind(model: str | Path) -> SourceKind:
    """What `model` is: by its content if it is a file, otherwise by how it is written.

    A file whose content tells nothing is taken for what its suffix says, so that the error about its content comes from
    the reader of that kind.
    """
    path = Path(model)
    if path.is_file():
        return _kind_of_content(path) or _kind_of_name(str(model)) or SourceKind.CHECKPOINT
    if path.suffix == ONNX_SUFFIX:
        return SourceKind.ONNX
    if path.is_dir():
        return SourceKind.BUNDLE
    is_path = isinstance(model, Path) or "/" in model
    return _kind_of_name(str(model)) or (SourceKind.CHECKPOINT if is_path else SourceKind.NAME)


def _kind_of_name(name: str) -> SourceKind | None:
    suffix = Path(name).suffix.lower()
    if suffix == ONNX_SUFFIX:
        return SourceKind.ONNX
    if suffix in BUNDLE_SUFFIXES:
        return SourceKind.BUNDLE
    if suffix in CHECKPOINT_SUFFIXES:
        return SourceKind.CHECKPOINT
    return SourceKind.FACTORY if ":" in name else None


def _kind_of_content(path: Path) -> SourceKind | None:
    try:
        with path.open("rb") as file:
            header = file.read(HEADER_BYTES)
    except OSError:  # the reader of the kind that the name tells reports it
        return None
    if is_zip(header):
        if contains_manifest(path):
            return SourceKind.BUNDLE
        return None if path.suffix.lower() in BUNDLE_SUFFIXES else SourceKind.CHECKPOINT
    if is_onnx(header):
        return SourceKind.ONNX
    return SourceKind.CHECKPOINT if is_pickle(header) or is_safetensors(header) else None
