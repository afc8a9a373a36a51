"""FFmpeg's errors become ours at the border: one line, and never the address as given, which may hold a password."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import av

from sr_edge.errors import StreamError

_ADVICE: tuple[tuple[type[BaseException], str], ...] = (
    (av.error.HTTPUnauthorizedError, "the server refuses the user name or password; check both"),
    (av.error.HTTPForbiddenError, "the server does not let this user in; check the user's rights"),
    (av.error.HTTPNotFoundError, "the server has no such stream; check the path"),
    (av.error.HTTPError, "the server refuses; check the address"),
    (av.error.ProtocolNotFoundError, "the FFmpeg here was built without it; take rtsp://, rtmp:// or udp://"),
    (av.error.FilterNotFoundError, "check its spelling"),
    (av.error.DecoderNotFoundError, "it cannot be decoded here; convert it to H.264 or H.265"),
    (av.error.EncoderNotFoundError, "there is no encoder for it here; choose another suffix, for example .mp4"),
    (av.error.InvalidDataError, "it is damaged, empty or no video; copy it again or choose another"),
    (av.error.EOFError, "it ended before it began; check that it sends"),
)
_ADVICE_BY_NUMBER = {
    errno.ENOENT: "there is no such file or device; check the name",
    errno.EACCES: "there is no permission; for a camera join the group `video`, for a file check its rights",
    errno.EPERM: "there is no permission; check the rights",
    errno.EBUSY: "another program uses it; end that one",
    errno.ENODEV: "there is no such device; check that it is plugged in",
    errno.ENXIO: "there is no such device; check that it is plugged in",
    errno.ENOTTY: "it is not a camera; choose another device",
    errno.EISDIR: "it is a folder; give a file",
    errno.EINVAL: "it is not understood; check its spelling and options",
    errno.EIO: "it cannot be reached; check the host's name and the network",
    errno.ECONNREFUSED: "nobody answers there; check host and port, and that the server runs",
    errno.ECONNRESET: "the other side broke the connection",
    errno.EPIPE: "the other side is gone",
    errno.EHOSTUNREACH: "the host cannot be reached; check the address and the network",
    errno.ENETUNREACH: "the network cannot be reached; check the connection",
    errno.ETIMEDOUT: "nobody answers there in time; check the address and the network",
    errno.ENOSPC: "the disk is full; free some space or choose another disk",
    errno.EDQUOT: "the disk quota is used up; free some space or choose another disk",
    errno.EFBIG: "the file may not grow further; raise the limit or choose another disk",
    errno.EROFS: "the disk is read only; choose another place",
}


@contextmanager
def stream_errors(name: str) -> Iterator[None]:
    """Raises StreamError about `name` for whatever FFmpeg raises; its cause is left out, it names the whole address."""
    try:
        yield
    except av.error.FFmpegError as error:
        raise StreamError(f"{name}: {reason_of(error)}") from None
    except OSError as error:
        raise StreamError(f"{name}: {reason_of(error)}") from None


def reason_of(error: Any) -> str:
    """What is wrong and what to do, without naming the address."""
    if isinstance(error, av.error.ExitError):  # our own timeout; its text speaks of another reason
        return "nothing came in time; check that it is on and sends"
    advice = _ADVICE_BY_NUMBER.get(error.errno)
    for kind, words in _ADVICE:
        if advice is None and isinstance(error, kind):
            advice = words
    reason = str(error.strerror or type(error).__name__)
    return f"{reason}; {advice}" if advice else reason
