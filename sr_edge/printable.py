"""Text of unknown origin as it may be shown: without characters that act on a terminal, and as HTML.

Names of files, fields of bundles and models, and messages of libraries can contain escape sequences, which recolour,
retitle or clear a terminal, and marks for the direction of text, which make a name look like another one.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from html import escape

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
