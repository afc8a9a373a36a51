"""Servers on loopback that never come to an end, each in another way."""

from __future__ import annotations

import itertools
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

MAX_CONNECTION_S = 20.0
HEADER = b"HTTP/1.1 200 OK\r\nContent-Type: application/vnd.apple.mpegurl\r\nConnection: close\r\n\r\n"
Reply = Callable[[socket.socket, bytes, "threading.Event"], None]


class HostileServer:
    """Answers each connection in a thread of its own until it is stopped; counts the connections."""

    def __init__(self, reply: Reply) -> None:
        self.requests = 0
        self.sent_bytes = 0
        self._reply = reply
        self._stopped = threading.Event()
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._socket.accept()
                self.requests += 1
                threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):
            connection.settimeout(MAX_CONNECTION_S)
            request = connection.recv(65536)
            self._reply(connection, request, self._stopped)

    def stop(self) -> None:
        self._stopped.set()
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(5)


@contextmanager
def hostile_server(reply: Reply) -> Iterator[HostileServer]:
    server = HostileServer(reply)
    try:
        yield server
    finally:
        server.stop()


def _path(request: bytes) -> str:
    return request.split(b" ", 2)[1].decode() if request.count(b" ") >= 2 else "/"


def says_nothing(connection: socket.socket, request: bytes, stopped: threading.Event) -> None:
    stopped.wait(MAX_CONNECTION_S)


def drips(connection: socket.socket, request: bytes, stopped: threading.Event) -> None:
    connection.sendall(HEADER)
    while not stopped.wait(0.05):
        connection.sendall(b"#")


def endless_headers(connection: socket.socket, request: bytes, stopped: threading.Event) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\n")
    for number in itertools.count():
        if stopped.is_set():
            return
        connection.sendall(f"X-{number}: {'x' * 2000}\r\n".encode())


def redirects_for_ever(connection: socket.socket, request: bytes, stopped: threading.Event) -> None:
    location = f"{_path(request)}x"[:200]
    connection.sendall(f"HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode())


def playlists_of_playlists(connection: socket.socket, request: bytes, stopped: threading.Event) -> None:
    lines = "".join(
        f"#EXT-X-STREAM-INF:BANDWIDTH={number + 1}\n{_path(request)[:150]}{number}.m3u8\n" for number in range(2)
    )
    connection.sendall(HEADER + b"#EXTM3U\n" + lines.encode())


def segments_that_are_playlists(connection: socket.socket, request: bytes, stopped: threading.Event) -> None:
    path = f"{_path(request)[:150]}x.m3u8"
    connection.sendall(HEADER + f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{path}\n".encode())


def endless_playlist(connection: socket.socket, request: bytes, stopped: threading.Event) -> None:
    connection.sendall(HEADER + b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n")
    block = b"#EXTINF:1,\nsegment.ts\n" * 2000
    while not stopped.is_set():
        connection.sendall(block)


def live_playlist_without_segments(connection: socket.socket, request: bytes, stopped: threading.Event) -> None:
    connection.sendall(HEADER + b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXT-X-MEDIA-SEQUENCE:1\n")


def noise(connection: socket.socket, request: bytes, stopped: threading.Event) -> None:
    connection.sendall(HEADER)
    block = bytes(range(256)) * 256
    while not stopped.is_set():
        connection.sendall(block)


def playlist_of_local_files(connection: socket.socket, request: bytes, stopped: threading.Event) -> None:
    lines = (
        b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile:///etc/hostname.ts\n#EXTINF:1,\n/proc/self/environ.ts\n"
    )
    connection.sendall(HEADER + lines + b"#EXT-X-ENDLIST\n")


REPLIES: tuple[Reply, ...] = (
    says_nothing,
    drips,
    endless_headers,
    redirects_for_ever,
    playlists_of_playlists,
    segments_that_are_playlists,
    endless_playlist,
    live_playlist_without_segments,
    noise,
    playlist_of_local_files,
)
