"""Reads a checkpoint, whose format is detected by its content: sets of weights, or a TorchScript program.

Nothing in a file is executed except the program of a TorchScript archive, which is not Python code.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

from sr_edge.bundle import sha256_of
from sr_edge.errors import WeightsError
from sr_edge.files.headers import is_onnx, is_pickle, is_safetensors, is_zip
from sr_edge.models.checkpoints.bounds import (
    COPY_AGAIN,
    MAX_CANDIDATES,
    READABLE,
    TAKE_FLOAT,
    UnreadableCheckpoint,
    reporting_read_errors,
    require_bounded,
)
from sr_edge.models.checkpoints.containers import ZipArchive, read_safetensors, read_stream, read_zip
from sr_edge.models.checkpoints.layouts import KeyMapping, is_training_wrapper, key_mappings, tensor_mappings
from sr_edge.models.checkpoints.pickled import UnbuiltObject
from sr_edge.models.checkpoints.stored import StoredTensor
from sr_edge.models.checkpoints.torchscript import is_torchscript, load_script, script_tensors

StateDict = dict[str, Tensor]

SUFFIXES = (".pth", ".pt", ".safetensors", ".ckpt", ".pkl", ".bin", ".th")
"""Usual suffixes of checkpoints; the format is detected by the content alone."""

_WEIGHTS = "a mapping of tensors"
_WHAT_TO_GIVE = "give the path of a .pth, .pt, .ckpt or .safetensors file"
_OTHER_KINDS = (
    (b"version https://git-lfs", "a Git LFS pointer", "fetch the file itself with `git lfs pull`"),
    (b"<!DOCTYPE", "a web page", "download the file itself"),
    (b"<html", "a web page", "download the file itself"),
    (b"\x89HDF", "an HDF5 file", "give a checkpoint of PyTorch instead of one of Keras"),
    (b"GGUF", "a GGUF file", "give a checkpoint of PyTorch"),
    (b"\x93NUMPY", "a NumPy array", "give a checkpoint of PyTorch"),
)
_ONNX = "an ONNX graph"
_WHAT_TO_GIVE_FOR_ONNX = f"{_WHAT_TO_GIVE}, which has the weights of its PyTorch network"


@dataclass(frozen=True)
class WeightSet:
    """One mapping of tensors in a checkpoint, under the file's own keys; values are read from the file on demand.

    Args:
        name: path of the mapping within the file ("params_ema", "model.state_dict"); empty at its top level.
        path: the file.
    """

    name: str
    path: Path
    _tensors: Mapping[str, StoredTensor] = field(repr=False)

    @cached_property
    def meta_state(self) -> StateDict:
        """Shapes and data types as tensors on the meta device; no values are read."""
        with reporting_read_errors(self.path):
            return {key: tensor.meta_state() for key, tensor in self._tensors.items()}

    @property
    def state(self) -> StateDict:
        """The values on the CPU, read from the file at each access: floats as float32, other types unchanged.

        Raises:
            WeightsError: the file was truncated, or the tensors are not dense ones, or larger than allowed.
        """
        return self.load(self._tensors)

    @property
    def elements(self) -> int:
        """Number of elements of all tensors."""
        return sum(tensor.elements for tensor in self._tensors.values())

    def load(self, keys: Mapping[str, StoredTensor] | list[str]) -> StateDict:
        """The values under some of the keys, as `state` returns them."""
        with reporting_read_errors(self.path):
            tensors = {key: self._tensors[key] for key in keys}
            unusable = next(((key, tensor.unusable) for key, tensor in tensors.items() if tensor.unusable), None)
            if unusable:
                raise UnreadableCheckpoint(
                    f"stores {unusable[0]} as a {unusable[1]} tensor",
                    found=unusable,
                    wanted="dense floating-point tensors",
                    remedy=TAKE_FLOAT,
                )
            return {key: _as_float32(tensor.read()) for key, tensor in tensors.items()}

    def __str__(self) -> str:
        return self.name or "the top level"


@dataclass(frozen=True)
class Candidate:
    """One set of weights under one mapping of its keys, to be compared with a network."""

    set: WeightSet
    key_mapping: KeyMapping

    @property
    def meta_state(self) -> StateDict:
        """Shapes and data types under the keys of the network, as tensors on the meta device."""
        return {key: self.set.meta_state[original] for key, original in self.key_mapping.keys.items()}

    def load(self) -> StateDict:
        """The values under the keys of the network; raises WeightsError as `WeightSet.state`."""
        state = self.set.load(list(self.key_mapping.keys.values()))
        return {key: state[original] for key, original in self.key_mapping.keys.items()}


@dataclass(frozen=True)
class Checkpoint:
    """The contents of a file.

    Args:
        path: the file.
        sha256: SHA-256 of its bytes, in hexadecimal.
        sets: sets of weights, the most likely first.
        script: a TorchScript program, whose weights are then the only set.
        metadata: the metadata of a safetensors file.
    """

    path: Path
    sha256: str
    sets: tuple[WeightSet, ...] = ()
    script: torch.jit.ScriptModule | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)

    def candidates(self) -> Iterator[Candidate]:
        """The sets in their order, each under every mapping of its keys: as they are, then without prefixes.

        At most MAX_CANDIDATES are returned.
        """
        every = (Candidate(each, mapping) for each in self.sets for mapping in key_mappings(each.meta_state))
        return islice(every, MAX_CANDIDATES)


def read_checkpoint(path: Path) -> Checkpoint:
    """Reads the contents of a file without the values of its tensors.

    Args:
        path: a file that torch or safetensors wrote; the format is detected by its content, not by its name.

    Raises:
        WeightsError: the file is missing, unreadable, damaged, of another format, beyond the limits, or contains no
            weights; also where a whole module was pickled, or where unpickling the file would call a function that can
            execute code.
    """
    if path.is_dir():
        raise WeightsError(f"{path} is a folder", found=path, wanted=SUFFIXES, remedy=_WHAT_TO_GIVE)
    if not path.is_file():
        raise WeightsError(f"there are no weights at {path}", found=path, wanted=SUFFIXES, remedy=_WHAT_TO_GIVE)
    with reporting_read_errors(path):
        head = _head(path)
        if is_zip(head):
            return _read_zip(path)
        metadata: dict[str, str] = {}
        if is_safetensors(head):
            root, metadata = read_safetensors(path)
            return Checkpoint(path, sha256_of(path), _sets(path, root), metadata=metadata)
        _require_pickle(path, head)
        return Checkpoint(path, sha256_of(path), _sets(path, read_stream(path)))


def read_weights(path: Path) -> StateDict:
    """The values of the first set in a checkpoint, without the prefixes that training frameworks add to all keys.

    Raises:
        WeightsError: see `read_checkpoint`.
    """
    first = read_checkpoint(path).sets[0]
    *_, last = (
        mapping
        for mapping in key_mappings(first.meta_state)
        if not mapping.left_out and is_training_wrapper(mapping.prefix)
    )
    return Candidate(first, last).load()


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        head = file.read(512)
    if not head:
        raise UnreadableCheckpoint("is empty", found=0, wanted=READABLE, remedy=COPY_AGAIN)
    for beginning, kind, remedy in _OTHER_KINDS:
        if head.lstrip().lower().startswith(beginning.lower()):
            raise _of_another_kind(kind, remedy)
    is_checkpoint = is_zip(head) or is_safetensors(head) or is_pickle(head)
    if is_onnx(head) or (path.suffix == ".onnx" and not is_checkpoint):
        raise _of_another_kind(_ONNX, _WHAT_TO_GIVE_FOR_ONNX)
    return head


def _of_another_kind(kind: str, remedy: str) -> UnreadableCheckpoint:
    return UnreadableCheckpoint(f"is {kind}, not {READABLE}", found=kind, wanted=READABLE, remedy=remedy)


def _require_pickle(path: Path, head: bytes) -> None:
    if head[257:262] == b"ustar":
        raise _of_another_kind(
            "a tar archive", "load it in a torch before 0.1.12, which wrote such files, and save the state_dict again"
        )
    if path.suffix == ".safetensors" or not is_pickle(head):
        raise UnreadableCheckpoint(
            "is not a readable checkpoint, or it was cut short", wanted=READABLE, remedy=COPY_AGAIN
        )


def _read_zip(path: Path) -> Checkpoint:
    archive = ZipArchive(path)
    names = archive.names()
    if any(name.endswith(("archive_format", "serialized_exported_program.json")) for name in names):
        raise _of_another_kind("a program of torch.export", "save the state_dict of the network instead")
    if is_torchscript(archive):
        script = load_script(archive)
        sets = (WeightSet("", path, script_tensors(script)),)
        return Checkpoint(path, sha256_of(path), sets, script)
    if "data.pkl" not in names:
        archive_kind = "a bundle" if any(name.endswith("manifest.json") for name in names) else "a zip archive"
        raise _of_another_kind(archive_kind, _WHAT_TO_GIVE)
    return Checkpoint(path, sha256_of(path), _sets(path, read_zip(archive)))


def _sets(path: Path, root: object) -> tuple[WeightSet, ...]:
    if isinstance(root, StoredTensor):
        raise _without_weights("a single tensor")
    sets = tuple(WeightSet(name, path, tensors) for name, tensors in tensor_mappings(root))
    if not sets:
        _refuse_without_weights(root)
    size = path.stat().st_size
    for each in sets:
        require_bounded(each.elements, size, each.name)
    return sets


def _refuse_without_weights(root: object) -> None:
    inside = [root, *(root.values() if isinstance(root, dict) else ())]
    kind = next((value.kind for value in inside if isinstance(value, UnbuiltObject)), None)
    if kind is None:
        raise _without_weights("no tensors")
    raise UnreadableCheckpoint(
        f"contains a whole object of the class {kind}, whose code would have to be executed, so it was refused",
        found=kind,
        wanted=_WEIGHTS,
        remedy="if you trust it, save the weights alone where that class is installed: "
        "torch.save(torch.load(FILE, weights_only=False).state_dict(), ...)",
    )


def _without_weights(contents: str) -> UnreadableCheckpoint:
    return UnreadableCheckpoint(
        f"contains {contents}", found=contents, wanted=_WEIGHTS, remedy="give a checkpoint of network weights"
    )


def _as_float32(tensor: Tensor) -> Tensor:
    return (tensor.float() if tensor.is_floating_point() else tensor).contiguous()
