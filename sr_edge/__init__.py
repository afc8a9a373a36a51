"""Super-resolution models from a PyTorch checkpoint to a verified deployment on the device.

    large = sr_edge.upscale("photo.png", "tiny-x2.sredge")  # or an array, a PIL image, a tensor, a list

    with sr_edge.open_upscaler("tiny-x2.sredge", precision="int8") as upscaler:
        large = upscaler(frame)

Names are imported on first use, so that `import sr_edge` is fast and requires none of the heavy libraries.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from sr_edge.installation import VERSION
from sr_edge.lazy_face import lazy_face

if TYPE_CHECKING:
    from sr_edge import camera, cluster
    from sr_edge.bundle import Bundle, open_bundle
    from sr_edge.deploy import deploy_network
    from sr_edge.errors import SrEdgeError
    from sr_edge.export import export_onnx, to_static
    from sr_edge.model_sources import open_frame_session, open_model, open_session, open_upscaler, upscale
    from sr_edge.models import load_model
    from sr_edge.spec import FrameFormat, Precision, TileSpec
    from sr_edge.upscaler import Upscaler, upscale_file, upscale_folder

# From version 1.29 on, ONNX Runtime reports to its vendor over the network, unless this is set before it is loaded.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__version__ = VERSION

__all__ = [
    "Bundle",
    "FrameFormat",
    "Precision",
    "SrEdgeError",
    "TileSpec",
    "Upscaler",
    "camera",
    "cluster",
    "deploy_network",
    "export_onnx",
    "load_model",
    "open_bundle",
    "open_frame_session",
    "open_model",
    "open_session",
    "open_upscaler",
    "to_static",
    "upscale",
    "upscale_file",
    "upscale_folder",
]

_HOMES = {
    "Bundle": "sr_edge.bundle",
    "FrameFormat": "sr_edge.spec",
    "Precision": "sr_edge.spec",
    "SrEdgeError": "sr_edge.errors",
    "TileSpec": "sr_edge.spec",
    "Upscaler": "sr_edge.upscaler",
    "camera": "sr_edge.camera",
    "cluster": "sr_edge.cluster",
    "deploy_network": "sr_edge.deploy",
    "export_onnx": "sr_edge.export",
    "load_model": "sr_edge.models",
    "open_bundle": "sr_edge.bundle",
    "open_frame_session": "sr_edge.model_sources",
    "open_model": "sr_edge.model_sources",
    "open_session": "sr_edge.model_sources",
    "open_upscaler": "sr_edge.model_sources",
    "to_static": "sr_edge.export",
    "upscale": "sr_edge.model_sources",
    "upscale_file": "sr_edge.upscaler",
    "upscale_folder": "sr_edge.upscaler",
}

__getattr__, __dir__ = lazy_face(__name__, _HOMES)
