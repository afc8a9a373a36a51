"""Converts FFmpeg's errors to StreamError: one line, without the address, which may contain a password."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import av

from sr_edge.errors import StreamError


@dataclass(frozen=True)
class _Advice:
    """A remedy, and an explanation if FFmpeg's own text does not make the cause clear."""

    remedy: str
    explanation: str | None = None


_ADVICE: tuple[tuple[type[BaseException], _Advice], ...] = (
    (av.error.HTTPUnauthorizedError, _Advice("check the user name and password")),
    (av.error.HTTPForbiddenError, _Advice("check that this user may access the stream")),
    (av.error.HTTPNotFoundError, _Advice("check the path of the stream")),
    (av.error.HTTPError, _Advice("check the address and the server")),
    (
        av.error.ProtocolNotFoundError,
        _Advice("use rtsp://, rtmp:// or udp://", "this build of FFmpeg does not support the protocol"),
    ),
    (av.error.FilterNotFoundError, _Advice("check the name of the filter")),
    (
        av.error.DecoderNotFoundError,
        _Advice("convert it to H.264 or H.265", "this build of FFmpeg cannot decode it"),
    ),
    (
        av.error.EncoderNotFoundError,
        _Advice("choose another suffix, for example .mp4", "this build of FFmpeg has no encoder for it"),
    ),
    (
        av.error.InvalidDataError,
        _Advice("copy it again or choose another one", "it is damaged, empty or not a video"),
    ),
    (av.error.EOFError, _Advice("check that it is sending", "it ended before the first frame")),
)
_ADVICE_BY_NUMBER = {
    errno.ENOENT: _Advice("check the name of the file or device"),
    errno.EACCES: _Advice("for a camera, join the group `video`; for a file, check its permissions"),
    errno.EPERM: _Advice("check the permissions"),
    errno.EBADF: _Advice("redirect it to a file or a pipe", "it is closed"),
    errno.EBUSY: _Advice("end the other program that uses it"),
    errno.ENODEV: _Advice("check that it is plugged in"),
    errno.ENXIO: _Advice("check that it is plugged in"),
    errno.ENOTTY: _Advice("choose another device", "it is not a camera"),
    errno.EISDIR: _Advice("give a file"),
    errno.EINVAL: _Advice("check the name or address and the options"),
    errno.EIO: _Advice("check the name of the host and the network", "it cannot be reached"),
    errno.ECONNREFUSED: _Advice("check the host and the port, and that the server is running"),
    errno.ECONNRESET: _Advice("check the server and the network"),
    errno.EPIPE: _Advice("check the program or server that receives the frames", "the receiver has closed it"),
    errno.EHOSTUNREACH: _Advice("check the address and the network"),
    errno.ENETUNREACH: _Advice("check the network connection"),
    errno.ETIMEDOUT: _Advice("check the address and the network"),
    errno.ENOSPC: _Advice("free some space or choose another disk"),
    errno.EDQUOT: _Advice("free some space or choose another disk"),
    errno.EFBIG: _Advice("raise the limit of the file size or choose another disk"),
    errno.EROFS: _Advice("choose a folder on another disk"),
}
_TIMED_OUT = _Advice("check that it is switched on and sending")


@contextmanager
def stream_errors(name: str) -> Iterator[None]:
    """Converts errors of FFmpeg and the operating system inside the block.

    Args:
        name: the name of the source or sink, for the message.

    Raises:
        StreamError: instead of the error, which is not chained because its text contains the whole address.
    """
    try:
        yield
    except (av.error.FFmpegError, OSError) as error:
        raise StreamError(f"{name}: {reason_of(error)}", found=name, remedy=remedy_of(error)) from None


def reason_of(error: Any) -> str:
    """The reason of an error in the words of FFmpeg or the operating system, without the address."""
    if isinstance(error, av.error.ExitError):  # raised by the timeout passed to PyAV; its text names another reason
        return "no data arrived in time"
    reason = str(error.strerror or type(error).__name__)
    advice = _advice_for(error)
    return f"{reason} ({advice.explanation})" if advice and advice.explanation else reason


def remedy_of(error: Any) -> str | None:
    """What the user can do about an error; None if that is unknown."""
    advice = _advice_for(error)
    return advice.remedy if advice else None


def _advice_for(error: Any) -> _Advice | None:
    if isinstance(error, av.error.ExitError):
        return _TIMED_OUT
    if error.errno in _ADVICE_BY_NUMBER:
        return _ADVICE_BY_NUMBER[error.errno]
    return next((advice for kind, advice in _ADVICE if isinstance(error, kind)), None)
