"""Reads a checkpoint by its content, whatever its name: the sets of weights in it, or a TorchScript program.

Nothing in a file is executed, except the program of a TorchScript archive, which is no Python.
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
from sr_edge.models.checkpoints.bounds import (
    COPY_AGAIN,
    MAX_CANDIDATES,
    READABLE,
    TAKE_FLOAT,
    Unreadable,
    reading,
    require_bounded,
)
from sr_edge.models.checkpoints.containers import ZipArchive, read_safetensors, read_stream, read_zip
from sr_edge.models.checkpoints.layouts import Reading, is_training_wrapper, readings, tensor_mappings
from sr_edge.models.checkpoints.pickled import Record
from sr_edge.models.checkpoints.stored import StoredTensor
from sr_edge.models.checkpoints.torchscript import is_torchscript, load_script, script_tensors

StateDict = dict[str, Tensor]

SUFFIXES = (".pth", ".pt", ".safetensors", ".ckpt", ".pkl", ".bin", ".th")
"""What the names of checkpoints end with; the content alone decides how one is read."""

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
class StateSet:
    """Weights under one name of a checkpoint, with the keys that they have there; read from the file when asked for.

    Args:
        name: where in the file they are ("params_ema", "model.state_dict"); empty at its top level.
    """

    name: str
    path: Path
    _tensors: Mapping[str, StoredTensor] = field(repr=False)

    @cached_property
    def outline(self) -> StateDict:
        """Shapes and element types as tensors on the meta device, without reading any values."""
        with reading(self.path):
            return {key: tensor.outline() for key, tensor in self._tensors.items()}

    @property
    def state(self) -> StateDict:
        """The values on the CPU, read anew each time: numbers with a fraction as float32, others as they are.

        Raises:
            WeightsError: the file was cut short, or the tensors are no plain ones, or larger than the file allows.
        """
        return self.load(self._tensors)

    @property
    def elements(self) -> int:
        return sum(tensor.elements for tensor in self._tensors.values())

    def load(self, keys: Mapping[str, StoredTensor] | list[str]) -> StateDict:
        """As `state`, some keys only."""
        with reading(self.path):
            chosen = {key: self._tensors[key] for key in keys}
            unusable = next(((key, tensor.unusable) for key, tensor in chosen.items() if tensor.unusable), None)
            if unusable:
                raise Unreadable(
                    f"stores {unusable[0]} as a {unusable[1]} tensor",
                    found=unusable,
                    wanted="dense floating-point tensors",
                    remedy=TAKE_FLOAT,
                )
            return {key: _as_float32(tensor.read()) for key, tensor in chosen.items()}

    def __str__(self) -> str:
        return self.name or "the top level"


@dataclass(frozen=True)
class Candidate:
    """One set of weights, its keys read in one way: what may fit a network."""

    set: StateSet
    reading: Reading

    @property
    def outline(self) -> StateDict:
        """Shapes and element types under the keys of the network, on the meta device."""
        return {key: self.set.outline[original] for key, original in self.reading.keys.items()}

    def load(self) -> StateDict:
        """The values under the keys of the network; raises WeightsError as `StateSet.state`."""
        state = self.set.load(list(self.reading.keys.values()))
        return {key: state[original] for key, original in self.reading.keys.items()}


@dataclass(frozen=True)
class Checkpoint:
    """What a file holds.

    Args:
        path: the file.
        sha256: of its bytes, in hexadecimal.
        sets: sets of weights, the most likely first.
        script: a TorchScript program, whose weights are the only set then.
        metadata: what a safetensors file says of itself.
    """

    path: Path
    sha256: str
    sets: tuple[StateSet, ...] = ()
    script: torch.jit.ScriptModule | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)

    def candidates(self) -> Iterator[Candidate]:
        """The sets in their order, each in every reading: with its keys as they are, then without prefixes.

        A file of many sets in many readings gives MAX_CANDIDATES only.
        """
        every = (Candidate(found, way) for found in self.sets for way in readings(found.outline))
        return islice(every, MAX_CANDIDATES)


def read_checkpoint(path: Path) -> Checkpoint:
    """Reads what a file holds, without its tensors' values.

    Args:
        path: a file that torch or safetensors wrote; its content says which, not its name.

    Raises:
        WeightsError: missing, unreadable, damaged, of another kind, out of bounds, or without any weights; also where
            a whole module was pickled, or where loading the file elsewhere would call a function that can run code.
    """
    if path.is_dir():
        raise WeightsError(f"{path} is a folder", found=path, wanted=SUFFIXES, remedy=_WHAT_TO_GIVE)
    if not path.is_file():
        raise WeightsError(f"there are no weights at {path}", found=path, wanted=SUFFIXES, remedy=_WHAT_TO_GIVE)
    with reading(path):
        head = _head(path)
        if head.startswith(b"PK\x03\x04"):
            return _read_zip(path)
        metadata: dict[str, str] = {}
        if head[8:9] == b"{":
            root, metadata = read_safetensors(path)
            return Checkpoint(path, sha256_of(path), _sets(path, root), metadata=metadata)
        _require_pickle(path, head)
        return Checkpoint(path, sha256_of(path), _sets(path, read_stream(path)))


def read_weights(path: Path) -> StateDict:
    """The values of the first set in a checkpoint, without the prefixes that trainers put in front of all keys.

    Raises:
        WeightsError: as `read_checkpoint`.
    """
    first = read_checkpoint(path).sets[0]
    *_, last = (way for way in readings(first.outline) if not way.left_out and is_training_wrapper(way.prefix))
    return Candidate(first, last).load()


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        head = file.read(512)
    if not head:
        raise Unreadable("is empty", found=0, wanted=READABLE, remedy=COPY_AGAIN)
    for beginning, kind, remedy in _OTHER_KINDS:
        if head.lstrip().lower().startswith(beginning.lower()):
            raise _of_another_kind(kind, remedy)
    if path.suffix == ".onnx":
        raise _of_another_kind(_ONNX, _WHAT_TO_GIVE_FOR_ONNX)
    return head


def _of_another_kind(kind: str, remedy: str) -> Unreadable:
    return Unreadable(f"is {kind}, not {READABLE}", found=kind, wanted=READABLE, remedy=remedy)


def _require_pickle(path: Path, head: bytes) -> None:
    if head[257:262] == b"ustar":
        raise _of_another_kind(
            "a tar archive", "load it in a torch before 0.1.12, which wrote such files, and save the state_dict again"
        )
    if head[:1] == b"\x08" and b"\x12" in head[:4]:  # ir_version and producer_name, the first fields of a ModelProto
        raise _of_another_kind(_ONNX, _WHAT_TO_GIVE_FOR_ONNX)
    if path.suffix == ".safetensors" or head[:1] not in b"\x80(]}cl":  # what a pickle begins with
        raise Unreadable("is not a readable checkpoint, or it was cut short", wanted=READABLE, remedy=COPY_AGAIN)


def _read_zip(path: Path) -> Checkpoint:
    archive = ZipArchive(path)
    names = archive.names()
    if any(name.endswith(("archive_format", "serialized_exported_program.json")) for name in names):
        raise _of_another_kind("a program of torch.export", "save the state_dict of the network instead")
    if is_torchscript(archive):
        script = load_script(archive)
        sets = (StateSet("", path, script_tensors(script)),)
        return Checkpoint(path, sha256_of(path), sets, script)
    if "data.pkl" not in names:
        known = "a bundle" if any(name.endswith("manifest.json") for name in names) else "a zip archive"
        raise _of_another_kind(known, _WHAT_TO_GIVE)
    return Checkpoint(path, sha256_of(path), _sets(path, read_zip(archive)))


def _sets(path: Path, root: object) -> tuple[StateSet, ...]:
    if isinstance(root, StoredTensor):
        raise _without_weights("a single tensor")
    sets = tuple(StateSet(name, path, tensors) for name, tensors in tensor_mappings(root))
    if not sets:
        _refuse_without_weights(root)
    size = path.stat().st_size
    for found in sets:
        require_bounded(found.elements, size, found.name)
    return sets


def _refuse_without_weights(root: object) -> None:
    inside = [root, *(root.values() if isinstance(root, dict) else ())]
    kind = next((value.kind for value in inside if isinstance(value, Record)), None)
    if kind is None:
        raise _without_weights("no tensors")
    raise Unreadable(
        f"contains a whole object of the class {kind}, whose code would have to be executed, so it was refused",
        found=kind,
        wanted=_WEIGHTS,
        remedy="if you trust it, save the weights alone where that class is installed: "
        "torch.save(torch.load(FILE, weights_only=False).state_dict(), ...)",
    )


def _without_weights(contents: str) -> Unreadable:
    return Unreadable(
        f"contains {contents}", found=contents, wanted=_WEIGHTS, remedy="give a checkpoint of network weights"
    )


def _as_float32(tensor: Tensor) -> Tensor:
    return (tensor.float() if tensor.is_floating_point() else tensor).contiguous()
