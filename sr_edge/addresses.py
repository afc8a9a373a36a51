"""Addresses of sources and sinks: their scheme, and texts without the user names, passwords and tokens in them.

No secret may be printed, logged or put into errors. Errors, and everything that the commands print, pass through
`message_without_secrets`; names of sources and sinks, which are whole addresses, through `without_secrets`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

_SCHEME = r"(?P<scheme>[a-z][a-z0-9+.-]*\\*:/{1,2})"
_USER = re.compile(_SCHEME + r"(?P<user>\S*|[^!]*)@", re.IGNORECASE)
"""Matches up to the last @, because passwords contain slashes and spaces even though these should be quoted."""
_ADDRESS_IN_A_WORD = re.compile(_SCHEME + r"\S*", re.IGNORECASE)
_SECRET = re.compile(
    r"(?P<before>[?&;\s])"
    r"(?P<name>[a-z_-]*(?:pass(?:word|wd|phrase)?|pwd|token|jwt|secret|key|auth|user(?:name|-id|-pw)?|signature|sig)=)"
    r"[^&;#\s]*?(?=[\"'),.:]*(?:[&;#\s]|$))",
    re.IGNORECASE,
)
"""The value ends before the marks of punctuation that follow an address in a message."""
_PIPELINE = "gst:"
"""How a pipeline of GStreamer begins, whose properties can be passwords."""


def without_secrets(address: str) -> str:
    """Replaces the user part, and query or pipeline values that look like secrets, by ***.

    >>> without_secrets("rtsp://admin:1234@10.0.0.7/main?token=abc&ch=1")
    'rtsp://***@10.0.0.7/main?token=***&ch=1'
    """
    return _SECRET.sub(r"\g<before>\g<name>***", _USER.sub(r"\g<scheme>***@", address))


def message_without_secrets(message: str, arguments: Iterable[str] = ()) -> str:
    """Hides the secrets of all addresses in a message.

    >>> message_without_secrets("no folder rtsp:/me:1234@cam/main", ["rtsp://me:1234@cam/main"])
    'no folder rtsp:/***@cam/main'

    Args:
        message: Any text.
        arguments: What a user gave, which the message may quote whole, in part, or converted to a path. With these a
            password is found that contains spaces, or that is quoted without its address.
    """
    for argument in arguments:
        for secret, shown in _secrets_of(argument):
            for variant in (secret, re.sub("/+", "/", secret), repr(secret)[1:-1]):
                message = message.replace(variant, shown)
    return _ADDRESS_IN_A_WORD.sub(lambda address: without_secrets(address[0]), message)


def _secrets_of(argument: str) -> Iterator[tuple[str, str]]:
    """Yields each secret of an argument and its replacement."""
    for match in _USER.finditer(argument):
        yield f"{match['user']}@", "***@"
    if scheme_of(argument) or argument.startswith(_PIPELINE):  # otherwise NAME=VALUE is an option and no secret
        for match in _SECRET.finditer(argument):
            yield match[0][1:], f"{match['name']}***"


def scheme_of(address: str) -> str:
    """The scheme before "://", in lower case; empty for a path."""
    scheme, separator, _ = address.partition("://")
    return scheme.lower() if separator else ""
