"""Two or more checkpoints of one network as one: between a strong and a weak denoiser lies any strength."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sr_edge.errors import UsageError, WeightsError
from sr_edge.models.checkpoints.bounds import shown
from sr_edge.models.checkpoints.numbers import float_keys, require_finite
from sr_edge.models.checkpoints.reader import Candidate, Checkpoint, StateDict, read_checkpoint


@dataclass(frozen=True)
class Blend:
    """Another checkpoint, and its share of every weight, from 0 to 1."""

    path: Path
    share: float

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise UsageError(
                f"the share of {self.path} is {self.share:g}, which is not between 0 and 1",
                found=self.share,
                wanted=(0, 1),
                remedy=f"write for example {self.path}=0.3",
            )

    @classmethod
    def parse(cls, text: str) -> Blend:
        """Reads FILE=SHARE; raises UsageError for anything else."""
        name, _, number = text.rpartition("=")
        share: float | None
        try:
            share = float(number)
        except ValueError:
            share = None
        if not name or share is None:
            raise UsageError(
                f"cannot read {text!r} as a file and its share",
                found=text,
                wanted="FILE=SHARE",
                remedy="write FILE=SHARE, for example other.pth=0.3",
            )
        return cls(Path(name), share)


@dataclass(frozen=True)
class Blended:
    """The weighted sum of checkpoints.

    Args:
        state: its values.
        described: a sentence that says what it was made from.
        others: the checkpoints that were added.
    """

    state: StateDict
    described: str
    others: tuple[Checkpoint, ...]


def blended(taken: Candidate, state: StateDict, others: Sequence[Blend]) -> Blended:
    """The weighted sum of checkpoints.

    Args:
        taken: the weights that fit the network.
        state: their values; they have the share that the others leave.
        others: checkpoints with the same keys and shapes. Whole numbers, such as counters, are those of `taken`.

    Raises:
        UsageError: the shares are more than 1 in all.
        WeightsError: a checkpoint is unreadable, has other keys, shapes or whole numbers in the place of floats, or
            holds NaN or infinite values.
    """
    blended_share = sum(other.share for other in others)
    own_share = 1 - blended_share
    if own_share < -1e-9:
        raise UsageError(
            f"the shares of the checkpoints of --blend add up to {blended_share:g}, which is more than 1",
            found=blended_share,
            wanted=(0, 1),
            remedy="choose shares that add up to 1 at most",
        )
    learnt = float_keys(state)
    require_finite(state, str(taken.set.path), learnt)
    sums = {**state, **{key: state[key] * max(own_share, 0.0) for key in learnt}}
    described = [f"{max(own_share, 0.0):g} of {taken.set.path.name}"]
    checkpoints = []
    for other in others:
        checkpoint = read_checkpoint(other.path)
        added = _matching(checkpoint, taken).load()
        require_finite(added, str(other.path), learnt)
        for key in learnt:
            sums[key] += added[key] * other.share
        described.append(f"{other.share:g} of {other.path.name} (SHA-256 {checkpoint.sha256})")
        checkpoints.append(checkpoint)
    return Blended(sums, f"blended: {', '.join(described)}", tuple(checkpoints))


def _matching(checkpoint: Checkpoint, taken: Candidate) -> Candidate:
    """The first weights of a checkpoint with the keys, shapes and kinds of `taken`; raises WeightsError for none."""
    wanted = _kinds(taken)
    candidates = list(checkpoint.candidates())
    nearest = min(candidates, key=lambda found: len(_kinds(found).items() ^ wanted.items()))
    if _kinds(nearest) != wanted:
        raise _not_blendable(nearest, taken)
    return nearest


def _kinds(candidate: Candidate) -> dict[str, tuple[tuple[int, ...], bool]]:
    """Shapes, and whether they are of floats: which precision they have makes no difference."""
    return {key: (tuple(tensor.shape), tensor.is_floating_point()) for key, tensor in candidate.outline.items()}


def _not_blendable(nearest: Candidate, taken: Candidate) -> WeightsError:
    ours, theirs = _kinds(taken), _kinds(nearest)
    key = next(key for key in (*ours, *theirs) if ours.get(key) != theirs.get(key))
    was, wanted = _described(nearest, key), _described(taken, key)
    return WeightsError(
        f"{nearest.set.path} cannot be blended with {taken.set.path}: {shown(key)} is {was} instead of {wanted}",
        found={key: was},
        wanted={key: wanted},
        remedy="blend checkpoints of one network",
    )


def _described(candidate: Candidate, key: str) -> str:
    tensor = candidate.outline.get(key)
    return "absent" if tensor is None else f"{tuple(tensor.shape)} of {str(tensor.dtype).removeprefix('torch.')}"
