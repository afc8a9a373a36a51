"""Where the weights are in a checkpoint: every mapping of tensors in it, and the ways in which its keys can be read."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice

from sr_edge.models.checkpoints.bounds import (
    MAX_DEPTH,
    MAX_MAPPINGS,
    MAX_SETS,
    MAX_TENSORS,
    SAVE_STATE_DICT,
    Unreadable,
    require_short,
    shown,
)
from sr_edge.models.checkpoints.pickled import Record
from sr_edge.models.checkpoints.stored import StoredTensor

COUNTERS = re.compile(r"(^|\.)(attn_mask|total_ops|total_params|step_counter|n_averaged|num_updates)$|^loss\.")
"""What profilers, averages and losses leave among the weights, and tables that follow from a picture's size."""

_AVERAGED = re.compile(r"(^|[._])(ema|averaged|swa)($|[._])", re.IGNORECASE)
_USUAL = ("params", "state_dict", "model", "model_state_dict", "net", "generator", "net_g", "netG", "g", "G", "weights")
_WRAPPERS = re.compile(
    r"(\w*_)?ema(_\w*)?|module|_orig_mod|(base_|sr_)?model|net(work)?|generator|net_?g|g|student|sr", re.IGNORECASE
)
"""Names under which trainers keep the network that is deployed."""

_TRAINING_ONLY = re.compile(
    r"(\w*_)?(loss(es)?|metrics?|criterion)(_\w*)?|(\w*_)?disc(riminator)?(_\w*)?|net_?d|d|vgg\w*|perceptual\w*|lpips\w*"
    r"|psnr\w*|ssim\w*|fid\w*|inception\w*|dists\w*|teacher\w*|degradation\w*|feature_extractor\w*",
    re.IGNORECASE,
)
"""Names under which trainers keep what is not deployed."""

MAX_STRIPPED = 6
"""Names that are left out in front of all keys; trainers put two or three there."""

MAX_NETWORKS = 4
"""Copies of a network in one set that are tried alone; trainers keep two."""

_OPTIMIZERS = re.compile(r"(lr_)?(optim|sched)\w*|loops|rng\w*|(\w+_)?scaler|amp", re.IGNORECASE)


_Nested = dict[object, object] | list[object] | tuple[object, ...]


@dataclass(frozen=True)
class Reading:
    """One way to read the keys of a set.

    Args:
        prefix: what is left out at the beginning of every key ("module.").
        keys: the keys of the network, and those that they have in the file.
        left_out: keys of the file that the network has no use for.
    """

    prefix: str
    keys: Mapping[str, str]
    left_out: tuple[str, ...] = ()


def tensor_mappings(root: object) -> list[tuple[str, dict[str, StoredTensor]]]:
    """Every mapping of tensors in what a file holds, with its path in it, those that are most likely meant first.

    Raises:
        Unreadable: it is nested too deeply, or holds too many mappings or tensors.
    """
    found: list[tuple[str, dict[str, StoredTensor]]] = []
    for path, mapping in _mappings(root):
        tensors = {str(key): value for key, value in mapping.items() if isinstance(value, StoredTensor)}
        if tensors and any(isinstance(key, str) for key in mapping):
            _require_usual(tensors)
            found.append((path, tensors))
    found.sort(key=lambda entry: (_preference(entry[0]), -len(entry[1])))
    return found[:MAX_SETS]


def _require_usual(tensors: Mapping[str, StoredTensor]) -> None:
    if len(tensors) > MAX_TENSORS:
        raise Unreadable(
            f"contains {len(tensors):,} tensors in one mapping, more than the limit of {MAX_TENSORS:,}",
            found=len(tensors),
            wanted=MAX_TENSORS,
            remedy=SAVE_STATE_DICT,
        )
    for key in tensors:
        require_short(key)


def _mappings(root: object) -> Iterator[tuple[str, Mapping[object, object]]]:
    """Every mapping once, also where the objects of a file refer to each other in a circle."""
    pending: deque[tuple[str, int, _Nested]] = deque()
    visited: set[int] = set()

    def note(path: str, depth: int, value: _Nested) -> None:
        if id(value) in visited:
            return
        visited.add(id(value))
        if depth > MAX_DEPTH:
            raise Unreadable(
                f"is nested more than {MAX_DEPTH} levels deep", found=depth, wanted=MAX_DEPTH, remedy=SAVE_STATE_DICT
            )
        if len(visited) > MAX_MAPPINGS:
            raise Unreadable(
                f"contains more than {MAX_MAPPINGS:,} mappings and lists",
                found=len(visited),
                wanted=MAX_MAPPINGS,
                remedy=SAVE_STATE_DICT,
            )
        pending.append((shown(path.strip(".")), depth, value))

    for value in _nested(root):
        note("", 0, value)
    while pending:
        path, depth, value = pending.popleft()
        if isinstance(value, dict):
            yield path, value
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            for child in _nested(inner):
                if not _OPTIMIZERS.fullmatch(str(key)):
                    note(f"{path}.{key}", depth + 1, child)


def _nested(value: object) -> tuple[_Nested, ...]:
    """The value, if it can hold others; of an object of an unknown class the items, if it is a mapping."""
    held = value.items if isinstance(value, Record) else value
    return (held,) if isinstance(held, (dict, list, tuple)) else ()


def _preference(path: str) -> int:
    """Averaged weights first, then the usual names in their order, then others, discriminators and losses last."""
    if any(_TRAINING_ONLY.fullmatch(name) for name in path.split(".")):
        return len(_USUAL) + 2
    if _AVERAGED.search(path):
        return 0
    name = path.rpartition(".")[2]
    return 1 + _USUAL.index(name) if name in _USUAL else len(_USUAL) + 1 if path else 1


def readings(keys: Iterable[str]) -> Iterator[Reading]:
    """The ways in which the keys of one set can be read: as they are, then without counters and prefixes.

    Where a trainer has put a network beside its losses and discriminators, the network's part is one of them; part of a
    network never is.
    """
    everything = list(keys)
    yield Reading("", {key: key for key in everything})
    left_out = tuple(key for key in everything if COUNTERS.search(key))
    weights = {key: key for key in everything if not COUNTERS.search(key)}
    if left_out and weights:
        yield Reading("", weights, left_out)
    yield from _without_prefixes("", weights, left_out)
    for name, rest in islice(_networks_of_trainers(weights), MAX_NETWORKS):
        below = {key.removeprefix(f"{name}."): key for key in weights if key.startswith(f"{name}.")}
        others = (*left_out, *rest)
        yield Reading(f"{name}.", below, others)
        yield from _without_prefixes(f"{name}.", below, others)


def is_training_wrapper(prefix: str) -> bool:
    """Whether every part of a prefix is a name that trainers put around a network."""
    return all(_WRAPPERS.fullmatch(name) for name in prefix.strip(".").split(".") if name)


def _without_prefixes(prefix: str, keys: Mapping[str, str], left_out: tuple[str, ...]) -> Iterator[Reading]:
    """The same keys without what they all begin with, one name after the other."""
    for _ in range(MAX_STRIPPED):
        if not keys or not all("." in key for key in keys) or len({key.partition(".")[0] for key in keys}) > 1:
            return
        name = next(iter(keys)).partition(".")[0]
        prefix += f"{name}."
        keys = {key.removeprefix(f"{name}."): original for key, original in keys.items()}
        yield Reading(prefix, keys, left_out)


def _networks_of_trainers(keys: Mapping[str, str]) -> Iterator[tuple[str, list[str]]]:
    """Names of networks among the first parts of the keys, averaged ones first, and the keys beside each.

    Beside a network there may be what only training needs, and copies of it. Two networks that differ may be the stages
    of one, of which neither would do alone.
    """
    parts: dict[str, set[str]] = {}
    for key in keys:
        name, _, rest = key.partition(".")
        parts.setdefault(name, set()).add(rest)
    networks = [name for name in parts if _WRAPPERS.fullmatch(name) and not _TRAINING_ONLY.fullmatch(name)]
    beside = [name for name in parts if name not in networks]
    all_copies = all(parts[name] == parts[networks[0]] for name in networks)
    if len(parts) < 2 or not all_copies or not all(_TRAINING_ONLY.fullmatch(name) for name in beside):
        return
    for name in sorted(networks, key=lambda name: not _AVERAGED.search(name)):
        yield name, [key for key in keys if not key.startswith(f"{name}.")]
