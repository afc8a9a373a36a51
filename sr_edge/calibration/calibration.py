"""What calibration found: one range per tensor, one decision per layer, and what they were made from."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from sr_edge.calibration.observers import INT8_LEVELS
from sr_edge.calibration.placement import Decision, PlacementPolicy
from sr_edge.errors import UsageError


@dataclass(frozen=True)
class TensorRange:
    """The values a tensor took over the calibration patches, and the magnitude `clip` at which INT8 saturates."""

    lowest: float
    highest: float
    clip: float

    @property
    def scale(self) -> float:
        """Symmetric INT8 scale: `clip / 127`."""
        return self.clip / INT8_LEVELS


@dataclass(frozen=True)
class Provenance:
    """What the ranges were measured on: they hold for this model file, these patches and this method only."""

    model_sha256: str
    patches_sha256: tuple[str, ...]
    method: str


@dataclass(frozen=True)
class Calibration:
    """Enough to write the INT8 graph without the pictures.

    `ranges` holds the input of every layer that can be INT8, also of those kept float, so that layers can be switched
    without measuring again.
    """

    provenance: Provenance
    policy: PlacementPolicy
    ranges: Mapping[str, TensorRange]
    decisions: tuple[Decision, ...]

    @property
    def int8_nodes(self) -> tuple[str, ...]:
        return tuple(decision.node for decision in self.decisions if decision.int8)

    def keep_float(self, nodes: Collection[str], reason: str) -> Calibration:
        """The same calibration with these INT8 layers switched to float; raises UsageError for any other name."""
        strange = set(nodes) - set(self.int8_nodes)
        if strange:
            raise UsageError(f"cannot switch {', '.join(sorted(strange))} to float: no INT8 layer has that name")
        decisions = tuple(replace(d, int8=False, reason=reason) if d.node in nodes else d for d in self.decisions)
        return replace(self, decisions=decisions)
