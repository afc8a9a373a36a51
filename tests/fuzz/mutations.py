"""Seeded changes of bytes and of JSON documents, as damage and malice make them."""

from __future__ import annotations

import copy
import random
from typing import Any

_MAX_BYTES = 1 << 20
_MAX_CHANGES = 8
_INTERESTING = (b"\x00", b"\xff", b"\x7f", b"\x80", b"\xff" * 4, b"\x7f\xff\xff\xff", bytes(4), b"%s%n")
HOSTILE_TEXTS = (
    "",
    "../../etc/passwd",
    "/etc/passwd",
    "a\x1b[2J\x1b]0;owned\x07",
    "\u202egnp.exe",
    "x" * 3000,
    "a\nb",
    "\x00",
    "\ud800",
    "C:\\x",
    "%s%s%n",
    "nan",
    "os:system",
    "-1",
)
_HOSTILE_VALUES: tuple[Any, ...] = (
    *HOSTILE_TEXTS,
    *(0, -1, 1, 3, 2**31, 2**63, 10**400, 1e308, float("nan"), float("inf"), None, True, [], {}),
    *([0] * 5, {"a": {"b": []}}),
)


def mutated(content: bytes, rng: random.Random, other: bytes = b"") -> bytes:
    """The content after one to eight changes: flipped, overwritten, cut, doubled, moved, or spliced with `other`."""
    changed = bytearray(content)
    for _ in range(rng.randint(1, _MAX_CHANGES)):
        if not changed:
            changed += rng.randbytes(rng.randint(0, 64))
        place = rng.randrange(len(changed) or 1)
        length = rng.choice((1, 1, 2, 4, 16, 256))
        kind = rng.randrange(7)
        if kind == 0 and changed:
            changed[place] ^= 1 << rng.randrange(8)
        elif kind == 1:
            changed[place : place + length] = rng.randbytes(length)
        elif kind == 2:
            value = rng.choice(_INTERESTING)
            changed[place : place + len(value)] = value
        elif kind == 3:
            del changed[place : place + length]
        elif kind == 4:
            changed[place:place] = changed[place : place + length] * rng.choice((1, 2, 50))
        elif kind == 5 and rng.random() < 0.3:
            del changed[place:]
        elif kind == 6 and other:
            start = rng.randrange(len(other))
            changed[place : place + length] = other[start : start + length]
    return bytes(changed[:_MAX_BYTES])


def mutated_document(document: Any, rng: random.Random) -> Any:
    """A JSON document with one to three values replaced, removed or renamed."""
    changed = copy.deepcopy(document)
    for _ in range(rng.randint(1, 3)):
        _change_one(changed, rng)
    return changed


def _change_one(document: Any, rng: random.Random) -> None:
    container = document
    while True:
        keys = list(container) if isinstance(container, dict) else list(range(len(container)))
        if not keys:
            return
        key = rng.choice(keys)
        if isinstance(container[key], dict | list) and container[key] and rng.random() < 0.85:
            container = container[key]
            continue
        kind = rng.randrange(4)
        if kind == 0:
            del container[key]
        elif kind == 1 and isinstance(container, dict):
            container[rng.choice(HOSTILE_TEXTS)] = container.pop(key)
        elif kind == 2 and isinstance(container[key], int | float) and not isinstance(container[key], bool):
            container[key] = container[key] * rng.choice((-1, 0, 2, 1.5, 10**6)) + rng.choice((0, 1, -1))
        else:
            container[key] = rng.choice(_HOSTILE_VALUES)
        return
