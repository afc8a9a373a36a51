"""ONNX files of any origin as models: read, understood by running them, and brought into the form of our own graphs."""

from __future__ import annotations

from sr_edge.model_sources.onnx_file.interpretation import read_onnx_model
from sr_edge.model_sources.onnx_file.model import OnnxModel

__all__ = ["OnnxModel", "read_onnx_model"]
