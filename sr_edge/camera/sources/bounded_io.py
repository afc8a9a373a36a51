"""Network access of FFmpeg's demuxers for HTTP sources and playlists, with limits on time, requests and bytes.

A playlist can refer to any number of further playlists and segments, and a server can send any of them slowly, without
end, or always anew. FFmpeg limits neither their number nor their size, and PyAV's timeouts begin again with each phase
of opening. PyAV lets a program open every resource of a container itself (`io_open`): this module does that with
FFmpeg's own protocols, through the C functions of the libavformat that PyAV has loaded, and counts.
"""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import av
from av.container import core

from sr_edge.errors import StreamError
from sr_edge.files.headers import is_playlist
from sr_edge.printable import scheme_of

NETWORK_PROTOCOLS = "http,https,httpproxy,tls,tcp,crypto,data"
FILE_PROTOCOLS = "file,crypto,data"
_AVIO_FLAG_READ = 1
_AVIO_SEEKABLE_NORMAL = 1
_AVERROR_EOF = -541_478_725
_MAX_READ_BYTES = 1 << 16
_InterruptFunction = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p)


class _InterruptCallback(ctypes.Structure):
    """AVIOInterruptCB of libavformat/avio.h."""

    _fields_ = (("callback", _InterruptFunction), ("opaque", ctypes.c_void_p))


class _IOContext(ctypes.Structure):
    """The first fields of AVIOContext of libavformat/avio.h, up to the last one that is needed."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("av_class", "buffer")),
        ("buffer_size", ctypes.c_int),
        *((name, ctypes.c_void_p) for name in ("buf_ptr", "buf_end", "opaque", "read_packet", "write_packet", "seek")),
        ("pos", ctypes.c_int64),
        *((name, ctypes.c_int) for name in ("eof_reached", "error", "write_flag", "max_packet", "min_packet")),
        ("checksum", ctypes.c_ulong),
        *((name, ctypes.c_void_p) for name in ("checksum_ptr", "update_checksum", "read_pause", "read_seek")),
        ("seekable", ctypes.c_int),
    )


@dataclass(frozen=True)
class Limits:
    """What a source may take until its first packet, and between two packets after that.

    Attributes:
        seconds: Time to open the source.
        silence_s: Time without data after it has been opened.
        requests: Number of resources.
        bytes: Number of bytes. FFmpeg keeps about ten times the size of a playlist in memory.
    """

    seconds: float
    silence_s: float
    requests: int = 200
    bytes: int = 32 << 20


class BoundedAccess:
    """Opens the resources of one source for PyAV: pass it as `io_open` together with OPTIONS.

    Nothing here raises while FFmpeg runs, because PyAV prints exceptions that FFmpeg does not pass on. A resource that
    fails is at its end for FFmpeg, and `failure` is the reason that `require_success` raises.
    """

    def __init__(self, name: str, protocols: str, limits: Limits) -> None:
        """Starts the time of the limits.

        Args:
            name: Name of the source for messages.
            protocols: The protocols of FFmpeg that it and its playlists may use, separated by commas.
            limits: The limits.
        """
        self._name = name
        self._protocols = protocols
        self._limits = limits
        self._deadline_s = time.monotonic() + limits.seconds
        self._is_open = False
        self._closed = threading.Event()
        self._requests = 0
        self._bytes = 0
        self._resources: list[_Resource] = []
        self._error_code = 0
        self.interrupt = _InterruptFunction(lambda _opaque: int(self.is_over))

    def __call__(self, url: str, _flags: int, options: Mapping[str, str]) -> _Resource:
        """Opens a resource; one that is at its end if it cannot be opened, or a limit was reached."""
        self._requests += 1
        resource = _Resource(self, url, {**options, "protocol_whitelist": self._protocols})
        self._resources = [*(item for item in self._resources if item.is_open), resource]
        return resource

    @property
    def is_over(self) -> bool:
        """Whether FFmpeg has to stop: a limit was reached, or the source was closed."""
        return self._closed.is_set() or self._exceeded() is not None

    def count(self, size: int) -> None:
        """Counts bytes that were read."""
        self._bytes += size

    def record(self, error_code: int) -> None:
        """Remembers the first error of FFmpeg since the last packet."""
        self._error_code = self._error_code or error_code

    def packet_arrived(self) -> None:
        """Restarts the limits: called once when the source is open, and with every packet."""
        self._is_open = True
        self._requests = self._bytes = self._error_code = 0
        self._deadline_s = time.monotonic() + self._limits.silence_s

    def require_success(self) -> None:
        """Raises what made a resource fail since the last packet, if anything did.

        Raises:
            StreamError: A limit was reached.
            av.error.FFmpegError: FFmpeg could not open or read a resource.
        """
        exceeded = self._exceeded()
        if exceeded is not None and not self._closed.is_set():
            what, limit = exceeded
            when = "between two packets" if self._is_open else "before its first packet"
            raise StreamError(
                f"{self._name}: it {what} {when}", found=what, wanted=limit, remedy="check the address and the server"
            )
        av.error.err_check(self._error_code)

    def _exceeded(self) -> tuple[str, float] | None:
        """What the source did, and the limit; None within the limits."""
        limits = self._limits
        seconds = limits.silence_s if self._is_open else limits.seconds
        if self._bytes > limits.bytes:
            return f"sent more than {limits.bytes >> 20} MiB", limits.bytes
        if self._requests > limits.requests:
            return f"refers to more than {limits.requests} files", limits.requests
        if time.monotonic() > self._deadline_s:
            return f"took more than {seconds:g} s", seconds
        return None

    def cancel(self) -> None:
        """Ends waiting for the network, in whichever thread; for `close` of a source."""
        self._closed.set()

    def close(self) -> None:
        """Closes all resources; called by the thread that reads, after the container."""
        self._closed.set()
        for resource in self._resources:
            resource.close()


OPTIONS = {"http_persistent": "0", "http_multiple": "0"}
"""Options of the HLS demuxer: without them it reuses connections of its own, which PyAV's resources are not."""


class _Resource:
    """One file or connection, as the file object that PyAV reads from."""

    def __init__(self, access: BoundedAccess, url: str, options: Mapping[str, str]) -> None:
        self._access = access
        self._context = ctypes.POINTER(_IOContext)()
        self._buffer = ctypes.create_string_buffer(_MAX_READ_BYTES)
        if access.is_over:
            return
        library, dictionary = _library(), ctypes.c_void_p()
        for name, value in options.items():
            library.av_dict_set(ctypes.byref(dictionary), name.encode(), value.encode(), 0)
        callback = _InterruptCallback(access.interrupt, None)
        result = library.avio_open2(
            ctypes.byref(self._context),
            url.encode("utf-8", "surrogateescape"),
            _AVIO_FLAG_READ,
            ctypes.byref(callback),
            ctypes.byref(dictionary),
        )
        library.av_dict_free(ctypes.byref(dictionary))
        if result < 0:
            access.record(result)

    @property
    def is_open(self) -> bool:
        return bool(self._context)

    def seekable(self) -> bool:
        return self.is_open and bool(self._context.contents.seekable & _AVIO_SEEKABLE_NORMAL)

    def read(self, size: int) -> bytes:
        """Up to `size` bytes; none at the end, after an error, and when a limit is reached."""
        if not self.is_open or self._access.is_over:
            return b""
        read = _library().avio_read_partial(self._context, self._buffer, min(size, _MAX_READ_BYTES))
        if read < 0:
            if read != _AVERROR_EOF:
                self._access.record(read)
            return b""
        self._access.count(read)
        return self._buffer.raw[:read]

    def seek(self, offset: int, whence: int = 0) -> int:
        """The new position, or FFmpeg's code of the error."""
        return int(_library().avio_seek(self._context, offset, whence)) if self.is_open else _AVERROR_EOF

    def tell(self) -> int:
        return self.seek(0, 1)

    def close(self) -> None:
        if self._context:
            _library().avio_closep(ctypes.byref(self._context))


def access_for(url: str, name: str, limits: Limits) -> BoundedAccess | None:
    """Bounded access to an HTTP source or a playlist; None for others, which open nothing but themselves.

    Args:
        url: An address or a path.
        name: The name for messages.
        limits: The limits.
    """
    if scheme_of(url) in ("http", "https"):
        return BoundedAccess(name, NETWORK_PROTOCOLS, limits)
    return BoundedAccess(name, FILE_PROTOCOLS, limits) if not scheme_of(url) and is_playlist(Path(url)) else None


@lru_cache(maxsize=1)
def _library() -> Any:
    """The functions of libavformat and libavutil, found through PyAV's module, which is linked against them."""
    library = ctypes.CDLL(core.__file__)
    pointer, number, integer = ctypes.c_void_p, ctypes.c_int, ctypes.c_int64
    signatures: Mapping[str, tuple[Any, tuple[Any, ...]]] = {
        "avio_open2": (number, (pointer, ctypes.c_char_p, number, pointer, pointer)),
        "avio_read_partial": (number, (pointer, ctypes.c_char_p, number)),
        "avio_seek": (integer, (pointer, integer, number)),
        "avio_closep": (number, (pointer,)),
        "av_dict_set": (number, (pointer, ctypes.c_char_p, ctypes.c_char_p, number)),
        "av_dict_free": (None, (pointer,)),
    }
    for name, (result, arguments) in signatures.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library
