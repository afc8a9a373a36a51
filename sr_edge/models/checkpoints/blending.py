"""Blends checkpoints of one network by a weighted sum, for example for any strength between two denoisers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sr_edge.errors import UsageError, WeightsError
from sr_edge.models.checkpoints.bounds import short_line
from sr_edge.models.checkpoints.numbers import float_keys, require_finite
from sr_edge.models.checkpoints.reader import Candidate, Checkpoint, StateDict, read_checkpoint


@dataclass(frozen=True)
class Blend:
    """A checkpoint to blend with another one, and its share of every weight, from 0 to 1."""

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
        """Parses FILE=SHARE; raises UsageError for anything else."""
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
        state: the blended values.
        description: the files and their shares, as text.
        others: the checkpoints that were added.
    """

    state: StateDict
    description: str
    others: tuple[Checkpoint, ...]


def blend_weights(candidate: Candidate, state: StateDict, others: Sequence[Blend]) -> Blended:
    """Blends weights with other checkpoints.

    Args:
        candidate: the weights that fit the network.
        state: their values, whose share is 1 minus those of the others.
        others: checkpoints with the same keys and shapes. Integers, such as counters, are those of `candidate`.

    Raises:
        UsageError: the shares add up to more than 1.
        WeightsError: a checkpoint is unreadable, has other keys, shapes or integers in the place of floats, or
            contains NaN or infinite values.
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
    learned = float_keys(state)
    require_finite(state, str(candidate.set.path), learned)
    sums = {**state, **{key: state[key] * max(own_share, 0.0) for key in learned}}
    descriptions = [f"{max(own_share, 0.0):g} of {candidate.set.path.name}"]
    checkpoints = []
    for other in others:
        checkpoint = read_checkpoint(other.path)
        added = _matching(checkpoint, candidate).load()
        require_finite(added, str(other.path), learned)
        for key in learned:
            sums[key] += added[key] * other.share
        descriptions.append(f"{other.share:g} of {other.path.name} (SHA-256 {checkpoint.sha256})")
        checkpoints.append(checkpoint)
    return Blended(sums, f"blended: {', '.join(descriptions)}", tuple(checkpoints))


def _matching(checkpoint: Checkpoint, candidate: Candidate) -> Candidate:
    """The first weights of a checkpoint with the keys, shapes and kinds of `candidate`; WeightsError if none."""
    wanted = _kinds(candidate)
    candidates = list(checkpoint.candidates())
    nearest = min(candidates, key=lambda each: len(_kinds(each).items() ^ wanted.items()))
    if _kinds(nearest) != wanted:
        raise _not_blendable(nearest, candidate)
    return nearest


def _kinds(candidate: Candidate) -> dict[str, tuple[tuple[int, ...], bool]]:
    """Shapes, and whether the values are floats; their precision makes no difference."""
    return {key: (tuple(tensor.shape), tensor.is_floating_point()) for key, tensor in candidate.meta_state.items()}


def _not_blendable(nearest: Candidate, candidate: Candidate) -> WeightsError:
    expected, actual = _kinds(candidate), _kinds(nearest)
    key = next(key for key in (*expected, *actual) if expected.get(key) != actual.get(key))
    actual_tensor, expected_tensor = _describe_tensor(nearest, key), _describe_tensor(candidate, key)
    return WeightsError(
        f"{nearest.set.path} cannot be blended with {candidate.set.path}: {short_line(key)} is {actual_tensor} "
        f"instead of {expected_tensor}",
        found={key: actual_tensor},
        wanted={key: expected_tensor},
        remedy="blend checkpoints of one network",
    )


def _describe_tensor(candidate: Candidate, key: str) -> str:
    tensor = candidate.meta_state.get(key)
    return "absent" if tensor is None else f"{tuple(tensor.shape)} of {str(tensor.dtype).removeprefix('torch.')}"
