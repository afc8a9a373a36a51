"""The calibration cache: a Calibration as one JSON file, with a digest by which damage is detected."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from sr_edge.bundle.plain import from_plain, to_plain
from sr_edge.calibration.result.calibration import Calibration, Provenance
from sr_edge.calibration.result.output import write_output
from sr_edge.errors import BundleError, CacheMismatch, CalibrationError

_FORMAT = "sr_edge calibration 5"

_REPLACE = "delete it or recalibrate"


def write_cache(path: Path, calibration: Calibration) -> None:
    """Writes the file completely or not at all; raises CalibrationError if it cannot be written.

    Args:
        path: The file to write.
        calibration: What `calibrate` returned.
    """
    body = to_plain(calibration)
    document = {"format": _FORMAT, "sha256": _digest(body), "calibration": body}
    write_output(path, (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode())


def read_cache(path: Path) -> Calibration:
    """Reads a calibration, which is all that is needed to write INT8 graphs of its model.

    Raises:
        CalibrationError: The file is missing, damaged, or no calibration cache.
        CacheMismatch: Another version of sr-edge wrote the file.
    """
    try:
        document = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise CalibrationError(
            f"the calibration cache {path} does not exist",
            found=path,
            wanted="a calibration cache",
            remedy="calibrate with pictures first",
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise _damaged(path, str(error), path, "a readable calibration cache") from error
    file_format = document.get("format") if isinstance(document, dict) else None
    if str(file_format).startswith(_FORMAT.rstrip("0123456789")) and file_format != _FORMAT:
        raise CacheMismatch(
            f"{path} is a calibration cache in the format of another version of sr-edge, {file_format!r}",
            found=file_format,
            wanted=_FORMAT,
            remedy="measure again with --recalibrate, or delete the cache",
        )
    if file_format != _FORMAT:
        raise CalibrationError(
            f"{path} is not a calibration cache in the format of this version, {_FORMAT!r}",
            found=file_format,
            wanted=_FORMAT,
            remedy=_REPLACE,
        )
    body, digest = document.get("calibration"), document.get("sha256")
    if (actual := _digest(body)) != digest:
        raise _damaged(path, "its content does not match its digest", actual, digest)
    try:
        return from_plain(Calibration, body, "calibration")
    except BundleError as error:
        raise _damaged(path, str(error), path, "the fields of a calibration") from error


def require_same(path: Path, cached: Provenance, wanted: Provenance) -> None:
    """Raises CacheMismatch unless the provenance of the cache is `wanted`; the error lists the fields that differ."""
    differences = {
        "model_sha256": f"another model ({cached.model_sha256[:12]}, not {wanted.model_sha256[:12]})",
        "patches_sha256": "other calibration patches",
        "method": f"the method {cached.method!r}, not {wanted.method!r}",
    }
    differing = [name for name in differences if getattr(cached, name) != getattr(wanted, name)]
    if differing:
        raise CacheMismatch(
            f"the calibration cache {path} was made with {' and '.join(differences[name] for name in differing)}",
            found={name: getattr(cached, name) for name in differing},
            wanted={name: getattr(wanted, name) for name in differing},
            remedy=_REPLACE,
        )


def _digest(body: Any) -> str:
    """The SHA-256 of the canonical JSON text; `body` is any JSON value that a file can contain."""
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _damaged(path: Path, why: str, actual: object, expected: object) -> CalibrationError:
    return CalibrationError(
        f"the calibration cache {path} is damaged ({why})", found=actual, wanted=expected, remedy=_REPLACE
    )
