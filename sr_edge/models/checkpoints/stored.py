"""Descriptions of the tensors in a file: shape and data type at once, values on demand."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sr_edge.models.checkpoints.bounds import (
    COPY_AGAIN,
    MAX_DIMENSIONS,
    SAVE_STATE_DICT,
    UnreadableCheckpoint,
    short_line,
)
from sr_edge.models.checkpoints.pickled import GlobalName

ReadBytes = Callable[[int, int], bytes]
"""`read(offset, count)` returns bytes of one storage."""

_MAX_SIZE = 1 << 48
_STORAGES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "ComplexFloatStorage": torch.complex64,
    "ComplexDoubleStorage": torch.complex128,
    "QInt8Storage": torch.int8,
    "QUInt8Storage": torch.uint8,
    "QInt32Storage": torch.int32,
    "UntypedStorage": torch.uint8,
}


@dataclass(frozen=True, eq=False, repr=False)
class Storage:
    """The bytes behind one or several tensors."""

    dtype: torch.dtype
    elements: int
    read: ReadBytes


@dataclass(frozen=True, eq=False, repr=False)
class StoredTensor:
    """A tensor in a file.

    Args:
        shape: its shape.
        dtype: its data type; for a quantized tensor, that of its integers.
        read: returns its values as they are stored.
        unusable: why the values cannot be read as a dense tensor ("sparse"); empty if they can.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    read: Callable[[], Tensor]
    unusable: str = ""

    @property
    def elements(self) -> int:
        return math.prod(self.shape)

    def meta_state(self) -> Tensor:
        """Shape and data type as a tensor on the meta device, which has no values."""
        return torch.empty(self.shape, dtype=self.dtype, device="meta")


def storage_dtype(kind: object) -> torch.dtype:
    """The data type for which a class of storages stands."""
    name = kind.name if isinstance(kind, GlobalName) else kind if isinstance(kind, str) else ""
    dtype = _STORAGES.get(name)
    if dtype is None:
        raise UnreadableCheckpoint(
            f"stores tensors as {short_line(name) or 'an object'}, which is not a known class of storage",
            found=name,
            wanted=list(_STORAGES),
            remedy="save the state_dict in float32",
        )
    return dtype


def _rebuild_tensor(storage: object, offset: object, size: object, stride: object, *_: object) -> StoredTensor:
    return _strided(storage, offset, size, stride, None)


def _rebuild_tensor_v3(
    storage: object,
    offset: object,
    size: object,
    stride: object,
    _gradient: object,
    _hooks: object,
    dtype: object,
    *_: object,
) -> StoredTensor:
    """A tensor of one of the newer data types, whose storage is untyped bytes."""
    data_type = getattr(torch, dtype.name, None) if isinstance(dtype, GlobalName) and dtype.module == "torch" else None
    if not isinstance(data_type, torch.dtype):
        raise UnreadableCheckpoint(
            "stores tensors of an unknown type", wanted="torch.dtype", remedy="save the state_dict in float32"
        )
    return _strided(storage, offset, size, stride, data_type)


def _strided(storage: object, offset: object, size: object, stride: object, dtype: torch.dtype | None) -> StoredTensor:
    if not isinstance(storage, Storage):
        raise UnreadableCheckpoint("contains a tensor without a storage", wanted="a storage", remedy=SAVE_STATE_DICT)
    shape, strides, (first,) = _integers(size), _integers(stride), _integers((offset,))
    dtype = dtype or storage.dtype
    width = dtype.itemsize
    extent = (
        sum((length - 1) * step for length, step in zip(shape, strides, strict=True)) + 1 if math.prod(shape) else 0
    )
    if (first + extent) * width > storage.elements * storage.dtype.itemsize:
        raise UnreadableCheckpoint(
            "contains a tensor that reaches beyond its storage",
            found=(first + extent) * width,
            wanted=storage.elements * storage.dtype.itemsize,
            remedy=COPY_AGAIN,
        )

    def read() -> Tensor:
        if not extent:
            return torch.empty(shape, dtype=dtype)
        values = bytearray(storage.read(first * width, extent * width))
        return torch.frombuffer(values, dtype=dtype).as_strided(shape, strides)

    return StoredTensor(shape, dtype, read)


def _integers(values: object) -> tuple[int, ...]:
    if not isinstance(values, (tuple, list)) or len(values) > MAX_DIMENSIONS:
        raise UnreadableCheckpoint(
            "contains a tensor without a valid shape",
            wanted=f"a tuple of at most {MAX_DIMENSIONS} sizes",
            remedy=COPY_AGAIN,
        )
    if any(type(value) is not int or not 0 <= value < _MAX_SIZE for value in values):
        raise UnreadableCheckpoint(
            "contains a tensor of an impossible shape", wanted=f"sizes from 0 to {_MAX_SIZE - 1}", remedy=COPY_AGAIN
        )
    return tuple(values)


def _unusable(kind: str, shape: object, dtype: torch.dtype = torch.float32) -> StoredTensor:
    def read() -> Tensor:
        raise UnreadableCheckpoint(
            f"stores {kind} tensors",
            found=kind,
            wanted="dense floating-point tensors",
            remedy="save the state_dict of the floating-point network with dense tensors",
        )

    return StoredTensor(_integers(shape), dtype, read, kind)


def _rebuild_quantized(storage: object, offset: object, size: object, *_: object) -> StoredTensor:
    return _unusable("quantized", size, storage.dtype if isinstance(storage, Storage) else torch.int8)


def _rebuild_sparse(_layout: object, parts: object) -> StoredTensor:
    """`parts` are two to four values: indices, values and the shape."""
    shapes = [part for part in parts[:4] if isinstance(part, tuple)] if isinstance(parts, tuple) else []
    return _unusable("sparse", shapes[0] if shapes else ())


def _rebuild_meta(_dtype: object, size: object, *_: object) -> StoredTensor:
    return _unusable("meta", size)


def _first(value: object, *_: object) -> object:
    return value


def _size(values: Sequence[int] = ()) -> tuple[int, ...]:
    return _integers(values)


TENSOR_BUILDERS: dict[str, Callable[..., object]] = {
    "torch._utils._rebuild_tensor": _rebuild_tensor,
    "torch._utils._rebuild_tensor_v2": _rebuild_tensor,
    "torch._utils._rebuild_tensor_v3": _rebuild_tensor_v3,
    "torch._utils._rebuild_parameter": _first,
    "torch._utils._rebuild_parameter_with_state": _first,
    "torch.nn.parameter.Parameter": _first,
    "torch._utils._rebuild_qtensor": _rebuild_quantized,
    "torch._utils._rebuild_sparse_tensor": _rebuild_sparse,
    "torch._utils._rebuild_meta_tensor_no_storage": _rebuild_meta,
    "torch.Size": _size,
}
"""Replacements for the functions with which torch rebuilds tensors, by their full names."""
