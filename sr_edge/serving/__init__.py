"""Serves bundles in other programs: model repositories of Triton Inference Server, and trtexec commands."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sr_edge.lazy_face import lazy_face

if TYPE_CHECKING:
    from sr_edge.serving.layout import InstanceKind, ServingBackend, TritonOptions
    from sr_edge.serving.served_graph import ServedGraph, load_served_graph
    from sr_edge.serving.triton import TritonModel, write_triton_model
    from sr_edge.serving.trtexec import TrtexecFiles, build_trtexec_command

__all__ = [
    "InstanceKind",
    "ServedGraph",
    "ServingBackend",
    "TritonModel",
    "TritonOptions",
    "TrtexecFiles",
    "build_trtexec_command",
    "load_served_graph",
    "write_triton_model",
]

_HOMES = {
    "InstanceKind": "sr_edge.serving.layout",
    "ServedGraph": "sr_edge.serving.served_graph",
    "ServingBackend": "sr_edge.serving.layout",
    "TritonModel": "sr_edge.serving.triton",
    "TritonOptions": "sr_edge.serving.layout",
    "TrtexecFiles": "sr_edge.serving.trtexec",
    "build_trtexec_command": "sr_edge.serving.trtexec",
    "load_served_graph": "sr_edge.serving.served_graph",
    "write_triton_model": "sr_edge.serving.triton",
}

__getattr__, __dir__ = lazy_face(__name__, _HOMES)
