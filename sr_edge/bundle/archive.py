"""A bundle as one .zip: packed reproducibly, and unpacked with checks against malicious archives."""

from __future__ import annotations

import shutil
import stat
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from sr_edge.bundle.manifest import MANIFEST_NAME, require_inner_path
from sr_edge.errors import BundleError

MAX_FILES = 1_000
MAX_UNPACKED_BYTES = 8 << 30
_FIXED_TIME = (1980, 1, 1, 0, 0, 0)
_COPY_BYTES = 1 << 20


def pack(folder: Path, archive: Path) -> None:
    """Writes every file of `folder` to `archive`; equal folders give equal archives, byte by byte."""
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as target:
        for path in sorted(item for item in folder.rglob("*") if item.is_file()):
            entry = zipfile.ZipInfo(path.relative_to(folder).as_posix(), _FIXED_TIME)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = (stat.S_IFREG | 0o644) << 16
            with path.open("rb") as source, target.open(entry, "w", force_zip64=True) as sink:
                shutil.copyfileobj(source, sink, _COPY_BYTES)


def unpack(archive: Path, folder: Path) -> Path:
    """Unpacks `archive` into the empty `folder`; returns the folder that contains the manifest.

    A .zip of the bundle's folder, which has everything one level down, is accepted as well.

    Raises:
        BundleError: The file is no zip archive, damaged or too large, or has links or paths that lead outside.
    """
    try:
        with zipfile.ZipFile(archive) as source:
            entries = [entry for entry in source.infolist() if not entry.is_dir()]
            _require_safe(entries, archive, folder)
            for entry in entries:
                _extract(source, entry, folder)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise BundleError(
            f"{archive} is not a readable zip archive ({error})",
            found=archive,
            wanted="a zip archive",
            remedy="copy or download it again",
        ) from error
    return _manifest_folder(folder, archive)


def _require_safe(entries: list[zipfile.ZipInfo], archive: Path, folder: Path) -> None:
    for entry in entries:
        require_inner_path(entry.filename)
        if stat.S_ISLNK(entry.external_attr >> 16):
            raise BundleError(
                f"{archive} contains the link {entry.filename!r}, but a bundle contains regular files only",
                found=entry.filename,
                wanted="a regular file",
                remedy="obtain it again from a source that you trust",
            )
    total = sum(entry.file_size for entry in entries)
    limit = min(MAX_UNPACKED_BYTES, shutil.disk_usage(folder).free)
    if len(entries) > MAX_FILES or total > limit:
        raise BundleError(
            f"{archive} would unpack to {len(entries)} files of {total / 1e6:,.0f} MB, above the limit of {MAX_FILES} "
            f"files and {limit / 1e6:,.0f} MB in {folder.parent}",
            found=(len(entries), total),
            wanted=(MAX_FILES, limit),
            remedy="unpack it yourself and open the folder, or set TMPDIR to a folder with more space",
        )


def _extract(source: zipfile.ZipFile, entry: zipfile.ZipInfo, folder: Path) -> None:
    target = folder / entry.filename
    target.parent.mkdir(parents=True, exist_ok=True)
    with source.open(entry) as packed, target.open("xb") as file:
        shutil.copyfileobj(packed, file, _COPY_BYTES)


def _manifest_folder(folder: Path, archive: Path) -> Path:
    if (folder / MANIFEST_NAME).is_file():
        return folder
    inner = [item for item in folder.iterdir() if (item / MANIFEST_NAME).is_file()]
    if len(inner) != 1:
        raise BundleError(
            f"{archive} is not a bundle, as it contains no {MANIFEST_NAME}",
            found=archive,
            wanted=MANIFEST_NAME,
            remedy="create one with `sr-edge deploy`",
        )
    return inner[0]


def contains_manifest(archive: Path) -> bool:
    """Whether `archive` is a zip with a manifest at its top or one folder down."""
    try:
        with zipfile.ZipFile(archive) as source:
            names = [PurePosixPath(name).parts for name in source.namelist()]
    except (zipfile.BadZipFile, OSError):
        return False
    return any(parts and parts[-1] == MANIFEST_NAME and len(parts) <= 2 for parts in names)
