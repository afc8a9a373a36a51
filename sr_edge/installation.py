"""The version of sr-edge, and the command that adds an extra to this installation."""

from __future__ import annotations

from pathlib import Path

VERSION = "0.1.0"


def how_to_install(*extras: str, pip: str = "pip") -> str:
    """The command that adds `extras` to this installation.

    No package index has sr-edge, so the command names what pip can read: the checkout that this module was imported
    from, or else the wheel of this version, which `make wheel` builds.

    Args:
        extras: Names of extras in `pyproject.toml`.
        pip: The pip to run, where it is not that of the current environment.
    """
    return f"{pip} install {install_target(extras, Path(__file__).resolve().parent)}"


def install_target(extras: tuple[str, ...], package: Path) -> str:
    """What `how_to_install` gives to pip, for the package in the folder `package`."""
    names = ",".join(extras)
    checkout = package.parent
    if (checkout / "pyproject.toml").is_file():
        return f'-e "{"." if checkout == Path.cwd() else checkout}[{names}]"'
    return f'"{wheel_name()}[{names}]"'


def wheel_name() -> str:
    """The file name of the wheel of this version."""
    return f"sr_edge-{VERSION}-py3-none-any.whl"
