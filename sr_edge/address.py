"""Addresses as people may see them: without user name, password or token, whatever the spelling."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

_SCHEME = r"(?P<scheme>[a-z][a-z0-9+.-]*\\*:/{1,2})"
_USER = re.compile(_SCHEME + r"(?P<user>\S*|[^!]*)@", re.IGNORECASE)
"""Up to the last @, whatever is before it: passwords hold slashes and spaces though they should be quoted."""
_USER_IN_A_WORD = re.compile(_SCHEME + r"\S*@", re.IGNORECASE)
_SECRET = re.compile(
    r"(?P<before>[?&;\s])(?P<name>[a-z_-]*(?:pass(?:word|wd|phrase)?|pwd|token|jwt|secret|key|auth|user(?:name|-id|-pw)?|signature|sig)=)[^&;#\s]*",
    re.IGNORECASE,
)


def without_secrets(address: str) -> str:
    """The address with *** for its user part and for values of its query, or of a pipeline, that look like secrets.

    >>> without_secrets("rtsp://admin:1234@10.0.0.7/main?token=abc&ch=1")
    'rtsp://***@10.0.0.7/main?token=***&ch=1'
    """
    return _SECRET.sub(r"\g<before>\g<name>***", _USER.sub(r"\g<scheme>***@", address))


def message_without_secrets(message: str, arguments: Iterable[str]) -> str:
    """A message about `arguments`, some of which may be addresses that it names whole, in part, or read as a path.

    >>> message_without_secrets("no folder rtsp:/me:1234@cam/main", ["rtsp://me:1234@cam/main"])
    'no folder rtsp:/***@cam/main'
    """
    for argument in arguments:
        for secret, shown in _secrets_of(argument):
            for variant in (secret, re.sub("/+", "/", secret), repr(secret)[1:-1]):
                message = message.replace(variant, shown)
    return _USER_IN_A_WORD.sub(r"\g<scheme>***@", message)


def _secrets_of(argument: str) -> Iterator[tuple[str, str]]:
    """What must not be seen of an argument, and what is shown in its place."""
    for found in _USER.finditer(argument):
        yield f"{found['user']}@", "***@"
    if scheme_of(argument):  # elsewhere NAME=VALUE is a setting
        for found in _SECRET.finditer(argument):
            yield found[0][1:], f"{found['name']}***"


def scheme_of(address: str) -> str:
    """What stands before "://", in lower case; empty for paths."""
    scheme, found, _ = address.partition("://")
    return scheme.lower() if found else ""
