"""One figure of ours beside one of a paper, and whether they agree."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import ClassVar


class Quantity(str, Enum):
    PARAMETERS = "parameters"
    MACS_64 = "MACs at 64x64"
    MACS_96 = "MACs at 96x96"


class Agreement(str, Enum):
    """How close a figure must be to the paper's; NONE says that nothing was promised."""

    NONE = ""
    EXACT = "exact"
    LAST_DIGIT = "last digit"
    WITHIN_2 = "2 %"
    WITHIN_3 = "3 %"
    WITHIN_5 = "5 %"


SHARES = {Agreement.WITHIN_2: 0.02, Agreement.WITHIN_3: 0.03, Agreement.WITHIN_5: 0.05}


@dataclass(frozen=True)
class PaperRow:
    """A count of ours beside a paper's.

    `last_digit` is what one unit of the paper's last printed digit is worth. `counted_as_paper`, where given, is the
    count by the paper's own rule, which its figure is judged by.
    """

    HEADINGS: ClassVar = ("network", "quantity", "found", "paper", "difference", "allowed", "verdict", "note")

    network: str
    quantity: Quantity
    found: int
    paper: float | None = None
    agreement: Agreement = Agreement.NONE
    last_digit: float = 1
    counted_as_paper: int | None = None
    note: str = ""

    @property
    def agrees(self) -> bool | None:
        """None where nothing was promised."""
        if self.paper is None or self.agreement is Agreement.NONE:
            return None
        off = abs((self.found if self.counted_as_paper is None else self.counted_as_paper) - self.paper)
        if self.agreement in SHARES:
            return off <= SHARES[self.agreement] * self.paper
        return off == 0 if self.agreement is Agreement.EXACT else off < self.last_digit

    def cells(self) -> tuple[str, ...]:
        """One a heading."""
        met = "met" if self.counted_as_paper is None else "met as the paper counts"
        verdict = {True: met, False: "missed", None: ""}[self.agrees]
        paper = "" if self.paper is None else in_words(self.paper)
        difference = "" if self.paper is None else f"{self.found / self.paper - 1:+.1%}"
        quantity, allowed = self.quantity.value, self.agreement.value
        return (self.network, quantity, in_words(self.found), paper, difference, allowed, verdict, self.note)


def in_words(count: float) -> str:
    """Whole up to 25 million (networks' parameters), in M or G above."""
    if count >= 1e9:
        return f"{count / 1e9:.2f} G"
    return f"{count / 1e6:.1f} M" if count >= 2.5e7 else f"{count:,.0f}"
