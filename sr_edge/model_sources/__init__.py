"""What the user named, as something that can run or be deployed: a bundle, an ONNX file, a checkpoint or a name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sr_edge.lazy_face import lazy_face

if TYPE_CHECKING:
    from sr_edge.model_sources.engine_choice import ChosenEngine, EngineChoice, choose_engine
    from sr_edge.model_sources.kinds import SourceKind, source_kind
    from sr_edge.model_sources.network_choice import NetworkChoice
    from sr_edge.model_sources.networks import load_network
    from sr_edge.model_sources.onnx_file import OnnxModel, read_onnx_model
    from sr_edge.model_sources.open import open_deployed, open_model
    from sr_edge.model_sources.sessions import open_engine, open_frame_session, open_session
    from sr_edge.model_sources.tile_lines import tile_reporter
    from sr_edge.model_sources.upscaling import open_upscaler, upscale

_HOMES = {
    "ChosenEngine": "sr_edge.model_sources.engine_choice",
    "EngineChoice": "sr_edge.model_sources.engine_choice",
    "NetworkChoice": "sr_edge.model_sources.network_choice",
    "OnnxModel": "sr_edge.model_sources.onnx_file",
    "SourceKind": "sr_edge.model_sources.kinds",
    "choose_engine": "sr_edge.model_sources.engine_choice",
    "load_network": "sr_edge.model_sources.networks",
    "open_deployed": "sr_edge.model_sources.open",
    "open_engine": "sr_edge.model_sources.sessions",
    "open_frame_session": "sr_edge.model_sources.sessions",
    "open_model": "sr_edge.model_sources.open",
    "open_session": "sr_edge.model_sources.sessions",
    "open_upscaler": "sr_edge.model_sources.upscaling",
    "read_onnx_model": "sr_edge.model_sources.onnx_file",
    "source_kind": "sr_edge.model_sources.kinds",
    "tile_reporter": "sr_edge.model_sources.tile_lines",
    "upscale": "sr_edge.model_sources.upscaling",
}

__all__ = [
    "ChosenEngine",
    "EngineChoice",
    "NetworkChoice",
    "OnnxModel",
    "SourceKind",
    "choose_engine",
    "load_network",
    "open_deployed",
    "open_engine",
    "open_frame_session",
    "open_model",
    "open_session",
    "open_upscaler",
    "read_onnx_model",
    "source_kind",
    "tile_reporter",
    "upscale",
]

__getattr__, __dir__ = lazy_face(__name__, _HOMES)
