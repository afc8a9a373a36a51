"""Finds the family that weights resemble by their keys alone, where spandrel does not recognise them or is absent.

A key becomes a pattern (`body.3.weight`: `body.#.weight`), and a pattern the set of its endings of two and more parts
(`safm.mfr.#.weight`, `mfr.#.weight`, `#.weight`), since a variant often keeps its blocks and renames what is around
them. Endings are weighted by the logarithm of the inverse frequency among families; an ending that no family has is
weighted like one that a single family has.
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
"""Weighted shares of the keys, and of a form of the family, that must agree for the family to be reported."""
MAX_PARTS = 24
"""Parts of a key that are used, counted from its end, since the work is quadratic in their number."""
FEW_FAMILIES = 3
"""At least one whole key that no more families than this have must agree, since all transformers share endings."""


@dataclass(frozen=True)
class Resemblance:
    """The family that weights resemble most.

    Args:
        family: spandrel's id.
        similarity_score: the weighted share of endings that agree, from 0 to 1.
        missing: keys that only the family has, one for each pattern, with 0 as the index of a block.
        unexpected: keys that only the weights have, one for each pattern.
    """

    family: str
    similarity_score: float
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]


def patterns_of(keys: Iterable[str]) -> dict[str, str]:
    """The first key of each pattern (`body.#.weight`: `body.3.weight`); a bias beside a weight is left out."""
    first: dict[str, str] = {}
    for key in keys:
        first.setdefault(".".join("#" if part.isdecimal() else part for part in key.split(".")), key)
    return {
        p: key for p, key in first.items() if not p.endswith(".bias") or f"{p.removesuffix('bias')}weight" not in first
    }


def nearest_family(keys: Iterable[str]) -> Resemblance | None:
    """The family whose keys are most similar to `keys`; None if none is similar enough."""
    patterns = patterns_of(keys)
    endings = _endings(patterns)
    weight = _weight(endings)
    # The score is the harmonic mean of the weighted shares of the keys and of the form that agree.
    scored = [
        (2 * _weight(endings & form_endings) / (weight + form_weight), family, form)
        for family, form, form_endings, form_weight in _forms()
    ]
    similarity_score, family, form = max(scored, key=lambda candidate: candidate[0])
    if not _is_distinctive(patterns, endings, form):
        return None
    return Resemblance(
        family,
        similarity_score,
        tuple(pattern.replace("#", "0") for pattern in form if pattern not in patterns),
        tuple(key for pattern, key in patterns.items() if pattern not in form),
    )


def _is_distinctive(patterns: Iterable[str], endings: frozenset[str], form: Sequence[str]) -> bool:
    """Whether so much agrees with `form` that it is unlikely to be chance."""
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
    """Family, patterns, endings and weight of the endings of every form; the weights depend on all forms."""
    return [(family, form, endings, _weight(endings)) for family, form, endings in _signatures()]


@cache
def _family_count() -> int:
    return len({family for family, _, _ in _signatures()})


@cache
def _frequencies() -> Counter[str]:
    """The number of families that have an ending."""
    pairs = {(family, ending) for family, _, endings in _signatures() for ending in endings}
    return Counter(ending for _, ending in pairs)


@cache
def _key_frequencies() -> Counter[str]:
    """The number of families that have a whole key."""
    pairs = {(family, pattern) for family, form, _ in _signatures() for pattern in form}
    return Counter(pattern for _, pattern in pairs)
