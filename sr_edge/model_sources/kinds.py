"""Decides what a MODEL argument is: a bundle, an ONNX file, a checkpoint, a factory, or a registered name."""

from __future__ import annotations

from enum import Enum
from pathlib import Path

from sr_edge.bundle.archive import contains_manifest

BUNDLE_SUFFIXES = (".sredge", ".zip")
CHECKPOINT_SUFFIXES = (".pth", ".pt", ".safetensors", ".ckpt", ".pkl", ".bin", ".th")
ONNX_SUFFIX = ".onnx"

_ZIP, _PICKLE = b"PK\x03\x04", b"\x80"
_HEADER_BYTES = 64
_IR_VERSION_TAG = 0x08
_MODEL_FIELDS = frozenset({1, 2, 3, 4, 5, 6, 7, 8, 14, 20, 25, 26})
"""The field numbers of ONNX's ModelProto."""


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
    with path.open("rb") as file:
        header = file.read(_HEADER_BYTES)
    if header.startswith(_ZIP):
        if contains_manifest(path):
            return SourceKind.BUNDLE
        return None if path.suffix.lower() in BUNDLE_SUFFIXES else SourceKind.CHECKPOINT
    if header.startswith(_PICKLE) or _is_safetensors(header, path.stat().st_size):
        return SourceKind.CHECKPOINT
    return SourceKind.ONNX if _is_onnx(header) else None


def _is_safetensors(header: bytes, size: int) -> bool:
    """Whether a file begins with the length of a JSON document and that document."""
    return len(header) > 8 and header[8:9] == b"{" and int.from_bytes(header[:8], "little") <= size - 8


def _is_onnx(header: bytes) -> bool:
    """Whether a file begins with the version of the format, as every writer of ONNX puts it first."""
    if len(header) < 3 or header[0] != _IR_VERSION_TAG or not 1 <= header[1] < 0x40:
        return False
    return header[2] >> 3 in _MODEL_FIELDS and header[2] & 7 in (0, 2)
