"""How a state differs from a family, in the words of an error message."""

from __future__ import annotations

from sr_edge.models.recognition.attempts import Misfit
from sr_edge.models.recognition.families import Family
from sr_edge.models.recognition.signatures import Resemblance

SHOWN_KEYS = 5


def resemblance_text(family: Family, near: Resemblance) -> str:
    """The nearest family, and the keys that it or the state has more."""
    differences = _key_text((("missing", near.missing), ("unexpected", near.unexpected)))
    return f"the nearest known family is {family.name}" + (f"; {differences}" if differences else "")


def misfit_text(misfit: Misfit) -> str:
    """The keys that differ, or the reason where the keys agree."""
    kinds = (("missing", misfit.missing), ("unexpected", misfit.unexpected), ("mis-shaped", misfit.misshapen))
    return _key_text(kinds) or f"its sizes do not make a network of that family: {misfit.reason}"


def _key_text(kinds: tuple[tuple[str, tuple[str, ...]], ...]) -> str:
    """The first keys of each kind, at most five in all."""
    found = [(kind, keys) for kind, keys in kinds if keys]
    shown = SHOWN_KEYS // max(1, len(found))
    return "; ".join(
        f"{kind}: {', '.join(keys[:shown])}" + (", …" if len(keys) > shown else "") for kind, keys in found
    )
