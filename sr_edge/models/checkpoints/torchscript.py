"""TorchScript archives: networks stored as programs, which torch executes without Python code."""

from __future__ import annotations

import re
import warnings

import torch
from torch import Tensor, nn

from sr_edge.models.checkpoints.bounds import UnreadableCheckpoint
from sr_edge.models.checkpoints.containers import ZipArchive
from sr_edge.models.checkpoints.stored import StoredTensor

_TOUCHES_FILES = re.compile(r"\b(save|from_file|load_tensor)\b")
"""Operators of TorchScript that read or write files; any occurrence is refused, since no network needs one."""


class ScriptNetwork(nn.Module):
    """Wraps a TorchScript program as a module that can be traced and copied."""

    def __init__(self, script: torch.jit.ScriptModule) -> None:
        super().__init__()
        self.script = script

    def forward(self, x: Tensor) -> Tensor:
        return self.script(x)


def is_torchscript(archive: ZipArchive) -> bool:
    names = archive.names()
    return "constants.pkl" in names and any(name.startswith("code/") for name in names)


def script_tensors(script: torch.jit.ScriptModule) -> dict[str, StoredTensor]:
    """Descriptions of the weights of a program, for loading them into another network with the same keys."""
    state = {key: value.detach() for key, value in script.state_dict().items()}
    return {key: StoredTensor(tuple(value.shape), value.dtype, value.clone) for key, value in state.items()}


def load_script(archive: ZipArchive) -> torch.jit.ScriptModule:
    """Loads the program of an archive on the CPU.

    Raises:
        UnreadableCheckpoint: it contains an operator that reads or writes files.
    """
    for name in archive.names():
        if name.startswith("code/") and name.endswith(".py"):
            used = _TOUCHES_FILES.search(archive.entry(name).decode("utf-8", "replace"))
            if used:
                raise UnreadableCheckpoint(
                    f"is a TorchScript program with the operator {used[1]}, which reads or writes files, so it was "
                    f"refused",
                    found=used[1],
                    wanted="a program that neither reads nor writes files",
                    remedy="save the state_dict of the network, and pass --arch package.module:factory",
                )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is deprecated, but existing files must still be read
        script: torch.jit.ScriptModule = torch.jit.load(str(archive.path), map_location="cpu")  # type: ignore[no-untyped-call]
    return script
