"""Upscaling of pictures of any size with an open session: arrays, PIL images, tensors, files and folders."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sr_edge.lazy_face import lazy_face

if TYPE_CHECKING:
    from sr_edge.upscaler.files import FileResult, Outcome, upscale_file, upscale_folder
    from sr_edge.upscaler.reuse_options import ReuseOptions
    from sr_edge.upscaler.tiled_session import OnTile
    from sr_edge.upscaler.upscaler import Upscaler

_HOMES = {
    "FileResult": "sr_edge.upscaler.files",
    "OnTile": "sr_edge.upscaler.tiled_session",
    "Outcome": "sr_edge.upscaler.files",
    "ReuseOptions": "sr_edge.upscaler.reuse_options",
    "Upscaler": "sr_edge.upscaler.upscaler",
    "upscale_file": "sr_edge.upscaler.files",
    "upscale_folder": "sr_edge.upscaler.files",
}

__all__ = ["FileResult", "OnTile", "Outcome", "ReuseOptions", "Upscaler", "upscale_file", "upscale_folder"]

__getattr__, __dir__ = lazy_face(__name__, _HOMES)
