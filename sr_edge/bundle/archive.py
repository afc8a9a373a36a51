"""A bundle as one .zip: packed reproducibly, and unpacked with checks against malicious archives."""

from __future__ import annotations

import errno
import io
import lzma
import shutil
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path, PurePosixPath
from types import TracebackType

from sr_edge.bundle.entries import require_inner_path
from sr_edge.bundle.manifest import MANIFEST_NAME
from sr_edge.errors import BundleError

MAX_FILES = 1_000
MAX_UNPACKED_BYTES = 8 << 30
_MAX_DIRECTORY_BYTES = 1 << 20
_ZIP_ERRORS = (
    zipfile.BadZipFile,
    zipfile.LargeZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    LookupError,
    NotImplementedError,
    RuntimeError,
    ValueError,
)
"""What Python's zip reader raises for a damaged archive, a password, or a compression that it does not know."""
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


class Archive:
    """An open zip archive with a bundle, whose names have been checked. Use it in a `with` statement.

    A .zip of the bundle's folder, which has everything one level down, is accepted as well. The sizes in the directory
    of an archive are claims of its author; `extract` takes the limit from the caller.
    """

    def __init__(self, path: Path) -> None:
        """Opens an archive.

        Raises:
            BundleError: The file is no zip archive, is damaged, has no manifest, or has links or paths that lead
                outside.
        """
        self.path = path
        with _zip_errors(path), ExitStack() as opened:
            file = opened.enter_context(_ArchiveFile(io.FileIO(path)))
            self._zip = opened.enter_context(zipfile.ZipFile(file))
            self._entries = _entries_by_name(self._zip, path)
            self._opened = opened.pop_all()

    def __enter__(self) -> Archive:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._opened.close()

    def extract(self, file: str, target: Path, max_bytes: int) -> None:
        """Unpacks one file of the bundle.

        Args:
            file: Its path inside the bundle.
            target: The new file, whose folder is created.
            max_bytes: Its largest size.

        Raises:
            BundleError: The archive does not have the file, is damaged, or has more bytes for it.
        """
        entry = self._entries.get(file)
        if entry is None:
            raise BundleError(
                f"{self.path} has no file {file!r}, which its manifest lists",
                found=None,
                wanted=file,
                remedy="copy it again or deploy again",
            )
        target.parent.mkdir(parents=True, exist_ok=True)
        with _zip_errors(self.path), self._zip.open(entry) as packed, target.open("xb") as unpacked:
            size_bytes = 0
            while block := packed.read(min(_COPY_BYTES, max_bytes + 1 - size_bytes)):
                size_bytes += len(block)
                if size_bytes > max_bytes:
                    raise BundleError(
                        f"{file!r} in {self.path} unpacks to more than its {max_bytes:,} bytes",
                        found=size_bytes,
                        wanted=max_bytes,
                        remedy="copy it again or deploy again",
                    )
                unpacked.write(block)


class _ArchiveFile(io.BufferedReader):
    """A file that refuses to read the directory of an archive with more entries than a bundle can have."""

    def read(self, size: int | None = -1) -> bytes:
        if size is not None and size > _MAX_DIRECTORY_BYTES:
            raise zipfile.BadZipFile(f"its directory has {size:,} bytes")
        return super().read(size)


@contextmanager
def _zip_errors(archive: Path) -> Iterator[None]:
    try:
        yield
    except (*_ZIP_ERRORS, OSError) as error:
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise  # of the file system, not of the archive
        raise BundleError(
            f"{archive} is not a readable zip archive ({error})",
            found=archive,
            wanted="a zip archive",
            remedy="copy or download it again",
        ) from error


def _entries_by_name(source: zipfile.ZipFile, archive: Path) -> dict[str, zipfile.ZipInfo]:
    """The files of the bundle, by their paths inside of it."""
    entries = [entry for entry in source.infolist() if not entry.is_dir()]
    if len(entries) > MAX_FILES:
        raise BundleError(
            f"{archive} has {len(entries):,} files, more than a bundle can have",
            found=len(entries),
            wanted=MAX_FILES,
            remedy="obtain it again from a source that you trust",
        )
    for entry in entries:
        _require_safe(entry, archive)
    names = [entry.filename for entry in entries]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise BundleError(
            f"{archive} contains {repeated[0]!r} more than once",
            found=repeated,
            wanted="each file once",
            remedy="obtain it again from a source that you trust",
        )
    folder = _manifest_folder(names, archive)
    return {name.removeprefix(folder): entry for name, entry in zip(names, entries, strict=True)}


def _require_safe(entry: zipfile.ZipInfo, archive: Path) -> None:
    require_inner_path(entry.filename)
    if stat.S_ISLNK(entry.external_attr >> 16):
        raise BundleError(
            f"{archive} contains the link {entry.filename!r}, but a bundle contains regular files only",
            found=entry.filename,
            wanted="a regular file",
            remedy="obtain it again from a source that you trust",
        )


def _manifest_folder(names: list[str], archive: Path) -> str:
    """The folder of the archive that has the manifest, with a slash at its end; empty for the top."""
    folders = [name.removesuffix(MANIFEST_NAME) for name in names if _is_manifest(name)]
    if "" in folders:
        return ""
    if len(folders) != 1:
        raise BundleError(
            f"{archive} is not a bundle, as it contains no {MANIFEST_NAME}",
            found=archive,
            wanted=MANIFEST_NAME,
            remedy="create one with `sr-edge deploy`",
        )
    return folders[0]


def _is_manifest(name: str) -> bool:
    """Whether this is a manifest at the top of an archive or one folder down."""
    parts = PurePosixPath(name).parts
    return bool(parts) and parts[-1] == MANIFEST_NAME and len(parts) <= 2


def contains_manifest(archive: Path) -> bool:
    """Whether `archive` is a zip with a manifest at its top or one folder down."""
    try:
        with _ArchiveFile(io.FileIO(archive)) as file, zipfile.ZipFile(file) as source:
            return any(_is_manifest(name) for name in source.namelist())
    except (*_ZIP_ERRORS, OSError):
        return False
