"""What trained variants of a network reach, and how far each is from the one that its paper proposes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, ClassVar

SETS = ("Set5", "Set14")
MACS_SIDE_PX = 96


@dataclass(frozen=True)
class Score:
    """One trained variant: mean PSNR-Y in dB by test set, and what it took."""

    variant: str
    seed: int
    psnr_db: dict[str, float]
    parameters: int
    macs: int
    minutes: float
    recipe: dict[str, Any]


@dataclass(frozen=True)
class Change:
    """How a variant differs from the paper's proposal, in dB: over the seeds, its mean and its range."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:+.2f}" + (f" ({self.low:+.2f} to {self.high:+.2f})" if self.low < self.high else "")


@dataclass(frozen=True)
class ComparisonRow:
    """A variant over its seeds; `change_db` is to the first variant with the same seed, empty for that itself."""

    HEADINGS: ClassVar = (
        "variant",
        "parameters",
        f"GMAC at {MACS_SIDE_PX}x{MACS_SIDE_PX}",
        "seeds",
        *(f"{title} dB" for title in SETS),
        *(f"{title}, to the first" for title in SETS),
    )

    variant: str
    parameters: int
    macs: int
    seeds: tuple[int, ...]
    psnr_db: Mapping[str, float]
    change_db: Mapping[str, Change]

    def cells(self) -> tuple[str, ...]:
        """One line of the table, for the terminal and the page."""
        return (
            self.variant,
            f"{self.parameters:,}",
            f"{self.macs / 1e9:.2f}",
            f"{len(self.seeds)}",
            *(f"{self.psnr_db[title]:.2f}" for title in SETS),
            *(str(self.change_db.get(title, "")) for title in SETS),
        )


def comparison_rows(variants: Sequence[str], scores: Sequence[Score]) -> Iterator[ComparisonRow]:
    """Those of the variants that have scores, in their order; the paper's proposal is the first."""
    by_variant = {name: {score.seed: score for score in scores if score.variant == name} for name in variants}
    proposed = by_variant[variants[0]]
    for name, by_seed in by_variant.items():
        if by_seed:
            any_seed = next(iter(by_seed.values()))
            means = {title: fmean(score.psnr_db[title] for score in by_seed.values()) for title in SETS}
            changes = {} if by_seed is proposed else _changes_db(by_seed, proposed)
            yield ComparisonRow(name, any_seed.parameters, any_seed.macs, tuple(sorted(by_seed)), means, changes)


def _changes_db(found: Mapping[int, Score], proposed: Mapping[int, Score]) -> dict[str, Change]:
    both = sorted(found.keys() & proposed.keys())
    if not both:
        return {}
    changes = {title: [found[seed].psnr_db[title] - proposed[seed].psnr_db[title] for seed in both] for title in SETS}
    return {title: Change(fmean(each), min(each), max(each)) for title, each in changes.items()}
