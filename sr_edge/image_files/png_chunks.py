"""Chunks of PNG files (W3C, 3rd edition): a sequence of length, type, content and checksum."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_HEADER_BYTES = 8 + 25
_LARGEST_CHUNK_BYTES = 1 << 24


def png_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def with_chunks(png: bytes, chunks: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Inserts chunks after the header of a PNG file, where chunks about colours must be."""
    added = b"".join(png_chunk(kind, content) for kind, content in chunks)
    return png[:_HEADER_BYTES] + added + png[_HEADER_BYTES:]


def ancillary_chunks(path: Path) -> Iterator[tuple[bytes, bytes]]:
    """Yields type and content of each chunk that is not pixel data, up to the first that is damaged or too large."""
    with path.open("rb") as file:
        file.seek(len(PNG_SIGNATURE))
        while len(head := file.read(8)) == 8:
            length, kind = struct.unpack(">I4s", head)
            if kind == b"IDAT":
                file.seek(length + 4, 1)
                continue
            if length > _LARGEST_CHUNK_BYTES:
                return
            content, checksum = file.read(length), file.read(4)
            if len(checksum) < 4 or int.from_bytes(checksum, "big") != zlib.crc32(kind + content):
                return
            yield kind, content
