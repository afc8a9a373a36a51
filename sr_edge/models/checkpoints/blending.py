"""Two or more checkpoints of one network as one: between a strong and a weak denoiser lies any strength."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sr_edge.errors import UsageError, WeightsError
from sr_edge.models.checkpoints.bounds import shown
from sr_edge.models.checkpoints.reader import Candidate, State, read_checkpoint


@dataclass(frozen=True)
class Blend:
    """Another checkpoint, and its share of every weight, from 0 to 1."""

    path: Path
    share: float

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise UsageError(f"{self.path} is to have a share of {self.share:g}; give a number from 0 to 1")

    @classmethod
    def parse(cls, text: str) -> Blend:
        """Reads FILE=SHARE; raises UsageError for anything else."""
        name, _, number = text.rpartition("=")
        try:
            share = float(number)
        except ValueError:
            share = -1.0
        if not name or share < 0:
            raise UsageError(f"cannot read {text!r} as a blend; write FILE=SHARE, for example other.pth=0.3")
        return cls(Path(name), share)


def blended(taken: Candidate, state: State, others: Sequence[Blend]) -> tuple[State, str]:
    """The weighted sum of checkpoints, and a sentence that says what it was made from.

    Args:
        taken: the weights that fit the network.
        state: their values; they have the share that the others leave.
        others: checkpoints with the same keys and shapes. Whole numbers, such as counters, are those of `taken`.

    Raises:
        UsageError: the shares are more than 1 in all.
        WeightsError: a checkpoint is unreadable, or has other keys or shapes.
    """
    rest = 1 - sum(other.share for other in others)
    if rest < -1e-9:
        raise UsageError(f"the blended checkpoints have a share of {1 - rest:g} in all; it must not be more than 1")
    shapes = {key: tensor.shape for key, tensor in taken.outline.items()}
    sums = {key: value * max(rest, 0.0) if value.is_floating_point() else value for key, value in state.items()}
    described = [f"{max(rest, 0.0):g} of {taken.set.path.name}"]
    for other in others:
        checkpoint = read_checkpoint(other.path)
        match = next((found for found in checkpoint.candidates() if _shapes(found) == shapes), None)
        if match is None:
            raise WeightsError(_difference(other.path, list(checkpoint.candidates())[:1], taken))
        for key, value in match.load().items():
            if value.is_floating_point():
                sums[key] += value * other.share
        described.append(f"{other.share:g} of {other.path.name} (SHA-256 {checkpoint.sha256})")
    return sums, f"blended: {', '.join(described)}"


def _shapes(candidate: Candidate) -> dict[str, tuple[int, ...]]:
    return {key: tensor.shape for key, tensor in candidate.outline.items()}


def _difference(path: Path, first: list[Candidate], taken: Candidate) -> str:
    ours, theirs = _shapes(taken), _shapes(first[0]) if first else {}
    key = next(key for key in (*ours, *theirs) if ours.get(key) != theirs.get(key))
    was, wanted = (tuple(shapes[key]) if key in shapes else "absent" for shapes in (theirs, ours))
    return (
        f"{path} cannot be blended with {taken.set.path}: {shown(key)} is {was} instead of {wanted}; "
        f"both must be checkpoints of one network"
    )
