"""TorchScript archives: networks stored as programs of their own, which torch runs without any Python."""

from __future__ import annotations

import re
import warnings

import torch
from torch import Tensor, nn

from sr_edge.models.checkpoints.bounds import Unreadable
from sr_edge.models.checkpoints.containers import ZipArchive
from sr_edge.models.checkpoints.stored import StoredTensor

_TOUCHES_FILES = re.compile(r"\b(save|from_file|load_tensor)\b")
"""The operators of TorchScript that read and write files; a name is enough, since no network needs one."""


class ScriptNetwork(nn.Module):
    """A TorchScript program as an ordinary module, so that it can be traced and copied like one."""

    def __init__(self, script: torch.jit.ScriptModule) -> None:
        super().__init__()
        self.script = script

    def forward(self, x: Tensor) -> Tensor:
        return self.script(x)


def is_torchscript(archive: ZipArchive) -> bool:
    names = archive.names()
    return "constants.pkl" in names and any(name.startswith("code/") for name in names)


def script_tensors(script: torch.jit.ScriptModule) -> dict[str, StoredTensor]:
    """The weights of a program, for a network of the user's own that has the same keys."""
    state = {key: value.detach() for key, value in script.state_dict().items()}
    return {key: StoredTensor(tuple(value.shape), value.dtype, value.clone) for key, value in state.items()}


def load_script(archive: ZipArchive) -> torch.jit.ScriptModule:
    """The program of an archive, on the CPU.

    Raises:
        Unreadable: it has an operator that reads or writes files.
    """
    for name in archive.names():
        if name.startswith("code/") and name.endswith(".py"):
            used = _TOUCHES_FILES.search(archive.entry(name).decode("utf-8", "replace"))
            if used:
                raise Unreadable(
                    f"is a TorchScript program with the operator {used[1]}, which reads or writes files, so it was "
                    f"refused",
                    found=used[1],
                    wanted="a program that neither reads nor writes files",
                    remedy="save the state_dict of the network, and pass --arch package.module:factory",
                )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is deprecated; the files that people hold are not
        script: torch.jit.ScriptModule = torch.jit.load(str(archive.path), map_location="cpu")  # type: ignore[no-untyped-call]
    return script
