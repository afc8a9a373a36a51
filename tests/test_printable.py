"""Text of unknown origin loses what acts on a terminal, and keeps everything else."""

from __future__ import annotations

import json

import pytest

from sr_edge.bundle.plain import json_text
from sr_edge.printable import one_line, printable

ACTING = [
    "\x1b[2J",
    "\x1b]0;title\x07",
    "\x9b31m",
    "\r",
    "\x08",
    "\x7f",
    "\u202e",
    "\u2066",
    "\u200f",
    "\ud800",
    "\x00",
]


@pytest.mark.parametrize("acting", ACTING)
def test_what_acts_on_a_terminal_is_replaced(acting: str) -> None:
    for cleaned in (printable(f"a{acting}b"), one_line(f"a{acting}b")):
        assert not set(cleaned) & {
            "\x1b",
            "\x9b",
            "\x07",
            "\x08",
            "\x7f",
            "\x00",
            "\u202e",
            "\u2066",
            "\u200f",
            "\ud800",
        }
        assert cleaned.isprintable()


@pytest.mark.parametrize("text", ["naïve 画像 مرحبا 🙂 e\u0301", "من\u200cیک", "tab\tand\nline"])
def test_writing_of_every_language_is_kept(text: str) -> None:
    assert printable(text) == text


def test_lines_are_joined() -> None:
    assert one_line(" a\n\tb\u2028c\x85d ") == "a b c d"


@pytest.mark.parametrize("acting", ACTING)
def test_json_keeps_the_value_and_has_no_acting_character(acting: str) -> None:
    text = json_text({"name": acting})
    assert json.loads(text) == {"name": acting}
    assert printable(text) == text
