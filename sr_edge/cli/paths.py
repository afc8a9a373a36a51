"""Paths that commands are given: none may be the address of a stream, which would be printed, or made a folder."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from pathlib import Path

from sr_edge.errors import UsageError

_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+:/", re.IGNORECASE)
"""One slash: a path keeps no second one."""


def refusing_addresses(command: Callable[..., None]) -> Callable[..., None]:
    """The command, raising UsageError before it begins where an address stands for a file or folder."""

    @functools.wraps(command)
    def checked(**values: object) -> None:
        for name, value in values.items():
            if isinstance(value, Path) and _ADDRESS.match(str(value)):
                raise UsageError(
                    f"{name.replace('_', '-')} is an address, {command.__name__.replace('_', '-')} wants a file or "
                    "folder there; `sr-edge stream` takes addresses as source and sink"
                )
        command(**values)

    return checked
