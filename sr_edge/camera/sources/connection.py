"""Opens a container of FFmpeg within one deadline, and reads its packets."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import av

from sr_edge.camera.media.decoding import packets_of
from sr_edge.camera.sources.bounded_io import OPTIONS, BoundedAccess, Limits, access_for
from sr_edge.errors import StreamError
from sr_edge.printable import without_secrets

STANDARD_INPUT = "pipe:0"
DEFAULT_OPEN_S = 10.0
_GRACE_S = 0.5
"""PyAV's timeout ends first, and its error names the reason."""


@dataclass(frozen=True)
class FFmpegInput:
    """What FFmpeg opens, and how.

    Attributes:
        url: a path or an address.
        format: FFmpeg's name of the demuxer or input device; None lets FFmpeg detect it.
        options: the options of the demuxer and the protocol.
        is_live: None means that a stream without a duration is live.
        open_s: a live or network source must be open, with all that it refers to, within this time.
        timeout_s: a stream that sends nothing for this long is lost.
        is_deinterlaced: whether the frames are deinterlaced.
        rate: frames per second of a source that does not announce them; None if it does, or if the rate is unknown.
        decoder: FFmpeg's name of the decoder; None lets FFmpeg choose one.
    """

    url: str
    format: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    is_live: bool | None = None
    open_s: float = DEFAULT_OPEN_S
    timeout_s: float = 5.0
    is_deinterlaced: bool = False
    rate: Fraction | None = None
    decoder: str | None = None

    @property
    def name(self) -> str:
        """The URL without user name and password."""
        return "standard input" if self.url == STANDARD_INPUT else without_secrets(self.url)


class Connection:
    """An open container.

    Attributes:
        container: PyAV's container.
    """

    def __init__(self, container: Any, access: BoundedAccess | None) -> None:
        self.container = container
        self._access = access

    def packets(self, *streams: Any) -> Iterator[Any]:
        """The packets of the streams.

        Raises:
            StreamError: The source exceeds a limit.
            av.error.FFmpegError: Reading failed.
        """
        try:
            for packet in packets_of(self.container, *streams):
                if self._access is not None:
                    self._access.packet_arrived()
                yield packet
        except av.error.FFmpegError:
            self._require_success()
            raise
        self._require_success()

    def _require_success(self) -> None:
        if self._access is not None:
            self._access.require_success()

    def cancel(self) -> None:
        """Ends waiting for an HTTP server in another thread; has no effect on other sources."""
        if self._access is not None:
            self._access.cancel()

    def close(self) -> None:
        """Closes the container; called by the thread that reads."""
        self.container.close()
        if self._access is not None:
            self._access.close()


def opened_connection(ffmpeg_input: FFmpegInput) -> Connection:
    """Opens a container.

    Raises:
        StreamError: The source exceeds a limit, or is not open within its time.
        av.error.FFmpegError: It cannot be opened.
    """
    limits = Limits(ffmpeg_input.open_s, ffmpeg_input.timeout_s)
    access = access_for(ffmpeg_input.url, ffmpeg_input.name, limits)
    if ffmpeg_input.is_live is False and access is None:
        return _open(ffmpeg_input, None)
    return _open_in_time(ffmpeg_input, access)


def _open(ffmpeg_input: FFmpegInput, access: BoundedAccess | None) -> Connection:
    timeouts = None if ffmpeg_input.is_live is False else (ffmpeg_input.open_s, ffmpeg_input.timeout_s)
    try:
        container = av.open(
            ffmpeg_input.url,
            "r",
            format=ffmpeg_input.format,
            options={**(OPTIONS if access else {}), **ffmpeg_input.options},
            timeout=timeouts,
            metadata_errors="replace",  # it may be in any encoding
            io_open=access,
        )
    except av.error.FFmpegError:
        if access is not None:
            with closing(access):
                access.require_success()
        raise
    connection = Connection(container, access)
    if access is not None:
        if not container.streams.video:  # perhaps because of a limit, which is the better reason
            with ExitStack() as failed:
                failed.callback(connection.close)
                access.require_success()
                failed.pop_all()
        access.packet_arrived()
    return connection


def _open_in_time(ffmpeg_input: FFmpegInput, access: BoundedAccess | None) -> Connection:
    """Opens in another thread, because a name server, for example, is waited for without a limit.

    After the deadline that thread is left to itself. FFmpeg's own limits end it, and it closes what it has opened.
    """
    opening = _Opening()

    def run() -> None:
        try:
            opening.finish(_open(ffmpeg_input, access))
        except BaseException as error:
            opening.fail(error)

    threading.Thread(target=run, name="sr-edge-connecting", daemon=True).start()
    try:
        opening.done.wait(ffmpeg_input.open_s + _GRACE_S)
    finally:  # also after Ctrl-C
        connection = opening.take()
        if connection is None and access is not None:
            access.cancel()
    if opening.error is not None:
        raise opening.error
    if connection is None:
        raise StreamError(
            f"{ffmpeg_input.name}: it was not open after {ffmpeg_input.open_s:g} s",
            found=ffmpeg_input.name,
            wanted=ffmpeg_input.open_s,
            remedy="check that it is switched on and sending, or allow more time (--open-timeout)",
        )
    return connection


class _Opening:
    """What another thread opens. `_lock` guards the connection: either it is taken, or it is closed."""

    def __init__(self) -> None:
        self.done = threading.Event()
        self.error: BaseException | None = None
        self._lock = threading.Lock()
        self._connection: Connection | None = None
        self._is_abandoned = False

    def finish(self, connection: Connection) -> None:
        with self._lock:
            if self._is_abandoned:
                connection.close()
            else:
                self._connection = connection
        self.done.set()

    def fail(self, error: BaseException) -> None:
        self.error = error
        self.done.set()

    def take(self) -> Connection | None:
        """The connection, if it is open by now; otherwise it will be closed when it is."""
        with self._lock:
            self._is_abandoned = self._connection is None
            return self._connection
