"""What a source or sink is called in messages: without user name, password or token, whatever the spelling."""

from __future__ import annotations

import re

_USER = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*\\*:/{1,2})(?:\S*|[^!]*)@", re.IGNORECASE)
"""Up to the last @, whatever is before it: passwords hold slashes and spaces though they should be quoted."""
_SECRET = re.compile(
    r"(?P<name>[?&;\s](?:[a-z_-]*(?:pass(?:word|wd|phrase)?|pwd|token|jwt|secret|key|auth|user(?:name|-id|-pw)?|signature|sig))=)[^&;#\s]*",
    re.IGNORECASE,
)


def without_secrets(address: str) -> str:
    """The address with *** for its user part and for values of its query, or of a pipeline, that look like secrets.

    >>> without_secrets("rtsp://admin:1234@10.0.0.7/main?token=abc&ch=1")
    'rtsp://***@10.0.0.7/main?token=***&ch=1'
    """
    return _SECRET.sub(r"\g<name>***", _USER.sub(r"\g<scheme>***@", address))


def scheme_of(address: str) -> str:
    """What stands before "://", in lower case; empty for paths."""
    scheme, found, _ = address.partition("://")
    return scheme.lower() if found else ""
