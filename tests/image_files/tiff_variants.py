"""TIFF files of every variant, written by the specification and independently of the reader under test."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[Any]
_CODES = {1: "B", 2: "B", 3: "H", 4: "I", 5: "II", 7: "B", 16: "Q"}


@dataclass(frozen=True, eq=False)
class TiffVariant:
    """One page of samples (height, width, channels), and how they are stored.

    `bits` below 8 or between 8 and 16 packs the samples; `tags` are type and values by number, and replace others.
    """

    samples: Samples
    photometric: int
    bits: int | None = None
    order: Literal["<", ">"] = "<"
    is_big: bool = False
    is_planar: bool = False
    tile: tuple[int, int] | None = None
    rows_per_strip: int = 5
    deflate: bool = False
    predictor: int = 1
    fill_order: int = 1
    extra: int | None = None
    pages: int = 1
    tags: Mapping[int, tuple[int, list[int]]] = field(default_factory=dict)
    raw_segments: list[bytes] | None = None

    def encoded(self) -> bytes:
        height, width, channels = self.samples.shape
        bits = self.bits or 8 * self.samples.dtype.itemsize
        segments = self.raw_segments or [self._bytes(segment, bits) for segment in self._segments()]
        is_float = self.samples.dtype.kind == "f"
        entries: dict[int, tuple[int, list[int]]] = {
            256: (4, [width]),
            257: (4, [height]),
            258: (3, [bits] * channels),
            259: (3, [8 if self.deflate else 1]),
            262: (3, [self.photometric]),
            266: (3, [self.fill_order]),
            277: (3, [channels]),
            284: (3, [2 if self.is_planar else 1]),
            317: (3, [self.predictor]),
            339: (3, [3 if is_float else 1] * channels),
        }
        if self.tile:
            entries |= {322: (4, [self.tile[1]]), 323: (4, [self.tile[0]])}
        else:
            entries[278] = (4, [self.rows_per_strip])
        if self.extra is not None:
            entries[338] = (3, [self.extra])
        return self._file({**entries, **self.tags}, segments)

    def _segments(self) -> list[Samples]:
        height, width, channels = self.samples.shape
        planes = (
            [self.samples[..., index : index + 1] for index in range(channels)] if self.is_planar else [self.samples]
        )
        if self.tile is None:
            rows = self.rows_per_strip
            return [plane[top : top + rows] for plane in planes for top in range(0, height, rows)]
        tall, wide = self.tile
        padded = [np.pad(plane, [(0, -height % tall), (0, -width % wide), (0, 0)]) for plane in planes]
        return [
            plane[top : top + tall, left : left + wide]
            for plane in padded
            for top in range(0, height, tall)
            for left in range(0, width, wide)
        ]

    def _bytes(self, segment: Samples, bits: int) -> bytes:
        if self.predictor == 2:
            segment = np.concatenate([segment[:, :1], segment[:, 1:] - segment[:, :-1]], axis=1)
        if bits in (8, 16, 32, 64):
            data = segment.astype(segment.dtype.newbyteorder(self.order)).tobytes()
        else:
            rows = segment.reshape(len(segment), -1, 1) >> np.arange(bits)[::-1] & 1
            data = np.packbits(rows.reshape(len(segment), -1).astype(np.uint8), axis=1).tobytes()
        if self.deflate:
            data = zlib.compress(data)
        if self.fill_order == 2:
            data = bytes(int(f"{byte:08b}"[::-1], 2) for byte in data)
        return data

    def _file(self, entries: dict[int, tuple[int, list[int]]], segments: list[bytes]) -> bytes:
        offset_type, count_type, inline = (16, "Q", 8) if self.is_big else (4, "H", 4)
        header_bytes, entry_bytes = (16, 20) if self.is_big else (8, 12)
        offsets, lengths = (324, 325) if self.tile else (273, 279)
        entries[offsets] = (offset_type, [0] * len(segments))
        entries[lengths] = (offset_type, [len(segment) for segment in segments])
        long = "Q" if self.is_big else "I"

        def packed(kind: int, values: list[int]) -> bytes:
            return struct.pack(f"{self.order}{len(values) // len(_CODES[kind]) * _CODES[kind]}", *values)

        table_bytes = struct.calcsize("<" + count_type) + len(entries) * entry_bytes + struct.calcsize("<" + long)
        values_at = header_bytes + table_bytes
        outside = sum(size for kind, values in entries.values() if (size := len(packed(kind, values))) > inline)
        data_at = values_at + outside
        starts = [data_at + sum(map(len, segments[:index])) for index in range(len(segments))]
        entries[offsets] = (offset_type, starts)
        table, blocks = b"", b""
        for number, (kind, values) in sorted(entries.items()):
            value = packed(kind, values)
            if len(value) > inline:
                blocks += value
                value = struct.pack(self.order + long, values_at + len(blocks) - len(value))
            table += struct.pack(f"{self.order}HH{long}", number, kind, len(values) // len(_CODES[kind]))
            table += value.ljust(inline, b"\0")
        version = (43, 8, 0, 16) if self.is_big else (42, 8)
        header = struct.pack(f"{self.order}{'HHHQ' if self.is_big else 'HI'}", *version)
        following = struct.pack(self.order + long, data_at + sum(map(len, segments)) if self.pages > 1 else 0)
        count = struct.pack(self.order + count_type, len(entries))
        page = count + table + following + blocks + b"".join(segments)
        last = count + table + struct.pack(self.order + long, 0) if self.pages > 1 else b""
        return (b"II" if self.order == "<" else b"MM") + header + page + last
