"""Paths that commands are given: none may be the address of a stream, which would be printed, or made a folder."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from pathlib import Path

from sr_edge.address import without_secrets
from sr_edge.errors import UsageError

_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+:/", re.IGNORECASE)
"""One slash: a path keeps no second one."""


def refusing_addresses(command: Callable[..., None]) -> Callable[..., None]:
    """The command, raising UsageError before it begins where an address stands for a file or folder."""

    @functools.wraps(command)
    def checked(**values: object) -> None:
        for name, value in values.items():
            if isinstance(value, Path) and _ADDRESS.match(str(value)):
                option, command_name = (word.replace("_", "-") for word in (name, command.__name__))
                raise UsageError(
                    f"{option} of `sr-edge {command_name}` is an address, but must be a file or folder",
                    found=without_secrets(str(value)),
                    wanted="a file or folder",
                    remedy="give a path, or use `sr-edge stream`, which takes addresses as source and sink",
                )
        command(**values)

    return checked
