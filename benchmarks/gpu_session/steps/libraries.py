"""Unpacks wheels and libraries that were carried along, and tells where modules and shared libraries are then.

A named folder may hold wheels, unpacked packages, and files that were cut into pieces after `xz`
(`NAME.xz.part00`, `NAME.xz.part01`, ...), which are joined here; a wheel among those is unpacked too. What is damaged
costs itself alone.
"""

from __future__ import annotations

import argparse
import lzma
import re
import shutil
import sys
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from gpu_session.reporting import publish
from gpu_session.search_paths import SearchPaths

_PART = re.compile(r"(?P<name>.+)\.xz(?:\.part\d+)?")
_SHARED_LIBRARY = re.compile(r"lib.+\.so(\.\d+)*")
_BLOCK_BYTES = 1 << 20
_PYTHON = f"cp{sys.version_info.major}{sys.version_info.minor}"


@dataclass
class Unpacked:
    """Where things are, what was unpacked, and what could not be."""

    paths: SearchPaths = field(default_factory=SearchPaths)
    files: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def unpack_all(sources: Sequence[Path], target: Path) -> Unpacked:
    """Unpacks what is in `sources` below `target`; folders that need no unpacking are used where they are."""
    unpacked = Unpacked()
    target.mkdir(parents=True, exist_ok=True)
    for source in sources:
        if not source.exists():
            unpacked.problems.append(f"there is no {source}")
            continue
        for name, parts in archives(source).items():
            try:
                require_fitting(name)
                _unpack(name, parts, target)
                unpacked.files.append(name)
            except (OSError, EOFError, ValueError, lzma.LZMAError, zipfile.BadZipFile) as error:
                unpacked.problems.append(f"{name}: {error}")
    folders = [source for source in sources if source.is_dir()]
    unpacked.paths = search_paths([target, *_data_folders(target), *folders])
    return unpacked


def archives(source: Path) -> dict[str, list[Path]]:
    """Wheels and compressed files in a folder, or the one that `source` is; pieces of one file in order."""
    files = sorted(source.iterdir()) if source.is_dir() else [source]
    found: dict[str, list[Path]] = {}
    for file in files:
        match = _PART.fullmatch(file.name)
        if file.is_file() and (match or file.suffix == ".whl"):
            found.setdefault(match["name"] if match else file.name, []).append(file)
    return found


def require_fitting(name: str) -> None:
    """Raises ValueError for a wheel whose modules are for another interpreter; what is no wheel fits any."""
    if not name.endswith(".whl"):
        return
    *_, python, abi, _ = name[: -len(".whl")].split("-")
    if abi != "abi3" and {"py3", _PYTHON}.isdisjoint(python.split(".")):
        raise ValueError(f"it is for {python}, this interpreter is {_PYTHON}")


def search_paths(folders: Sequence[Path]) -> SearchPaths:
    """Modules are looked for in each folder itself, shared libraries and programs at any depth below it."""
    shared = {
        file.parent
        for folder in folders
        for file in folder.rglob("*.so*")
        if _SHARED_LIBRARY.fullmatch(file.name) and file.is_file()
    }
    programs = [folder / "bin" for folder in folders if (folder / "bin").is_dir()]
    return SearchPaths(_texts(folders), _texts(sorted(shared)), _texts(programs))


def _texts(folders: Sequence[Path]) -> tuple[str, ...]:
    return tuple(str(folder) for folder in folders)


def _unpack(name: str, parts: Sequence[Path], target: Path) -> None:
    is_plain_wheel = len(parts) == 1 and parts[0].name == name
    file = parts[0] if is_plain_wheel else _joined(parts, target / name)
    if name.endswith(".whl"):
        with zipfile.ZipFile(file) as wheel:
            wheel.extractall(target)
        if not is_plain_wheel:
            file.unlink()


def _joined(parts: Sequence[Path], file: Path) -> Path:
    """Decompresses the pieces of one stream into `file`."""
    decompressor = lzma.LZMADecompressor()
    with file.open("wb") as whole:
        for block in _blocks(parts):
            whole.write(decompressor.decompress(block))
    if not decompressor.eof:
        raise EOFError("a piece is missing at the end")
    return file


def _blocks(parts: Sequence[Path]) -> Iterator[bytes]:
    for part in parts:
        with part.open("rb") as piece:
            while block := piece.read(_BLOCK_BYTES):
                yield block


def _data_folders(target: Path) -> list[Path]:
    """Where wheels keep modules that do not lie at their top."""
    return [folder for kind in ("purelib", "platlib") for folder in sorted(target.glob(f"*.data/{kind}"))]


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", nargs="+", type=Path)
    parser.add_argument("--into", type=Path, required=True)
    chosen = parser.parse_args(arguments)
    free_bytes = shutil.disk_usage(chosen.into.parent if chosen.into.parent.exists() else Path.cwd()).free
    print(f"{free_bytes / 2**30:.1f} GiB are free")
    unpacked = unpack_all(chosen.sources, chosen.into)
    publish(asdict(unpacked))
    for problem in unpacked.problems:
        print(problem)
    if unpacked.problems:
        raise SystemExit(1)
