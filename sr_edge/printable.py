"""Text of unknown origin as it may be shown: without characters that act on a terminal, without secrets, and as HTML.

Names of files, fields of bundles and models, and messages of libraries can contain escape sequences, which recolour,
retitle or clear a terminal, and marks for the direction of text, which make a name look like another one. Addresses of
sources and sinks contain user names, passwords and tokens: no secret may be printed, logged or put into errors. Errors,
and everything that the commands print, pass through `message_without_secrets`; names of sources and sinks, which are
whole addresses, through `without_secrets`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from html import escape

_ACTING = r"\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff"
"""Control characters except tab and newline, line separators, marks of direction, and halves of surrogate pairs."""
_ACTING_CHARACTER = re.compile(f"[{_ACTING}]")
_REPLACEMENT = "?"

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
"""The prefix of GStreamer pipelines, whose properties can be passwords."""


def printable(text: str) -> str:
    """Replaces each character that acts on a terminal, except tabs and newlines, by a question mark.

    >>> printable("red\\x1b[31m")
    'red?[31m'
    """
    return _ACTING_CHARACTER.sub(_REPLACEMENT, text)


def one_line(text: str) -> str:
    """As `printable`, with each run of white space as one space.

    >>> one_line("first\\n second")
    'first second'
    """
    return printable(" ".join(text.split()))


def printable_json(document: str) -> str:
    """The same JSON document with characters that act on a terminal written as escapes."""
    return _ACTING_CHARACTER.sub(lambda match: f"\\u{ord(match[0]):04x}", document)


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


def html_table(headings: Sequence[str], rows: Sequence[Sequence[str]], text_headings: Collection[str]) -> str:
    """A table for notebooks, all text escaped: columns with these headings are text, the others numbers."""
    lines = [_html_row("th", headings, headings, text_headings)]
    lines += [_html_row("td", headings, row, text_headings) for row in rows]
    return f"<table>{''.join(lines)}</table>"


def _html_row(tag: str, headings: Sequence[str], cells: Sequence[str], text_headings: Collection[str]) -> str:
    alignments = ("left" if heading in text_headings else "right" for heading in headings)
    cell_tags = (
        f'<{tag} style="text-align: {alignment}">{escape(cell)}</{tag}>'
        for alignment, cell in zip(alignments, cells, strict=True)
    )
    return f"<tr>{''.join(cell_tags)}</tr>"


def html_list(title: str, items: Sequence[str]) -> str:
    """A list below a line of text for notebooks, each of which may be empty; all text is escaped."""
    heading = f"<p>{escape(title)}</p>" if title else ""
    listed = f"<ul>{''.join(f'<li>{escape(item)}</li>' for item in items)}</ul>" if items else ""
    return heading + listed
