"""Where files of a batch are: paths on this machine and URLs of object stores, behind the same functions.

URLs are opened with fsspec; the other modules of the package use its file systems through `file_system`.
"""

from __future__ import annotations

import errno
import os
import posixpath
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from stat import S_ISREG
from typing import Any, NamedTuple

from sr_edge.errors import SrEdgeError, StorageError, UsageError
from sr_edge.files.whole_file import whole_file
from sr_edge.installation import how_to_install
from sr_edge.printable import one_line, scheme_of, without_secrets

BATCH_FOLDER = ".sr-edge-batch"
"""The folder in a target for records, the lock, and parts of videos. Listings skip it, because it is hidden."""

_URL = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_CHAINED_URL = re.compile(r"::[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_ALIASES = {"s3a": "s3", "gcs": "gs"}
_PACKAGES = {"s3": "s3fs", "gs": "gcsfs", "abfs": "adlfs", "az": "adlfs", "sftp": "paramiko", "http": "aiohttp"}
_PACKAGES["https"] = _PACKAGES["http"]
_WHOLE_UPLOADS = ("s3", "gs", "memory")
"""Where an object appears only when its upload is complete."""

_CREDENTIAL_ERRORS = re.compile(
    r"(No|Partial)CredentialsError|CredentialRetrievalError|ProfileNotFound|NoAuthTokenError|TokenRetrievalError"
    r"|DefaultCredentialsError|RefreshError"
)
_NETWORK_ERRORS = re.compile(
    r"(EndpointConnection|ConnectTimeout|ReadTimeout|ConnectionClosed|HTTPClient|ClientConnector|Connection|Timeout)Error"
    r"|ServerDisconnectedError|gaierror"
)
"""Names of classes of botocore, google-auth and aiohttp, none of which has to be installed."""
_CREDENTIALS = {
    "s3": "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, on every machine",
    "gs": "set GOOGLE_APPLICATION_CREDENTIALS on every machine",
}


@dataclass(frozen=True, slots=True)
class Location:
    """A file or folder: an absolute path on this machine, or a URL that fsspec opens.

    `str()` of a location hides secrets; `address` contains them.

    >>> Location("s3://archive/photos").join("a/b.png").name
    'b.png'
    """

    address: str

    @classmethod
    def parse(cls, text: str, base: Location | None = None) -> Location:
        """Reads what a user wrote: a path or a URL.

        Args:
            text: A path, "file://PATH", or a URL such as "s3://BUCKET/KEY". Characters are taken literally: "%20" is
                no space.
            base: The folder of a relative path; by default the working directory.

        Raises:
            UsageError: The text is empty, or the scheme of the URL is unknown or needs a package that is missing.
        """
        if not text or "\0" in text:
            raise UsageError(
                "a path or URL is empty or contains a null character", found=text, remedy="give a path or a URL"
            )
        match = _URL.match(text)
        if _CHAINED_URL.search(text):
            raise UsageError(
                f"the chained URL {one_line(without_secrets(text))} is not supported",
                found=without_secrets(text),
                wanted="a URL with one scheme",
                remedy="unpack archives first, and give one path or URL",
            )
        scheme = scheme_of(match[0]) if match else ""
        if not match or scheme in ("file", "local"):
            path = text[match.end() :] if match else text
            if base is None or path.startswith("/"):
                return cls(os.fspath(Path.cwd() / path))
            if base.is_local:
                return cls(os.fspath(base.path / path))
            return cls(base.root + posixpath.normpath(base.join(path).address[len(base.root) :]))
        scheme = _ALIASES.get(scheme, scheme)
        _require_scheme(scheme, text)
        return cls(f"{scheme}://{text[match.end() :].strip('/')}")

    def __str__(self) -> str:
        return one_line(self.address if self.is_local else without_secrets(self.address))

    @property
    def is_local(self) -> bool:
        return self.address.startswith("/")

    @property
    def path(self) -> Path:
        """The path of a local file or folder."""
        if not self.is_local:
            raise ValueError(f"{self} is not on this machine")
        return Path(self.address)

    @property
    def scheme(self) -> str:
        """The scheme of a URL, in lower case; empty for a local path."""
        return "" if self.is_local else scheme_of(self.address)

    @property
    def root(self) -> str:
        """Scheme and bucket of a URL; "/" for a local path."""
        return "/" if self.is_local else "/".join(self.address.split("/", 3)[:3])

    @property
    def name(self) -> str:
        """The last component of the path or key; empty for a bucket."""
        return self.address[len(self.root) :].rpartition("/")[2]

    @property
    def suffix(self) -> str:
        """The suffix of the name in lower case, for example ".png"."""
        return posixpath.splitext(self.name)[1].lower()

    @property
    def parent(self) -> Location:
        """The folder; of a bucket and of "/" they themselves."""
        above, separator, _ = self.address[len(self.root) :].rpartition("/")
        return Location(self.root + above if self.is_local or separator else self.root)

    def join(self, *names: str) -> Location:
        """A location below this one; a name may contain several components."""
        return Location("/".join((self.address.rstrip("/"), *names)))

    def relative_to(self, folder: Location) -> str | None:
        """The path below `folder`, by the letters of both addresses; None if this is not below it."""
        prefix = folder.address.rstrip("/") + "/"
        return self.address[len(prefix) :] if self.address.startswith(prefix) else None


class Stamp(NamedTuple):
    """What tells whether a file changed, without its content.

    Attributes:
        size: Bytes.
        version: Modification time, status change time and inode of a local file; the ETag, generation or modification
            time of an object. Empty if the store gives none of them: then only the content can tell.
    """

    size: int
    version: str


def require_target(target: Location) -> None:
    """Raises UsageError unless files appear in `target` only when they are complete; creates a local folder.

    Raises:
        UsageError: `target` is a file, a folder that cannot be created, or a URL to which nothing can be uploaded.
    """
    if not target.is_local:
        if target.scheme not in _WHOLE_UPLOADS:
            raise UsageError(
                f"results cannot be written to {target}, where they could appear half-written",
                found=target.scheme,
                wanted=("a folder", "s3://", "gs://"),
                remedy="write to a folder, s3:// or gs://",
            )
        return
    try:
        target.path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = "it is a file" if isinstance(error, FileExistsError) else error.strerror
        raise UsageError(
            f"cannot create the folder {target}: {reason}",
            found=target.address,
            wanted="a folder that can be created",
            remedy="give another folder for the results",
        ) from error


def file_system(location: Location) -> tuple[Any, str]:
    """The fsspec file system of a URL and the path in it. Listings are not cached, because others write, too.

    Only the bucket is parsed as a URL: a key may contain "::", "?" and "#".
    """
    from fsspec.core import url_to_fs

    system, root = url_to_fs(location.root, use_listings_cache=False)
    path = location.address[len(location.root) :]
    return system, f"{root.rstrip('/')}{path}"


def stamp(location: Location) -> Stamp | None:
    """The stamp of a file; None if there is no file.

    Raises:
        StorageError: The place cannot be read.
    """
    with storage_errors(location, "read"):
        if location.is_local:
            status = _present(lambda: location.path.stat())
            return local_stamp(status) if status and S_ISREG(status.st_mode) else None
        info = _info(location)
        return remote_stamp(info) if info and info["type"] != "directory" else None


def is_folder(location: Location) -> bool:
    """Whether there is a folder, or a prefix of an object store with objects.

    Raises:
        StorageError: The place cannot be read.
    """
    with storage_errors(location, "read"):
        if location.is_local:
            return location.path.is_dir()
        info = _info(location)
        return info is not None and info["type"] == "directory"


def local_stamp(status: os.stat_result) -> Stamp:
    return Stamp(status.st_size, f"{status.st_mtime_ns}-{status.st_ctime_ns}-{status.st_ino}")


def remote_stamp(info: Mapping[str, Any]) -> Stamp:
    """The stamp of an object, from what fsspec's `info` and `ls` return."""
    for key in ("ETag", "etag", "generation", "LastModified", "updated", "mtime", "created"):
        value = info.get(key)
        if value:
            version = value.timestamp() if isinstance(value, datetime) else value
            return Stamp(int(info["size"] or 0), str(version).strip('"'))
    return Stamp(int(info["size"] or 0), "")


def exists(location: Location) -> bool:
    """Whether there is a file; a folder does not count. Raises StorageError if the place cannot be read."""
    return stamp(location) is not None


def remove(location: Location) -> None:
    """Removes a file, if there is one. Raises StorageError if that fails."""
    with storage_errors(location, "remove"), suppress(FileNotFoundError):
        if location.is_local:
            location.path.unlink()
        else:
            system, path = file_system(location)
            system.rm_file(path)


def read_bytes(location: Location) -> bytes | None:
    """The content of a small file; None if there is no file. Raises StorageError if it cannot be read."""
    with storage_errors(location, "read"):
        if location.is_local:
            content: bytes | None = _present(location.path.read_bytes)
        else:
            system, path = file_system(location)
            content = _present(lambda: system.cat_file(path))
        return content


def write_bytes(location: Location, content: bytes) -> None:
    """Writes a small file, whole or not at all, and the folders that it needs. Raises StorageError if that fails."""
    with storage_errors(location, "write"):
        if location.is_local:
            location.path.parent.mkdir(parents=True, exist_ok=True)
            with whole_file(location.path) as unfinished:
                unfinished.write_bytes(content)
        else:
            system, path = file_system(location)
            system.pipe_file(path, content)


def _info(location: Location) -> Mapping[str, Any] | None:
    system, path = file_system(location)
    info: Mapping[str, Any] | None = _present(lambda: system.info(path))
    return info


def _present(read: Callable[[], Any]) -> Any:
    """What `read` returns; None if it finds no file. A bucket that does not exist is an error, not an absent file."""
    try:
        return read()
    except (FileNotFoundError, NotADirectoryError) as error:
        if _code_of(error) == "NoSuchBucket":
            raise
        return None


@contextmanager
def storage_errors(location: Location, action: str) -> Iterator[None]:
    """Converts all errors of file systems and clients of object stores.

    Args:
        location: What was used.
        action: What was done with it: "read", "write", "list", "remove".

    Raises:
        StorageError: Something failed; the remedy depends on what it was.
    """
    try:
        yield
    except SrEdgeError:
        raise
    except Exception as error:  # clients of object stores have no common base class
        reason, remedy = _explanation(location, error)
        raise StorageError(f"cannot {action} {location}: {reason}", found=str(location), remedy=remedy) from error


def _explanation(location: Location, error: Exception) -> tuple[str, str]:
    """The reason and the remedy of an error."""
    names = {kind.__name__ for link in _chain(error) for kind in type(link).__mro__}
    number = getattr(error, "errno", None)
    if any(map(_CREDENTIAL_ERRORS.fullmatch, names)):
        remedy = _CREDENTIALS.get(location.scheme, "configure the credentials on every machine")
        return f"there are no credentials for {location.scheme}://", remedy
    if _code_of(error) == "NoSuchBucket":
        return f"there is no bucket {without_secrets(location.root)}", "create it, or check its name"
    if isinstance(error, PermissionError):
        whose = "the permissions" if location.is_local else "the credentials and their permissions"
        return "access is denied", f"check {whose} on this machine and on the others"
    if isinstance(error, FileNotFoundError):
        return "it does not exist", "check the name"
    if number in (errno.ENOSPC, errno.EDQUOT):
        return "no space is left", "free space, or set TMPDIR to a folder on a larger disk"
    if not location.is_local and any(map(_NETWORK_ERRORS.fullmatch, names)):
        return "the server cannot be reached", "check the network and the address of the server"
    text = (location.is_local and getattr(error, "strerror", None)) or str(error) or type(error).__name__
    return one_line(str(text)), "check the place and its permissions"


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and its causes."""
    link: BaseException | None = error
    while link is not None:
        yield link
        link = link.__cause__ or link.__context__


def _code_of(error: BaseException) -> str:
    """The code of S3 in an error or its causes; empty if there is none."""
    for link in _chain(error):
        response = getattr(link, "response", None)
        if isinstance(response, dict):
            return str(response.get("Error", {}).get("Code", ""))
    return ""


def _require_scheme(scheme: str, text: str) -> None:
    """Raises UsageError unless fsspec can open URLs with the scheme."""
    shown = one_line(without_secrets(text))
    try:
        from fsspec.registry import get_filesystem_class
    except ImportError as error:
        raise UsageError(
            f"{shown} needs the package fsspec", found=scheme, wanted="fsspec", remedy=how_to_install("cluster")
        ) from error
    try:
        get_filesystem_class(scheme)
    except ValueError as error:
        raise UsageError(
            f"the scheme {scheme}:// of {shown} is unknown",
            found=scheme,
            wanted=("a path", "s3://", "gs://"),
            remedy="give a path, or a URL with s3:// or gs://",
        ) from error
    except ImportError as error:
        package = _PACKAGES.get(scheme, f"the package that fsspec needs for {scheme}")
        raise UsageError(
            f"URLs with {scheme}:// need the package {package}",
            found=scheme,
            wanted=package,
            remedy=f"pip install {package}, on every machine",
        ) from error
