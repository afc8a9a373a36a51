"""Opens bundles, and verifies the digests of their files."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from sr_edge.bundle.archive import MAX_UNPACKED_BYTES, Archive
from sr_edge.bundle.consistency import require_printable, require_sizes
from sr_edge.bundle.entries import Artifact, ArtifactKind, GoldenFrame, require_inner_path
from sr_edge.bundle.manifest import MANIFEST_NAME, SCHEMA_VERSION, Manifest
from sr_edge.bundle.plain import Plain, from_plain
from sr_edge.bundle.self_contained import require_self_contained_onnx
from sr_edge.errors import BundleError
from sr_edge.files.unfinished import temporary_folder
from sr_edge.installation import VERSION
from sr_edge.spec import ActivationType, FrameFormat, Precision, member_of

FORMAT = "sredge"
"""The `format` that manifest.json states."""

_MAX_MANIFEST_BYTES = 16 << 20
_VERSION = re.compile(r"[0-9][0-9A-Za-z.+!-]{0,40}")


def sha256_of(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


class Bundle:
    """An open bundle. Close it, or use it in a `with` statement.

    A zipped bundle is unpacked to a temporary folder, which is removed on close.

    Attributes:
        path: Folder or archive that was opened.
        folder: Folder that contains the files.
        manifest: Content of manifest.json.
        remarks: What a person should know about a bundle that was made of another file in order to run it.
    """

    def __init__(
        self,
        path: Path,
        folder: Path,
        manifest: Manifest,
        unpacked: ExitStack | None = None,
        remarks: tuple[str, ...] = (),
    ) -> None:
        self.path = path
        self.folder = folder
        self.manifest = manifest
        self.remarks = remarks
        self._unpacked = unpacked
        self._verified: set[str] = set()
        self._self_contained: set[str] = set()

    def file(self, artifact: Artifact) -> Path:
        """Absolute path of an artifact, whose digest is verified at the first call.

        Raises:
            BundleError: the file is missing, changed, lies outside the bundle, or is a graph that refers to other
                files.
        """
        path = self._verified_file(artifact.file, artifact.sha256)
        if artifact.kind is ArtifactKind.ONNX and artifact.file not in self._self_contained:
            require_self_contained_onnx(path, artifact.file)
            self._self_contained.add(artifact.file)
        return path

    def golden_files(self, frame: GoldenFrame) -> tuple[Path, Path]:
        """Paths of a golden frame's input and output, with verified digests; raises BundleError as `file` does."""
        return (
            self._verified_file(frame.input, frame.input_sha256),
            self._verified_file(frame.output, frame.output_sha256),
        )

    def find(
        self,
        precision: Precision | str,
        io: FrameFormat | str = FrameFormat.FLOAT_NCHW,
        activation_type: ActivationType | str | None = None,
        float_precision: Precision | str | None = None,
        kind: ArtifactKind | str = ArtifactKind.ONNX,
    ) -> Artifact | None:
        """The first artifact for all runtimes that matches, or None.

        `activation_type` and `float_precision` match any if they are None.
        """
        precision = member_of(Precision, precision, "precision")
        io = member_of(FrameFormat, io, "frame format")
        kind = member_of(ArtifactKind, kind, "kind of artifact")
        if activation_type is not None:
            activation_type = member_of(ActivationType, activation_type, "activation type")
        if float_precision is not None:
            float_precision = member_of(Precision, float_precision, "float precision")
        for artifact in self.manifest.artifacts:
            if (
                (artifact.kind, artifact.precision, artifact.io, artifact.runtimes) == (kind, precision, io, ())
                and activation_type in (None, artifact.activation_type)
                and float_precision in (None, artifact.float_precision)
            ):
                return artifact
        return None

    def verify(self) -> None:
        """Verifies every file of the manifest; raises BundleError for the first that is missing or changed."""
        for file, sha256 in self.manifest.digests().items():
            self._verified_file(file, sha256)
        for artifact in self.manifest.artifacts:
            self.file(artifact)

    def close(self) -> None:
        """Removes the temporary folder of a zipped bundle, after which its files are no longer available."""
        if self._unpacked is not None:
            self._unpacked.close()

    def __repr__(self) -> str:
        return f"<Bundle {self.path}: {self.manifest}>"

    def __enter__(self) -> Bundle:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _verified_file(self, file: str, sha256: str) -> Path:
        require_inner_path(file)
        path = (self.folder / file).resolve()
        if not path.is_relative_to(self.folder.resolve()):
            raise BundleError(
                f"{self.path} is unsafe: {file!r} is a link to a file outside of it",
                found=file,
                wanted="a file inside the bundle",
                remedy="obtain it again from a source that you trust",
            )
        if not path.is_file():
            raise BundleError(
                f"{self.path} has no file {file!r}, which its manifest lists",
                found=None,
                wanted=file,
                remedy="copy it again or deploy again",
            )
        if file not in self._verified:
            self._require_size(file, path)
            digest = sha256_of(path)
            if digest != sha256:
                raise BundleError(
                    f"{file!r} in {self.path} is damaged: its SHA-256 is {digest[:12]}..., but {sha256[:12]}... in the "
                    "manifest",
                    found=digest,
                    wanted=sha256,
                    remedy="copy it again or deploy again",
                )
            self._verified.add(file)
        return path

    def _require_size(self, file: str, path: Path) -> None:
        """Bounds what is read from a file; a bundle that is just being written has no sizes yet."""
        size_bytes = path.stat().st_size
        wanted = self.manifest.sizes.get(file, size_bytes)
        if size_bytes != wanted:
            raise BundleError(
                f"{file!r} in {self.path} is damaged: it has {size_bytes:,} bytes, but {wanted:,} in the manifest",
                found=size_bytes,
                wanted=wanted,
                remedy="copy it again or deploy again",
            )


def open_bundle(path: str | Path) -> Bundle:
    """Opens a bundle: a folder, or a .zip, which is unpacked to a private temporary folder.

    Only the manifest is read here; the digest of a file is verified when its path is first requested.

    Args:
        path: The folder or archive.

    Raises:
        BundleError: The bundle is missing, damaged, unsafe, of another schema version, or no bundle at all.
    """
    path = Path(path)
    try:
        return _opened(path)
    except (OSError, ValueError) as error:  # a path that is too long, or has a null byte, or may not be read
        reason = getattr(error, "strerror", None) or str(error)
        raise BundleError(
            f"cannot open the bundle {path}: {reason}",
            found=path,
            wanted="a bundle",
            remedy="check the path, its permissions and the space in the folder for temporary files",
        ) from error


def _opened(path: Path) -> Bundle:
    if path.is_dir():
        return Bundle(path, path, _read_manifest(path / MANIFEST_NAME, path))
    if not path.is_file():
        raise BundleError(
            f"there is no bundle at {path}", found=path, wanted="a bundle", remedy="create one with `sr-edge deploy`"
        )
    with ExitStack() as unpacked:
        folder = unpacked.enter_context(temporary_folder("bundle"))
        return Bundle(path, folder, _unpack(path, folder), unpacked.pop_all())


def _unpack(archive: Path, folder: Path) -> Manifest:
    """Unpacks the files that the manifest of a zip lists, each with the size that the manifest has for it."""
    with Archive(archive) as source:
        source.extract(MANIFEST_NAME, folder / MANIFEST_NAME, _MAX_MANIFEST_BYTES)
        manifest = _read_manifest(folder / MANIFEST_NAME, archive)
        total, limit = sum(manifest.sizes.values()), min(MAX_UNPACKED_BYTES, shutil.disk_usage(folder).free)
        if total > limit:
            raise BundleError(
                f"{archive} unpacks to {total / 1e6:,.0f} MB, above the limit of {limit / 1e6:,.0f} MB in "
                f"{folder.parent}",
                found=total,
                wanted=limit,
                remedy="unpack it yourself and open the folder, or set TMPDIR to a folder with more space",
            )
        for file, size_bytes in manifest.sizes.items():
            source.extract(file, folder / file, size_bytes)
    return manifest


def _read_manifest(file: Path, bundle: Path) -> Manifest:
    """Reads the manifest in `file`; the messages name the bundle."""
    if not file.is_file():
        raise BundleError(
            f"{bundle} is not a bundle, as it contains no {MANIFEST_NAME}",
            found=bundle,
            wanted=MANIFEST_NAME,
            remedy="create one with `sr-edge deploy`",
        )
    size_bytes = file.stat().st_size
    if size_bytes > _MAX_MANIFEST_BYTES:
        raise BundleError(
            f"{MANIFEST_NAME} of {bundle} has {size_bytes:,} bytes, above the limit of {_MAX_MANIFEST_BYTES >> 20} MiB",
            found=size_bytes,
            wanted=_MAX_MANIFEST_BYTES,
            remedy="copy the bundle again",
        )
    try:
        document = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise BundleError(
            f"{MANIFEST_NAME} of {bundle} is not valid JSON ({error})",
            found=bundle,
            wanted="JSON",
            remedy="copy the bundle again or deploy again",
        ) from error
    file_format = document.get("format") if isinstance(document, dict) else None
    if file_format != FORMAT:
        raise BundleError(
            f"{MANIFEST_NAME} of {bundle} is not the manifest of an sr-edge bundle",
            found=file_format,
            wanted=FORMAT,
            remedy="create a bundle with `sr-edge deploy`",
        )
    _require_schema(document, bundle)
    try:
        manifest = from_plain(Manifest, document, MANIFEST_NAME)
        require_sizes(manifest.sizes, manifest.digests())
        require_printable(manifest, MANIFEST_NAME)
    except BundleError as error:
        raise _with_versions(error, bundle, _maker(document)) from error
    return manifest


def is_bundle_folder(folder: Path) -> bool:
    """Whether a folder contains the manifest of a bundle; web applications have a file of that name, too."""
    manifest = folder / MANIFEST_NAME
    if not manifest.is_file() or manifest.stat().st_size > _MAX_MANIFEST_BYTES:
        return False
    content = manifest.read_bytes()
    return b'"schema_version"' in content and b'"artifacts"' in content


def _require_schema(document: Mapping[str, Plain], bundle: Path) -> None:
    version = document.get("schema_version")
    if version == SCHEMA_VERSION and not isinstance(version, bool):
        return
    maker = _maker(document)
    if isinstance(version, int) and version > SCHEMA_VERSION:
        advice = f"install the version that made it{f', sr-edge {maker}' if maker else ''}, or a newer one"
    else:
        older = f", or run the bundle with sr-edge {maker}, which made it" if maker else ""
        advice = f"deploy the model again with sr-edge {VERSION}{older}"
    made = f", made by sr-edge {maker}," if maker else ""
    stated = "no schema version" if version is None else f"schema version {str(version)[:20]}"
    raise BundleError(
        f"{MANIFEST_NAME} of {bundle}{made} has {stated}, but sr-edge {VERSION} reads version {SCHEMA_VERSION}",
        found=version,
        wanted=SCHEMA_VERSION,
        remedy=advice,
    )


def _with_versions(error: BundleError, bundle: Path, maker: str) -> BundleError:
    """The error, with the bundle and, if another version of sr-edge made it, both versions, which may be the cause."""
    if maker in ("", VERSION):
        problem, remedy = f"{bundle}: {error.problem}", error.remedy
    else:
        problem = f"{bundle}: {error.problem} (the bundle was made by sr-edge {maker}, this is sr-edge {VERSION})"
        remedy = f"use one version of sr-edge in both places; if that does not help, {error.remedy}"
    return BundleError(problem, found=error.found, wanted=error.wanted, remedy=remedy)


def _maker(document: Mapping[str, Plain]) -> str:
    """The version of sr-edge that the manifest names, of whatever schema it is; empty if it names none."""
    tools = document.get("tools")
    maker = tools.get("sr-edge") if isinstance(tools, Mapping) else None
    return maker if isinstance(maker, str) and _VERSION.fullmatch(maker) else ""
