"""Writes bundles atomically, by a single rename of a staging folder, and files of weights."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sr_edge.bundle.archive import contains_manifest, pack
from sr_edge.bundle.consistency import printable_values
from sr_edge.bundle.manifest import MANIFEST_NAME, Manifest
from sr_edge.bundle.plain import to_plain
from sr_edge.bundle.store import FORMAT, Bundle
from sr_edge.errors import BundleError
from sr_edge.files.unfinished import unfinished_folder

if TYPE_CHECKING:
    import numpy.typing as npt


@contextmanager
def staging_folder(out: str | Path) -> Iterator[Path]:
    """Creates a temporary folder beside `out` to build a bundle in; it is removed in any case.

    Raises:
        BundleError: `out` exists and is not a bundle, or its folder does not exist.
    """
    out = Path(out)
    _require_replaceable(out)
    with unfinished_folder(out) as folder:
        yield folder


def write_bundle(out: str | Path, manifest: Manifest, staging: Path, keep_files: bool = False) -> Path:
    """Turns a staging folder into the bundle `out`: a .zip archive if its name ends in .zip, otherwise a folder.

    The bundle is put in place by a single atomic rename. An existing bundle of that name is replaced; anything else is
    not.

    Args:
        out: The bundle to write.
        manifest: What it contains.
        staging: The folder that has the files, from `staging_folder(out)`.
        keep_files: Whether the files are copied, so that the bundle can be written again; otherwise they are moved.

    Raises:
        BundleError: A listed file is missing or has another digest, or `out` exists and is not a bundle.
    """
    out = Path(out)
    _require_replaceable(out)
    content = staging / "content"
    _gather(manifest, staging, content, keep_files)
    if out.suffix == ".zip":
        archive = staging / "bundle.zip"
        pack(content, archive)
        archive.replace(out)
        shutil.rmtree(content)
    else:
        content.chmod(0o755)
        _replace_folder(content, out, staging / "replaced")
    return out


def _gather(manifest: Manifest, staging: Path, content: Path, keep_files: bool) -> None:
    """Moves or copies the listed files, and no others, into `content` and writes the manifest there."""
    Bundle(staging, staging, manifest).verify()
    content.mkdir()
    for file in manifest.digests():
        target = content / file
        target.parent.mkdir(parents=True, exist_ok=True)
        if keep_files:
            shutil.copyfile(staging / file, target)
        else:
            (staging / file).replace(target)
    manifest = manifest.with_sizes(content)
    text = json.dumps({"format": FORMAT, **printable_values(to_plain(manifest))}, indent=2, ensure_ascii=False)
    (content / MANIFEST_NAME).write_text(text + "\n", encoding="utf-8")


def _replace_folder(content: Path, out: Path, aside: Path) -> None:
    try:
        if out.exists():
            out.replace(aside)
        content.replace(out)
    except BaseException:
        if aside.exists() and not out.exists():
            aside.replace(out)
        raise
    if aside.exists():
        shutil.rmtree(aside)


def _require_replaceable(out: Path) -> None:
    if not out.parent.is_dir():
        raise BundleError(
            f"cannot write {out}: the folder {out.parent} does not exist",
            found=out.parent,
            wanted="an existing folder",
            remedy="create it, or choose another output",
        )
    if not os.path.lexists(out):
        return
    is_archive = out.suffix == ".zip"
    is_bundle = (out.is_file() and contains_manifest(out)) if is_archive else (out / MANIFEST_NAME).is_file()
    if out.is_symlink() or not is_bundle:
        raise BundleError(
            f"{out} exists and is not a bundle, so it is not replaced",
            found=out,
            wanted="a bundle",
            remedy="choose another output or remove it",
        )


def write_weights(path: Path, state: Mapping[str, npt.NDArray[Any]]) -> None:
    """Writes a network's weights as a .safetensors file, from which the torch runtime opens a bundle.

    Equal arrays give equal bytes. Requires the package safetensors.

    Args:
        path: The file to write.
        state: Arrays by name.
    """
    import numpy as np
    from safetensors.numpy import save

    path.write_bytes(save({name: np.asarray(array, order="C") for name, array in sorted(state.items())}))
