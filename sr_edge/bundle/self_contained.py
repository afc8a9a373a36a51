"""Checks that a graph of a bundle is an ONNX file that refers to no other file.

The digests of a manifest cover the graph file only. ONNX can refer to other files in two ways: a tensor with external
data names the file of its values, and an EPContext node names a compiled engine. Runtimes would load either of them
unverified, from any folder. A file of another format is refused as well: some runtimes detect the format by content and
load further files that belong to it, as OpenVINO does with the .bin beside an .xml.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path

from sr_edge.errors import BundleError

_IR_VERSION_KEY = 0x08
"""The first byte: every writer of ONNX begins with ModelProto.ir_version, and no XML file can begin with this byte."""
_GRAPH_FIELD = 7
"""The number of ModelProto.graph."""
_LAST_MODEL_FIELD = 31
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_REMEDY = "obtain it again from a source that you trust"


def require_self_contained_onnx(path: Path, name: str) -> None:
    """Raises BundleError unless the file is an ONNX model without references to other files.

    Args:
        path: The file.
        name: Its name for the message.
    """
    if path.stat().st_size == 0:
        raise _not_onnx(name)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        if not _looks_like_model(content):
            raise _not_onnx(name)
        # Every reference contains one of these words. The model is parsed only if one occurs, because parsing takes
        # twice the memory of the file, and a name or a weight may contain the same bytes.
        is_suspicious = content.find(b"location") >= 0 or content.find(b"EPContext") >= 0
    if is_suspicious and (reference := _reference_to_other_file(path, name)):
        raise BundleError(
            f"the bundle is unsafe: {name!r} refers to {reference}, which its digest does not cover",
            found=reference,
            wanted="an ONNX file that contains all of its data",
            remedy=_REMEDY,
        )


def _not_onnx(name: str) -> BundleError:
    return BundleError(
        f"{name!r} is not an ONNX model", found=name, wanted="an ONNX model", remedy="copy it again or deploy again"
    )


def _looks_like_model(content: mmap.mmap) -> bool:
    """Whether the fields of the outermost message are those of a ModelProto with a graph, to the last byte."""
    if content[0] != _IR_VERSION_KEY:
        return False
    try:
        numbers = set(_field_numbers(content))
    except (ValueError, IndexError):
        return False
    return _GRAPH_FIELD in numbers and max(numbers) <= _LAST_MODEL_FIELD


def _field_numbers(content: mmap.mmap) -> Iterator[int]:
    position, size = 0, len(content)
    while position < size:
        key, position = _varint(content, position)
        wire_type = key & 7
        if wire_type == _VARINT:
            _, position = _varint(content, position)
        elif wire_type == _LENGTH:
            length, position = _varint(content, position)
            position += length
        elif wire_type in (_FIXED32, _FIXED64):
            position += 4 if wire_type == _FIXED32 else 8
        else:
            raise ValueError(wire_type)
        yield key >> 3
    if position != size:
        raise ValueError(position)


def _varint(content: mmap.mmap, position: int) -> tuple[int, int]:
    """The number at `position` and the position after it; raises IndexError at the end of the file."""
    value = 0
    for shift in range(0, 70, 7):
        byte = content[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise ValueError(position)


def _reference_to_other_file(path: Path, name: str) -> str:
    """The first reference to another file; empty if there is none."""
    import onnx
    from google.protobuf.message import DecodeError, Message  # type: ignore[import-untyped]  # ships no types

    def references(message: Message) -> Iterator[str]:
        if isinstance(message, onnx.TensorProto):
            if message.external_data or message.data_location == onnx.TensorProto.EXTERNAL:
                yield f"external data of the tensor {message.name!r}"
            return
        if isinstance(message, onnx.NodeProto) and message.op_type == "EPContext":
            yield f"the engine of the EPContext node {message.name!r}"
        for field, value in message.ListFields():
            if field.message_type is not None:
                for item in [value] if isinstance(value, Message) else value:
                    yield from references(item)

    try:
        return next(references(onnx.ModelProto.FromString(path.read_bytes())), "")
    except (DecodeError, RecursionError) as error:
        raise _not_onnx(name) from error
