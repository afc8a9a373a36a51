"""The families that spandrel recognises: purpose, whether they are supported here, and licence of their code.

A licence is given where the authors of the code, or of its published checkpoints, state one. spandrel itself only
states that all of them are permissive (MIT, Apache-2.0, public domain).
"""

from __future__ import annotations

from dataclasses import dataclass

SPANDREL_PREFIX = "spandrel/"
"""Prefix of spandrel's id in a manifest: "spandrel/Compact"."""
NOT_STATED = "not stated"
SUPER_RESOLUTION = "super-resolution"
RESTORATION = "restoration"


@dataclass(frozen=True)
class Family:
    """One of spandrel's architectures.

    Args:
        id: spandrel's identifier.
        name: its name in papers.
        purpose: purpose of its published networks.
        licence: SPDX identifier of the architecture's code.
        refused: why its networks are not supported here; empty if they are.
        registered: the registered architecture that loads the same checkpoints before spandrel is tried.
    """

    id: str
    name: str
    purpose: str = SUPER_RESOLUTION
    licence: str = NOT_STATED
    refused: str = ""
    registered: str = ""


_FACES = "face restoration"
_FACES_REFUSED = "it restores aligned faces of one size"

FAMILIES = (
    Family("ATD", "ATD"),
    Family("AuraSR", "AuraSR", refused="it draws random noise in every run, which a graph cannot reproduce"),
    Family("CRAFT", "CRAFT"),
    Family("Compact", "Compact (SRVGGNetCompact)", licence="BSD-3-Clause"),
    Family("DAT", "DAT", licence="Apache-2.0"),
    Family("DCTLSA", "DCTLSA"),
    Family("DITN", "DITN"),
    Family("DRCT", "DRCT"),
    Family("DRUNet", "DRUNet", "denoising", "MIT"),
    Family("DnCNN", "DnCNN and FDnCNN", "denoising", "MIT"),
    Family("ESRGAN", "ESRGAN (RRDBNet)", licence="Apache-2.0"),
    Family("FBCNN", "FBCNN", "removal of JPEG artefacts"),
    Family("FDAT", "FDAT", licence="MIT"),
    Family("FFTformer", "FFTformer", "deblurring"),
    Family("GFPGAN", "GFPGAN", _FACES, refused=_FACES_REFUSED),
    Family("GRL", "GRL"),
    Family("HAT", "HAT", licence="Apache-2.0"),
    Family("HVICIDNet", "HVI-CIDNet", "low-light enhancement"),
    Family("IPT", "IPT"),
    Family("KBNet", "KBNet", "denoising"),
    Family("LaMa", "LaMa", "inpainting", refused="it fills holes and takes a mask beside the image"),
    Family("MMRealSR", "MM-RealSR"),
    Family("MixDehazeNet", "MixDehazeNet", "dehazing"),
    Family("MoESR", "MoESR"),
    Family("MoSR", "MoSR"),
    Family("NAFNet", "NAFNet", "denoising and deblurring", "MIT AND Apache-2.0"),
    Family("OmniSR", "Omni-SR"),
    Family("PLKSR", "PLKSR and RealPLKSR", licence="MIT"),
    Family("RCAN", "RCAN"),
    Family("RGT", "RGT", licence="Apache-2.0"),
    Family("RealCUGAN", "Real-CUGAN"),
    Family("RestoreFormer", "RestoreFormer", _FACES, refused=_FACES_REFUSED),
    Family("RetinexFormer", "Retinexformer", "low-light enhancement", "MIT"),
    Family("SAFMN", "SAFMN"),
    Family("SAFMNBCIE", "SAFMN-BCIE", "removal of JPEG artefacts"),
    Family("SCUNet", "SCUNet", "denoising"),
    Family("SPAN", "SPAN"),
    Family("SeemoRe", "SeemoRe"),
    Family("SwiftSRGAN", "Swift-SRGAN", licence="CC0-1.0"),
    Family("Swin2SR", "Swin2SR"),
    Family("SwinIR", "SwinIR", registered="swinir"),
    Family("Uformer", "Uformer", "denoising and deblurring", "MIT"),
)
_BY_ID = {family.id: family for family in FAMILIES}


def find_family(identifier: str, name: str = "") -> Family:
    """The family with this identifier of spandrel; one that a later release of spandrel added has only its `name`."""
    return _BY_ID.get(identifier) or Family(identifier, name or identifier)


@dataclass(frozen=True)
class FamilyRow:
    """One row of `sr-edge models --families`; the fields are those of `Family`."""

    architecture: str
    name: str
    purpose: str
    licence: str
    refused: str
    registered: str


def family_rows() -> list[FamilyRow]:
    """Every family, sorted by name; spandrel need not be installed."""
    ordered = sorted(FAMILIES, key=lambda family: family.name.lower())
    return [FamilyRow(SPANDREL_PREFIX + f.id, f.name, f.purpose, f.licence, f.refused, f.registered) for f in ordered]
