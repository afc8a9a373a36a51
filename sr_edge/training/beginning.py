"""What a training begins from, as short texts, so that its checkpoint is not continued with something else."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from sr_edge.bundle import sha256_of
from sr_edge.image_files import list_pictures

WORDS: Mapping[str, str] = {
    "model": "another model or scale",
    "data": "other pictures to learn from (--data)",
    "val": "other pictures to validate on (--val)",
    "degradation": "another degradation",
    "weights": "other weights, or none (--weights, --from-bundled)",
    "vgg": "another VGG19 (--vgg)",
}
"""How messages say that a part is not the one before."""


def beginning(
    model: str, data: Path, validation: Path, degradation: str, weights: Path | None, vgg: Path | None
) -> dict[str, str]:
    """Names, and digests of names and sizes of pictures and of the content of other files, by the keys of `WORDS`."""
    return {
        "model": model,
        "data": _digest_of_pictures(data),
        "val": _digest_of_pictures(validation),
        "degradation": degradation,
        "weights": sha256_of(weights) if weights else "",
        "vgg": sha256_of(vgg) if vgg else "",
    }


def differences(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """The keys of the parts that are not as before; a part that was not kept then is taken for the same."""
    return [part for part, text in now.items() if before.get(part, text) != text]


def _digest_of_pictures(folder: Path) -> str:
    """Of names and sizes in bytes, which tell folders apart whatever decodes their pictures."""
    listed = [f"{path.relative_to(folder).as_posix()} {path.stat().st_size}\n" for path in list_pictures(folder, True)]
    return hashlib.sha256("".join(listed).encode("utf-8", "surrogateescape")).hexdigest()
