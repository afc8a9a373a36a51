"""The folder in which sr-edge keeps what it can make again, such as engines and measurements."""

from __future__ import annotations

import os
from pathlib import Path

FOLDER_VARIABLE = "SR_EDGE_CACHE"
"""The environment variable that names another folder."""


def cache_folder(purpose: str) -> Path:
    """The folder for one purpose in SR_EDGE_CACHE, or else in the user's cache folder; it is not created.

    Args:
        purpose: The name of the folder, for example "engines".

    Raises:
        FileNotFoundError: None of the variables is set, and the user has no home folder.
    """
    folder = os.environ.get(FOLDER_VARIABLE)
    try:
        base = Path(folder) if folder else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sr-edge"
    except RuntimeError:
        raise FileNotFoundError(f"there is no home folder; set {FOLDER_VARIABLE}") from None
    return base / purpose
