"""A bundle as a model repository of NVIDIA's Triton Inference Server: NAME/config.pbtxt and NAME/1/ with the model.

The configuration is a text of `inference.ModelConfig` (protobuf/model_config.proto of
github.com/triton-inference-server/common). Our graphs are of batch 1, so max_batch_size is 0 and the shapes are whole;
requests that come together are run by several instances.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import onnx
from onnx import TensorProto

from sr_edge.bundle import Bundle
from sr_edge.errors import ExportError, UsageError
from sr_edge.export.graph import true_inputs
from sr_edge.export.served_graph import served_graph
from sr_edge.export.serving import TritonPlan
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
    """What was written: the model's name in the server, its folder, the graph it comes from, and the configuration."""

    name: str
    folder: Path
    graph: str
    config: str


def write_triton_model(bundle: Bundle, repository: Path, plan: TritonPlan) -> TritonModel:
    """Adds one model to a repository, which is made where it is not there yet; the model appears in one move.

    Raises:
        UsageError: the repository has a model of that name, or cannot be written.
        PrecisionUnavailable: the bundle has no such graph.
        BundleError: the bundle is damaged.
    """
    graph = served_graph(bundle, plan.backend, plan.precision, plan.float_precision, plan.io)
    name = _model_name(bundle.manifest.card, plan.precision)
    target = repository / name
    if target.exists():
        raise UsageError(
            f"the model {target} exists already", found=target, remedy="remove it, or choose another folder"
        )
    config = triton_config(name, graph.model, plan)
    _require_folder(repository)
    staging = Path(tempfile.mkdtemp(prefix=f".{name}.", dir=repository))
    try:
        version = staging / VERSION_FOLDER
        version.mkdir()
        (staging / CONFIG_FILE).write_text(config, encoding="utf-8")
        if plan.engine is not None:
            shutil.copyfile(plan.engine, version / plan.model_file)
        else:
            (version / plan.model_file).write_bytes(graph.data)
        staging.chmod(0o755)
        staging.rename(target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return TritonModel(name, target, graph.artifact.file, config)


def triton_config(name: str, model: onnx.ModelProto, plan: TritonPlan) -> str:
    """The text of config.pbtxt for a graph, or for an engine that was built from it.

    Raises:
        ExportError: the graph takes or gives a type that our graphs have not.
    """
    inputs = [_tensor("input", value) for value in true_inputs(model)]
    outputs = [_tensor("output", value) for value in model.graph.output]
    lines = [
        f'name: "{name}"',
        f'backend: "{plan.backend}"',
        f'default_model_filename: "{plan.model_file}"',
        "max_batch_size: 0",
        *inputs,
        *outputs,
        f"instance_group [ {{ count: {plan.instances} kind: KIND_{plan.runs_on.name} }} ]",
    ]
    return "\n".join(lines) + "\n"


def _tensor(side: str, value: onnx.ValueInfoProto) -> str:
    kind = value.type.tensor_type
    if kind.elem_type not in _DATA_TYPES:
        found = TensorProto.DataType.Name(kind.elem_type).lower()
        wanted = tuple(TensorProto.DataType.Name(known).lower() for known in _DATA_TYPES)
        raise ExportError(
            f"the graph's {side} {value.name!r} is of type {found}, where {', '.join(wanted)} can be served",
            found=found,
            wanted=wanted,
            remedy="serve a graph that sr-edge wrote",
        )
    dims = ", ".join(map(str, _dims(value)))
    return f'{side} [ {{ name: "{value.name}" data_type: {_DATA_TYPES[kind.elem_type]} dims: [ {dims} ] }} ]'


def _dims(value: onnx.ValueInfoProto) -> Iterator[int]:
    """Sizes, batch included; -1 where any will do."""
    for dim in value.type.tensor_type.shape.dim:
        yield int(dim.dim_value) if dim.HasField("dim_value") else -1


def _model_name(card: ModelCard, precision: Precision) -> str:
    """Triton takes a folder's name for the model's."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", f"{card.name}-x{card.scale}-{precision}")


def _require_folder(repository: Path) -> None:
    try:
        repository.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"the folder {repository} cannot be made: {error.strerror}",
            found=repository,
            remedy="choose another folder",
        ) from error
