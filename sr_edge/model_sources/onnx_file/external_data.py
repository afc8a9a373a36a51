"""Reads the weights that an ONNX file stores in other files, which have to lie inside its folder."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import onnx

from sr_edge.errors import ExportError

MAX_BYTES = (1 << 31) - 1
"""The limit of protobuf, in which graphs are passed on; weights in other files count as well."""

_FOUR_BITS = (onnx.TensorProto.INT4, onnx.TensorProto.UINT4)


def graphs_of(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """A graph, and the bodies of its If, Loop and Scan nodes."""
    yield graph
    yield from _bodies_of(graph.node)


def tensors_of(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """The initializers and constant attributes of a graph and of the bodies in it."""
    for body in graphs_of(graph):
        yield from body.initializer
        yield from _constants_of(body.node)


def _bodies_of(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.GraphProto]:
    for node in nodes:
        for attribute in node.attribute:
            for body in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                yield from graphs_of(body)


def _constants_of(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.TensorProto]:
    for node in nodes:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors


def load_external_data(model: onnx.ModelProto, path: Path) -> None:
    """Reads all weights from the files beside the model; no file outside its folder is opened.

    Raises:
        ExportError: A file is missing, too short or outside of the folder, or all together are too large.
    """
    tensors = [tensor for tensor in _all_tensors(model) if tensor.data_location == onnx.TensorProto.EXTERNAL]
    needed = path.stat().st_size + sum(_byte_size(tensor, path) for tensor in tensors)
    if needed > MAX_BYTES:
        raise ExportError(
            f"{path} has {needed:,} bytes with its external data, but at most {MAX_BYTES:,} can be processed",
            found=needed,
            wanted=MAX_BYTES,
            remedy="give a smaller network",
        )
    for tensor in tensors:
        tensor.raw_data = _external_bytes(tensor, path)
        tensor.ClearField("external_data")
        tensor.data_location = onnx.TensorProto.DEFAULT


def _all_tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    yield from tensors_of(model.graph)
    for function in model.functions:
        yield from _constants_of(function.node)
        for body in _bodies_of(function.node):
            yield from body.initializer
            yield from _constants_of(body.node)


def _byte_size(tensor: onnx.TensorProto, path: Path) -> int:
    elements = 1
    for dim in tensor.dims:
        elements *= max(dim, 0)
    try:
        itemsize = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    except (KeyError, ValueError, TypeError):
        raise ExportError(
            f"{path} has external data of an unknown type ({tensor.data_type})",
            found=tensor.data_type,
            wanted="a type of numbers",
            remedy="export it again",
        ) from None
    bits = 4 if tensor.data_type in _FOUR_BITS else 8 * itemsize
    return int(elements * bits + 7) // 8


def _external_bytes(tensor: onnx.TensorProto, path: Path) -> bytes:
    """The bytes of a tensor in a file beside the model; raises ExportError unless they are inside the folder."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    # The files of a download cache are links to one folder, so a file beside the one that `path` links to will do, too.
    folders = (path.parent.resolve(), path.resolve().parent)
    try:
        file = (folders[0] / location).resolve()
        is_file = file.is_file()
        offset, length = int(entries.get("offset", "0")), int(entries.get("length", _byte_size(tensor, path)))
    except (ValueError, OSError):
        raise ExportError(
            f"{path} has a damaged reference to external data: {location[:80]!r}",
            found=entries,
            remedy="export it again",
        ) from None
    if not location or Path(location).is_absolute() or not any(map(file.is_relative_to, folders)):
        raise ExportError(
            f"{path} is unsafe: it refers to {location!r} for its weights, which is not a file inside its folder",
            found=location,
            wanted="a file inside the folder of the model",
            remedy="obtain it again from a source that you trust",
        )
    if not is_file:
        raise ExportError(
            f"{path} stores its weights in {location!r}, which is missing",
            found=None,
            wanted=location,
            remedy="copy that file into the same folder",
        )
    size, needed = file.stat().st_size, _byte_size(tensor, path)
    if offset < 0 or length != needed:
        raise ExportError(
            f"{path} has a damaged reference to external data: {length:,} bytes from byte {offset:,} on for "
            f"{tensor.name!r}, which takes {needed:,}",
            found=(offset, length),
            wanted=needed,
            remedy="export it again",
        )
    if offset + length > size:
        raise ExportError(
            f"{location!r}, in which {path} stores its weights, was cut short: it has {size:,} bytes, but "
            f"{tensor.name!r} takes {needed:,} bytes from byte {offset:,} on",
            found=size,
            wanted=offset + needed,
            remedy="copy both files again",
        )
    with file.open("rb") as weights:
        weights.seek(offset)
        return bytes(weights.read(length))
