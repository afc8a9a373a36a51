"""ONNX files of any origin as models: read, understood by running them, and brought into the form of our own graphs."""

from __future__ import annotations

from sr_edge.model_sources.onnx_file.model import OnnxModel, read_onnx_model

__all__ = ["OnnxModel", "read_onnx_model"]
