"""Drop policies: what happens to frames that arrive faster than the model processes them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

from sr_edge.errors import UsageError
from sr_edge.spec import take_names


class Dropping(str, Enum):
    """Which frames are dropped.

    Attributes:
        LATEST: all but the newest, for the lowest latency.
        BLOCK: none; the source waits.
        DROP_LATE: those that exceed a deadline before the model can take them; until then they wait in order.
    """

    LATEST = "latest"
    BLOCK = "block"
    DROP_LATE = "drop-late"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class Policy:
    """Which frames are dropped, and for `drop-late` the deadline in milliseconds after capture.

    Attributes:
        dropping: Which frames are dropped.
        deadline_ms: For `drop-late`, the time after capture at which a frame is late.
    """

    dropping: Dropping
    deadline_ms: float | None = None

    def __post_init__(self) -> None:
        take_names(self, dropping=Dropping)
        if (self.dropping is Dropping.DROP_LATE) != (self.deadline_ms is not None):
            raise UsageError(
                f"the policy {self.dropping} takes no deadline"
                if self.deadline_ms is not None
                else f"the policy {self.dropping} needs a deadline in milliseconds",
                found=str(self),
                wanted=["latest", "block", "drop-late MS"],
                remedy="write for example 'drop-late 100'",
            )
        if self.deadline_ms is not None and not self.deadline_ms > 0:
            raise UsageError(
                f"the deadline of {self.deadline_ms:g} ms is not positive",
                found=self.deadline_ms,
                wanted="more than 0 ms",
                remedy="give more than 0",
            )

    @classmethod
    def parse(cls, text: str) -> Policy:
        """Reads "latest", "block" or "drop-late MS".

        Raises:
            UsageError: the text is none of these.
        """
        match = re.fullmatch(r"(latest|block|drop-late)(?:[ :=](\d+(?:\.\d+)?))?", text.strip())
        if match is None:
            raise UsageError(
                f"unknown policy {text!r}",
                found=text,
                wanted=["latest", "block", "drop-late MS"],
                remedy="choose latest, block or 'drop-late MS', for example 'drop-late 100'",
            )
        return cls(Dropping(match[1]), float(match[2]) if match[2] else None)

    def __str__(self) -> str:
        return str(self.dropping) if self.deadline_ms is None else f"{self.dropping} {self.deadline_ms:g}"


def policy_for(is_live: bool) -> Policy:
    """The default policy: `latest` for live sources, `block` for others."""
    return Policy(Dropping.LATEST if is_live else Dropping.BLOCK)
