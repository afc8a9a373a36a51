"""Hides user names, passwords and tokens of addresses before they are printed, logged or put into errors."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

_SCHEME = r"(?P<scheme>[a-z][a-z0-9+.-]*\\*:/{1,2})"
_USER = re.compile(_SCHEME + r"(?P<user>\S*|[^!]*)@", re.IGNORECASE)
"""Matches up to the last @, because passwords contain slashes and spaces even though these should be quoted."""
_USER_IN_A_WORD = re.compile(_SCHEME + r"\S*@", re.IGNORECASE)
_SECRET = re.compile(
    r"(?P<before>[?&;\s])(?P<name>[a-z_-]*(?:pass(?:word|wd|phrase)?|pwd|token|jwt|secret|key|auth|user(?:name|-id|-pw)?|signature|sig)=)[^&;#\s]*",
    re.IGNORECASE,
)


def without_secrets(address: str) -> str:
    """Replaces the user part, and query or pipeline values that look like secrets, by ***.

    >>> without_secrets("rtsp://admin:1234@10.0.0.7/main?token=abc&ch=1")
    'rtsp://***@10.0.0.7/main?token=***&ch=1'
    """
    return _SECRET.sub(r"\g<before>\g<name>***", _USER.sub(r"\g<scheme>***@", address))


def message_without_secrets(message: str, arguments: Iterable[str]) -> str:
    """Hides the secrets of `arguments` in a message that quotes them whole, in part, or converted to a path.

    >>> message_without_secrets("no folder rtsp:/me:1234@cam/main", ["rtsp://me:1234@cam/main"])
    'no folder rtsp:/***@cam/main'
    """
    for argument in arguments:
        for secret, shown in _secrets_of(argument):
            for variant in (secret, re.sub("/+", "/", secret), repr(secret)[1:-1]):
                message = message.replace(variant, shown)
    return _USER_IN_A_WORD.sub(r"\g<scheme>***@", message)


def _secrets_of(argument: str) -> Iterator[tuple[str, str]]:
    """Yields each secret of an argument and its replacement."""
    for match in _USER.finditer(argument):
        yield f"{match['user']}@", "***@"
    if scheme_of(argument):  # without a scheme, NAME=VALUE is an option and no secret
        for match in _SECRET.finditer(argument):
            yield match[0][1:], f"{match['name']}***"


def scheme_of(address: str) -> str:
    """The scheme before "://", in lower case; empty for a path."""
    scheme, separator, _ = address.partition("://")
    return scheme.lower() if separator else ""
