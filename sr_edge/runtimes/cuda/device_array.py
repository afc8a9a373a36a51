"""Arrays in GPU memory, read through `__cuda_array_interface__` or DLPack without a copy."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sr_edge.errors import UsageError

_CUDA, _CUDA_MANAGED = 2, 13
_DLPACK_TYPES = {(2, 32): "<f4", (1, 8): "|u1"}


@dataclass(frozen=True)
class DeviceArray:
    """A contiguous array in GPU memory. `owner` keeps that memory allocated for as long as this object exists."""

    address: int
    shape: tuple[int, ...]
    typestr: str
    owner: object


def device_array(source: object) -> DeviceArray:
    """Reads the address, shape and type of an array in GPU memory.

    Nothing is copied or synchronized: whoever wrote the array must have synchronized its stream before.

    Raises:
        UsageError: `source` implements neither protocol, is in host memory, or is not contiguous.
    """
    if hasattr(source, "__cuda_array_interface__"):
        return _from_interface(source, source.__cuda_array_interface__)
    if hasattr(source, "__dlpack__") and hasattr(source, "__dlpack_device__"):
        kind = int(source.__dlpack_device__()[0])
        if kind not in (_CUDA, _CUDA_MANAGED):
            raise UsageError(
                f"the array is not in CUDA memory (its DLPack device type is {kind})",
                found=kind,
                wanted=(_CUDA, _CUDA_MANAGED),
                remedy="pass arrays in host memory to run()",
            )
        return _from_dlpack(source, source.__dlpack__())
    raise UsageError(
        f"an object of type {type(source).__name__} does not expose an address in CUDA memory",
        found=type(source).__name__,
        wanted=("__cuda_array_interface__", "__dlpack__"),
        remedy="pass an object with __cuda_array_interface__ or DLPack, for example a CuPy array or a PyTorch tensor "
        "on cuda",
    )


def _from_interface(source: object, interface: dict[str, Any]) -> DeviceArray:
    shape, typestr = tuple(interface["shape"]), str(interface["typestr"])
    if interface.get("strides") is not None:
        itemsize = int(typestr[2:])
        _require_contiguous(shape, [stride // itemsize for stride in interface["strides"]])
    return DeviceArray(int(interface["data"][0]), shape, typestr.replace("<u1", "|u1"), source)


class _DlTensor(ctypes.Structure):
    """DLTensor of dlpack.h."""

    _fields_ = [  # the name that ctypes reads
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    ]


def _from_dlpack(source: object, capsule: object) -> DeviceArray:
    """The capsule keeps its name "dltensor", so that it still frees the array when it is destroyed."""
    get_pointer = ctypes.pythonapi.PyCapsule_GetPointer
    get_pointer.restype, get_pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    tensor = _DlTensor.from_address(get_pointer(capsule, b"dltensor"))
    shape = tuple(tensor.shape[: tensor.ndim])
    if tensor.strides:
        _require_contiguous(shape, tensor.strides[: tensor.ndim])
    typestr = _DLPACK_TYPES.get((tensor.code, tensor.bits), f"DLPack type {tensor.code}, {tensor.bits} bits")
    return DeviceArray((tensor.data or 0) + tensor.byte_offset, shape, typestr, (source, capsule))


def _require_contiguous(shape: Sequence[int], strides: Sequence[int]) -> None:
    """Raises UsageError unless `strides`, in elements, are those of a contiguous array; a size of 1 may have any."""
    contiguous = tuple(math.prod(shape[index + 1 :]) for index in range(len(shape)))
    if any(size != 1 and stride != expected for size, stride, expected in zip(shape, strides, contiguous, strict=True)):
        raise UsageError(
            f"the CUDA array of shape {list(shape)} is not contiguous",
            found=tuple(strides),
            wanted=contiguous,
            remedy="make a contiguous copy of it first",
        )
