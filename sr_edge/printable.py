"""Text of unknown origin as it may be printed: without characters that act on a terminal.

Names of files, fields of bundles and models, and messages of libraries can contain escape sequences, which recolour,
retitle or clear a terminal, and marks for the direction of text, which make a name look like another one.
"""

from __future__ import annotations

import re

_ACTING = r"\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff"
"""Control characters except tab and newline, line separators, marks of direction, and halves of surrogate pairs."""
_ACTING_CHARACTER = re.compile(f"[{_ACTING}]")
_REPLACEMENT = "?"


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
