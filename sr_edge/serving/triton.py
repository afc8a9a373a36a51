"""Adds a bundle to a model repository of NVIDIA's Triton Inference Server: NAME/config.pbtxt and the model in NAME/1/.

The configuration is `inference.ModelConfig` in protobuf's text format (protobuf/model_config.proto of
github.com/triton-inference-server/common). The graphs have batch 1, so max_batch_size is 0 and the shapes include
the batch; concurrent requests are run by several instances.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import onnx
from onnx import TensorProto

from sr_edge.bundle import Bundle
from sr_edge.errors import ExportError, UsageError
from sr_edge.export.graph.view import graph_inputs
from sr_edge.files.unfinished import unfinished_folder
from sr_edge.serving.layout import TritonOptions
from sr_edge.serving.served_graph import load_served_graph
from sr_edge.spec import ModelCard, Precision

CONFIG_FILE = "config.pbtxt"
VERSION_FOLDER = "1"
_DATA_TYPES: Mapping[int, str] = {
    TensorProto.FLOAT: "TYPE_FP32",
    TensorProto.FLOAT16: "TYPE_FP16",
    TensorProto.UINT8: "TYPE_UINT8",
}


@dataclass(frozen=True)
class TritonModel:
    """A written model: its name in the server, its folder, the file of its graph in the bundle, and config.pbtxt.

    Attributes:
        name: Name of the model in the server.
        folder: Its folder in the repository.
        graph: Path of the graph in the bundle.
        config: Text of config.pbtxt.
    """

    name: str
    folder: Path
    graph: str
    config: str


def write_triton_model(bundle: Bundle, repository: Path, options: TritonOptions) -> TritonModel:
    """Adds a model to a repository, which is created if it does not exist; the complete model is moved into place.

    Args:
        bundle: The open bundle.
        repository: The folder of the model repository.
        options: How the server serves the model.

    Raises:
        UsageError: The repository has a model of that name, or cannot be written.
        PrecisionUnavailable: The bundle has no such graph.
        BundleError: The bundle is damaged.
    """
    graph = load_served_graph(bundle, options.backend, options.precision, options.float_precision, options.io)
    name = _model_name(bundle.manifest.card, options.precision)
    target = repository / name
    if target.exists():
        raise UsageError(
            f"the model {target} exists already", found=target, remedy="remove it, or choose another folder"
        )
    config = build_triton_config(name, graph.model, options)
    _require_folder(repository)
    with unfinished_folder(target) as staging:
        version = staging / VERSION_FOLDER
        version.mkdir()
        (staging / CONFIG_FILE).write_text(config, encoding="utf-8")
        if options.engine is not None:
            shutil.copyfile(options.engine, version / options.model_file)
        else:
            (version / options.model_file).write_bytes(graph.data)
        staging.chmod(0o755)
        staging.rename(target)
    return TritonModel(name, target, graph.artifact.file, config)


def build_triton_config(name: str, model: onnx.ModelProto, options: TritonOptions) -> str:
    """Builds the text of config.pbtxt for a graph, or for an engine that was built from it.

    Raises:
        ExportError: An input or output has a type other than FP32, FP16 and UINT8.
    """
    inputs = [_tensor_entry("input", value) for value in graph_inputs(model)]
    outputs = [_tensor_entry("output", value) for value in model.graph.output]
    lines = [
        f'name: "{name}"',
        f'backend: "{options.backend}"',
        f'default_model_filename: "{options.model_file}"',
        "max_batch_size: 0",
        *inputs,
        *outputs,
        f"instance_group [ {{ count: {options.instances} kind: KIND_{options.instance_kind.name} }} ]",
    ]
    return "\n".join(lines) + "\n"


def _tensor_entry(direction: str, value: onnx.ValueInfoProto) -> str:
    kind = value.type.tensor_type
    if kind.elem_type not in _DATA_TYPES:
        data_type = TensorProto.DataType.Name(kind.elem_type).lower()
        supported = tuple(TensorProto.DataType.Name(number).lower() for number in _DATA_TYPES)
        raise ExportError(
            f"the graph's {direction} {value.name!r} is of type {data_type}, whereas {', '.join(supported)} can "
            "be served",
            found=data_type,
            wanted=supported,
            remedy="serve a graph that sr-edge wrote",
        )
    dims = ", ".join(map(str, _dims(value)))
    return f'{direction} [ {{ name: "{value.name}" data_type: {_DATA_TYPES[kind.elem_type]} dims: [ {dims} ] }} ]'


def _dims(value: onnx.ValueInfoProto) -> Iterator[int]:
    """The dimensions with the batch; -1 for dynamic ones."""
    for dim in value.type.tensor_type.shape.dim:
        yield int(dim.dim_value) if dim.HasField("dim_value") else -1


def _model_name(card: ModelCard, precision: Precision) -> str:
    """The name of the model's folder, which Triton uses as the name of the model."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", f"{card.name}-x{card.scale}-{precision}")


def _require_folder(repository: Path) -> None:
    try:
        repository.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"the folder {repository} cannot be created: {error.strerror}",
            found=repository,
            remedy="choose another folder",
        ) from error
