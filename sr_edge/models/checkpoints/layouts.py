"""Finds the weights in a checkpoint: every mapping of tensors in it, and the possible mappings of its keys."""

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
    UnreadableCheckpoint,
    require_short,
    short_line,
)
from sr_edge.models.checkpoints.pickled import UnbuiltObject
from sr_edge.models.checkpoints.stored import StoredTensor

COUNTERS = re.compile(r"(^|\.)(attn_mask|total_ops|total_params|step_counter|n_averaged|num_updates)$|^loss\.")
"""Entries of profilers, weight averages and losses among the weights, and tables derived from an image's size."""

_AVERAGED = re.compile(r"(^|[._])(ema|averaged|swa)($|[._])", re.IGNORECASE)
_USUAL = ("params", "state_dict", "model", "model_state_dict", "net", "generator", "net_g", "netG", "g", "G", "weights")
_WRAPPERS = re.compile(
    r"(\w*_)?ema(_\w*)?|module|_orig_mod|(base_|sr_)?model|net(work)?|generator|net_?g|g|student|sr", re.IGNORECASE
)
"""Names under which training frameworks store the network that is deployed."""

_TRAINING_ONLY = re.compile(
    r"(\w*_)?(loss(es)?|metrics?|criterion)(_\w*)?|(\w*_)?disc(riminator)?(_\w*)?|net_?d|d|vgg\w*|perceptual\w*|lpips\w*"
    r"|psnr\w*|ssim\w*|fid\w*|inception\w*|dists\w*|teacher\w*|degradation\w*|feature_extractor\w*",
    re.IGNORECASE,
)
"""Names under which training frameworks store what is needed for training only."""

MAX_STRIPPED = 6
"""Most prefixes that are removed from all keys; training frameworks add two or three."""

MAX_NETWORKS = 4
"""Most copies of a network in one set that are tried separately; training frameworks store two."""

_OPTIMIZERS = re.compile(r"(lr_)?(optim|sched)\w*|loops|rng\w*|(\w+_)?scaler|amp", re.IGNORECASE)


_Nested = dict[object, object] | list[object] | tuple[object, ...]


@dataclass(frozen=True)
class KeyMapping:
    """One possible mapping of the keys of a set to the keys of a network.

    Args:
        prefix: the prefix that is removed from every key ("module.").
        keys: the keys in the file by the keys of the network.
        left_out: keys of the file that the network does not use.
    """

    prefix: str
    keys: Mapping[str, str]
    left_out: tuple[str, ...] = ()


def tensor_mappings(root: object) -> list[tuple[str, dict[str, StoredTensor]]]:
    """Every mapping of tensors in the contents of a file with its path, the most likely one first.

    Args:
        root: the contents, with `StoredTensor` descriptions as tensors.

    Raises:
        UnreadableCheckpoint: it is nested too deeply, or contains too many mappings or tensors.
    """
    sets: list[tuple[str, dict[str, StoredTensor]]] = []
    for path, mapping in _mappings(root):
        tensors = {str(key): value for key, value in mapping.items() if isinstance(value, StoredTensor)}
        if tensors and any(isinstance(key, str) for key in mapping):
            _require_usual(tensors)
            sets.append((path, tensors))
    sets.sort(key=lambda entry: (_preference(entry[0]), -len(entry[1])))
    return sets[:MAX_SETS]


def _require_usual(tensors: Mapping[str, StoredTensor]) -> None:
    if len(tensors) > MAX_TENSORS:
        raise UnreadableCheckpoint(
            f"contains {len(tensors):,} tensors in one mapping, more than the limit of {MAX_TENSORS:,}",
            found=len(tensors),
            wanted=MAX_TENSORS,
            remedy=SAVE_STATE_DICT,
        )
    for key in tensors:
        require_short(key)


def _mappings(root: object) -> Iterator[tuple[str, Mapping[object, object]]]:
    """Every mapping once, even where the objects of a file contain reference cycles."""
    pending: deque[tuple[str, int, _Nested]] = deque()
    visited: set[int] = set()

    def enqueue(path: str, depth: int, value: _Nested) -> None:
        if id(value) in visited:
            return
        visited.add(id(value))
        if depth > MAX_DEPTH:
            raise UnreadableCheckpoint(
                f"is nested more than {MAX_DEPTH} levels deep", found=depth, wanted=MAX_DEPTH, remedy=SAVE_STATE_DICT
            )
        if len(visited) > MAX_MAPPINGS:
            raise UnreadableCheckpoint(
                f"contains more than {MAX_MAPPINGS:,} mappings and lists",
                found=len(visited),
                wanted=MAX_MAPPINGS,
                remedy=SAVE_STATE_DICT,
            )
        pending.append((short_line(path.strip(".")), depth, value))

    for value in _nested(root):
        enqueue("", 0, value)
    while pending:
        path, depth, value = pending.popleft()
        if isinstance(value, dict):
            yield path, value
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            for child in _nested(inner):
                if not _OPTIMIZERS.fullmatch(str(key)):
                    enqueue(f"{path}.{key}", depth + 1, child)


def _nested(value: object) -> tuple[_Nested, ...]:
    """The value itself if it is a container; for an object of an unknown class its items, if it is a mapping."""
    container = value.items if isinstance(value, UnbuiltObject) else value
    return (container,) if isinstance(container, (dict, list, tuple)) else ()


def _preference(path: str) -> int:
    """Sort key: averaged weights, then the usual names in their order, then others; discriminators and losses last."""
    if any(_TRAINING_ONLY.fullmatch(name) for name in path.split(".")):
        return len(_USUAL) + 2
    if _AVERAGED.search(path):
        return 0
    name = path.rpartition(".")[2]
    return 1 + _USUAL.index(name) if name in _USUAL else len(_USUAL) + 1 if path else 1


def key_mappings(keys: Iterable[str]) -> Iterator[KeyMapping]:
    """The possible mappings of the keys of one set: as they are, then without counters and prefixes.

    Where a training framework has stored a network beside its losses and discriminators, the network alone is one of
    them; a part of a network never is.
    """
    everything = list(keys)
    yield KeyMapping("", {key: key for key in everything})
    left_out = tuple(key for key in everything if COUNTERS.search(key))
    weights = {key: key for key in everything if not COUNTERS.search(key)}
    if left_out and weights:
        yield KeyMapping("", weights, left_out)
    yield from _without_prefixes("", weights, left_out)
    for name, remaining in islice(_stored_networks(weights), MAX_NETWORKS):
        below = {key.removeprefix(f"{name}."): key for key in weights if key.startswith(f"{name}.")}
        others = (*left_out, *remaining)
        yield KeyMapping(f"{name}.", below, others)
        yield from _without_prefixes(f"{name}.", below, others)


def is_training_wrapper(prefix: str) -> bool:
    """Whether every part of a prefix is a name that training frameworks add around a network."""
    return all(_WRAPPERS.fullmatch(name) for name in prefix.strip(".").split(".") if name)


def _without_prefixes(prefix: str, keys: Mapping[str, str], left_out: tuple[str, ...]) -> Iterator[KeyMapping]:
    """Mappings of the same keys without their common prefix, one more name removed each time."""
    for _ in range(MAX_STRIPPED):
        if not keys or not all("." in key for key in keys) or len({key.partition(".")[0] for key in keys}) > 1:
            return
        name = next(iter(keys)).partition(".")[0]
        prefix += f"{name}."
        keys = {key.removeprefix(f"{name}."): original for key, original in keys.items()}
        yield KeyMapping(prefix, keys, left_out)


def _stored_networks(keys: Mapping[str, str]) -> Iterator[tuple[str, list[str]]]:
    """Names of networks among the first parts of the keys, averaged ones first, and the other keys for each.

    A network is accepted only beside copies of itself and entries that only training needs. Two networks that differ
    may be the stages of one, neither of which would work alone.
    """
    parts: dict[str, set[str]] = {}
    for key in keys:
        name, _, suffix = key.partition(".")
        parts.setdefault(name, set()).add(suffix)
    networks = [name for name in parts if _WRAPPERS.fullmatch(name) and not _TRAINING_ONLY.fullmatch(name)]
    beside = [name for name in parts if name not in networks]
    all_copies = all(parts[name] == parts[networks[0]] for name in networks)
    if len(parts) < 2 or not all_copies or not all(_TRAINING_ONLY.fullmatch(name) for name in beside):
        return
    for name in sorted(networks, key=lambda name: not _AVERAGED.search(name)):
        yield name, [key for key in keys if not key.startswith(f"{name}.")]
