"""Readers of the file formats of tensors: torch's zip archives, its older format, plain pickles, and safetensors."""

from __future__ import annotations

import io
import mmap
import struct
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import IO, cast

import torch
from safetensors import safe_open
from torch import Tensor

from sr_edge.models.checkpoints.bounds import (
    COPY_AGAIN,
    EXPANSION_ALLOWANCE_BYTES,
    MAX_EXPANSION,
    MAX_NAME,
    MAX_PICKLE_BYTES,
    SAVE_STATE_DICT,
    UnreadableCheckpoint,
)
from sr_edge.models.checkpoints.pickled import Interpreter
from sr_edge.models.checkpoints.stored import TENSOR_BUILDERS, Storage, StoredTensor, storage_dtype

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LOCAL_HEADER_BYTES = 30
_SAFETENSORS_TYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2, "I64": torch.int64, "I32": torch.int32,
    "I16": torch.int16, "I8": torch.int8, "U64": torch.uint64, "U32": torch.uint32, "U16": torch.uint16,
    "U8": torch.uint8, "BOOL": torch.bool, "C64": torch.complex64,
}  # fmt: skip


def read_range(path: Path, offset: int, count: int) -> bytes:
    """Reads `count` bytes from `offset`; raises UnreadableCheckpoint where the file is shorter."""
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(offset)
        data = file.read(count) if offset + count <= size else b""
    if len(data) != count:
        raise _cut_short(size, offset + count)
    return data


def _cut_short(size: int, needed: int) -> UnreadableCheckpoint:
    return UnreadableCheckpoint(
        f"was cut short: it has {size:,} bytes, and its tensors end at {needed:,}",
        found=size,
        wanted=needed,
        remedy=COPY_AGAIN,
    )


class ZipArchive:
    """A zip archive of torch, whose entries share a folder.

    Args:
        path: the file.

    Raises:
        UnreadableCheckpoint: the archive would unpack to far more bytes than the file has.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with zipfile.ZipFile(path) as archive:
            self._entries = {info.filename: info for info in archive.infolist()}
        size = path.stat().st_size
        unpacked = sum(info.file_size for info in self._entries.values())
        limit = MAX_EXPANSION * size + EXPANSION_ALLOWANCE_BYTES
        if unpacked > limit:
            raise UnreadableCheckpoint(
                f"would unpack to {unpacked / 1e9:,.1f} GB, but is a file of only {size:,} bytes",
                found=unpacked,
                wanted=limit,
                remedy="save the state_dict of the network again",
            )
        pickles = [name for name in self._entries if name.rpartition("/")[2] == "data.pkl"]
        self._unpacked: tuple[str, bytes] = ("", b"")
        self.folder = min(pickles, key=len).removesuffix("data.pkl") if pickles else ""

    def names(self) -> list[str]:
        """The names of the entries, without the folder that they share."""
        return [name.removeprefix(self.folder) for name in self._entries]

    def entry(self, name: str, limit: int = MAX_PICKLE_BYTES) -> bytes:
        """Reads a whole entry; raises UnreadableCheckpoint for one of more than `limit` bytes."""
        info = self._entries[self.folder + name]
        if info.file_size > limit:
            raise UnreadableCheckpoint(
                f"contains an entry {name} of {info.file_size:,} bytes, more than the limit of {limit:,}",
                found=info.file_size,
                wanted=limit,
                remedy=SAVE_STATE_DICT,
            )
        return self._range(info, 0, info.file_size)

    def storage(self, identity: object) -> Storage:
        """The storage to which the persistent id ("storage", class, key, device, elements) refers."""
        kind, key, elements = _storage_identity(identity)
        dtype = storage_dtype(kind)
        info = self._entries.get(f"{self.folder}data/{key}")
        if info is None or info.file_size < elements * dtype.itemsize:
            raise UnreadableCheckpoint(
                f"lacks the bytes of its storage {key}",
                found=0 if info is None else info.file_size,
                wanted=elements * dtype.itemsize,
                remedy=COPY_AGAIN,
            )
        return Storage(dtype, elements, partial(self._range, info))

    def _range(self, info: zipfile.ZipInfo, offset: int, count: int) -> bytes:
        if info.compress_type != zipfile.ZIP_STORED:
            return self._whole(info)[offset : offset + count]
        # Read directly: zipfile requires CRC-32 checksums, which torch can be configured to omit.
        header = read_range(self.path, info.header_offset, _LOCAL_HEADER_BYTES)
        name_bytes, extra_bytes = struct.unpack("<HH", header[26:30])
        begin = info.header_offset + _LOCAL_HEADER_BYTES + name_bytes + extra_bytes
        return read_range(self.path, begin + offset, count)

    def _whole(self, info: zipfile.ZipInfo) -> bytes:
        """A compressed entry, unpacked; the last one is cached, since many tensors can be views of one storage."""
        if self._unpacked[0] != info.filename:
            with zipfile.ZipFile(self.path) as archive:
                self._unpacked = info.filename, archive.read(info)
        return self._unpacked[1]


def read_zip(archive: ZipArchive) -> object:
    """Reads what `torch.save` stored in a zip archive; tensors become `StoredTensor` descriptions."""
    if "byteorder" in archive.names() and archive.entry("byteorder").strip() == b"big":
        raise UnreadableCheckpoint(
            "was written on a big-endian machine",
            found="big",
            wanted="little",
            remedy="save it again on a little-endian machine",
        )
    return Interpreter(TENSOR_BUILDERS, archive.storage).read(io.BytesIO(archive.entry("data.pkl")))


def read_stream(path: Path) -> object:
    """Reads what torch before 1.6, or `pickle.dump`, stored; tensors become `StoredTensor` descriptions.

    torch's older format is a sequence of pickles (a magic number, a version, properties of the machine, the object, the
    keys of the storages), followed by each storage: its number of elements as int64, then its bytes.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        stream = cast("IO[bytes]", mapped)
        first = _read_pickle(stream)
        if first != LEGACY_MAGIC:
            return first
        _read_pickle(stream), _read_pickle(stream)
        storages = _LegacyStorages(path)
        root = Interpreter(TENSOR_BUILDERS, storages.storage).read(stream)
        storages.locate(_read_pickle(stream), mapped.tell())
        return root


def _read_pickle(stream: IO[bytes]) -> object:
    return Interpreter(TENSOR_BUILDERS, _no_storage).read(stream)


def _no_storage(_: object) -> object:
    raise UnreadableCheckpoint(
        "is a pickle that refers to tensors stored outside of it",
        wanted="a file written by torch.save",
        remedy="write it with torch.save",
    )


class _LegacyStorages:
    """Storages of the older format; the offsets of their bytes are known only after the pickle was read."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._bytes: dict[str, int] = {}
        self._offsets: dict[str, int] = {}

    def storage(self, identity: object) -> object:
        if isinstance(identity, tuple) and identity[:1] == ("module",):
            return identity[1]  # ("module", class, source file, source): the class of a whole pickled module
        kind, key, elements = _storage_identity(identity)
        dtype = storage_dtype(kind)
        self._bytes[key] = elements * dtype.itemsize
        view = identity[5] if isinstance(identity, tuple) and len(identity) > 5 else None
        first, count = (view[1], view[2]) if isinstance(view, tuple) else (0, elements)
        if not 0 <= first <= first + count <= elements:
            raise UnreadableCheckpoint(
                "contains a view that reaches beyond its storage",
                found=(first, count),
                wanted=(0, elements),
                remedy=COPY_AGAIN,
            )
        return Storage(dtype, count, partial(self._range, key, first * dtype.itemsize))

    def locate(self, keys: object, position: int) -> None:
        """Computes the offsets of the storages, which follow each other from `position` in the order of `keys`."""
        size = self._path.stat().st_size
        for key in map(_storage_key, keys if isinstance(keys, list) else []):
            position += 8
            self._offsets[key] = position
            position += self._bytes.get(key, 0)
        if position > size:
            raise _cut_short(size, position)

    def _range(self, key: str, begin: int, offset: int, count: int) -> bytes:
        return read_range(self._path, self._offsets[key] + begin + offset, count)


def _storage_identity(identity: object) -> tuple[object, str, int]:
    if not isinstance(identity, tuple) or len(identity) < 5 or identity[0] not in ("storage", b"storage"):
        raise UnreadableCheckpoint(
            "refers to an object outside of its pickle that is not a storage of a tensor",
            wanted="the storage of a tensor",
            remedy=SAVE_STATE_DICT,
        )
    _, kind, key, _, elements = identity[:5]
    if type(elements) is not int or elements < 0:
        raise UnreadableCheckpoint(
            "contains a storage without a valid size", wanted="a size in elements, at least 0", remedy=COPY_AGAIN
        )
    return kind, _storage_key(key), elements


def _storage_key(key: object) -> str:
    """The key as text. Types other than str and int are refused: the text of nested tuples can exceed any memory."""
    if type(key) not in (str, int) or (isinstance(key, str) and len(key) > MAX_NAME):
        raise UnreadableCheckpoint(
            "contains a storage without a valid key",
            wanted=f"a key of at most {MAX_NAME:,} characters",
            remedy=COPY_AGAIN,
        )
    return str(key)


def read_safetensors(path: Path) -> tuple[dict[str, object], dict[str, str]]:
    """Reads a safetensors file: descriptions of its tensors, and its metadata."""
    with safe_open(path, framework="pt") as file:
        slices = {key: file.get_slice(key) for key in file.keys()}  # noqa: SIM118  # safe_open is not a mapping
        tensors = {key: (tuple(part.get_shape()), part.get_dtype()) for key, part in slices.items()}
        metadata = dict(file.metadata() or {})
    state: dict[str, object] = {
        key: StoredTensor(
            shape,
            _SAFETENSORS_TYPES.get(dtype, torch.uint8),
            _reader(path, key),
            "" if dtype in _SAFETENSORS_TYPES else dtype,
        )
        for key, (shape, dtype) in tensors.items()
    }
    return state, metadata


def _reader(path: Path, key: str) -> Callable[[], Tensor]:
    def read() -> Tensor:
        with safe_open(path, framework="pt") as file:
            return cast(Tensor, file.get_tensor(key))

    return read
