"""The family that a state resembles by its keys alone, for checkpoints that spandrel does not recognise, or without it.

A key becomes a pattern (`body.3.weight`: `body.#.weight`), and a pattern its endings of two parts and more
(`safm.mfr.#.weight`, `mfr.#.weight`, `#.weight`): a variant often keeps its blocks and renames what is around them. An
ending that few families have counts for more (logarithm of the inverse frequency); an ending that no family has counts
like one that a single family has.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

SIGNATURES_FILE = Path(__file__).with_name("signatures.json")
"""Written by scripts/make_family_signatures.py: for each family the patterns of each form of its state dicts."""
LEAST_STATE_SHARE, LEAST_FORM_SHARE = 0.3, 0.15
"""How much of the state, and of the family's form, must agree by weight before the family is named."""
MAX_PARTS = 24
"""Of a key, counted from its end: endings of a key of a thousand parts would take a million."""
FEW_FAMILIES = 3
"""One whole key at least must agree that no more families than this have: transformers of any kind share endings."""


@dataclass(frozen=True)
class Resemblance:
    """The family that a state resembles most.

    Attributes:
        family: spandrel's id.
        alikeness: from 0 to 1, how much of both agrees.
        missing: keys that the family has and the state has not, one of each kind, the index of a block written as 0.
        unexpected: keys of the state that the family has not, one of each kind.
    """

    family: str
    alikeness: float
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]


def patterns_of(keys: Iterable[str]) -> dict[str, str]:
    """Each kind of key (`body.3.weight`: `body.#.weight`) and its first key; a bias beside a weight is left out."""
    first: dict[str, str] = {}
    for key in keys:
        first.setdefault(".".join("#" if part.isdecimal() else part for part in key.split(".")), key)
    return {
        p: key for p, key in first.items() if not p.endswith(".bias") or f"{p.removesuffix('bias')}weight" not in first
    }


def nearest_family(keys: Iterable[str]) -> Resemblance | None:
    """The family whose keys are most like `keys`; None where none is alike enough to be named."""
    patterns = patterns_of(keys)
    endings = _endings(patterns)
    weight = _weight(endings)
    # Harmonic mean of the shares, by weight, of the state and of the form that both have.
    alike = [
        (2 * _weight(endings & form_endings) / (weight + form_weight), family, form)
        for family, form, form_endings, form_weight in _forms()
    ]
    alikeness, family, form = max(alike, key=lambda candidate: candidate[0])
    if not _is_distinctive(patterns, endings, form):
        return None
    return Resemblance(
        family,
        alikeness,
        tuple(pattern.replace("#", "0") for pattern in form if pattern not in patterns),
        tuple(key for pattern, key in patterns.items() if pattern not in form),
    )


def _is_distinctive(patterns: Iterable[str], endings: frozenset[str], form: Sequence[str]) -> bool:
    """Whether so much agrees with `form` that it is no chance."""
    form_endings = _endings(form)
    common = _weight(endings & form_endings)
    return (
        common >= LEAST_STATE_SHARE * _weight(endings)
        and common >= LEAST_FORM_SHARE * _weight(form_endings)
        and any(_key_frequencies()[pattern] <= FEW_FAMILIES for pattern in set(form).intersection(patterns))
    )


def _endings(patterns: Iterable[str]) -> frozenset[str]:
    parts = [pattern.split(".") for pattern in patterns]
    return frozenset(
        ".".join(part[start:])
        for part in parts
        for start in range(max(0, len(part) - MAX_PARTS), max(1, len(part) - 1))
    )


def _weight(endings: frozenset[str]) -> float:
    return sum(math.log(1 + _family_count() / max(1, _frequencies()[ending])) for ending in endings)


@cache
def _signatures() -> list[tuple[str, list[str], frozenset[str]]]:
    """Family, patterns and endings of every form."""
    signatures: Mapping[str, list[list[str]]] = json.loads(SIGNATURES_FILE.read_text(encoding="utf-8"))
    return [(family, form, _endings(form)) for family, forms in signatures.items() for form in forms]


@cache
def _forms() -> list[tuple[str, list[str], frozenset[str], float]]:
    """The same with the weight of the endings, for which all forms are counted."""
    return [(family, form, endings, _weight(endings)) for family, form, endings in _signatures()]


@cache
def _family_count() -> int:
    return len({family for family, _, _ in _signatures()})


@cache
def _frequencies() -> Counter[str]:
    """In how many families an ending is found."""
    pairs = {(family, ending) for family, _, endings in _signatures() for ending in endings}
    return Counter(ending for _, ending in pairs)


@cache
def _key_frequencies() -> Counter[str]:
    """In how many families a whole key is found."""
    pairs = {(family, pattern) for family, form, _ in _signatures() for pattern in form}
    return Counter(pattern for _, pattern in pairs)
