"""Makes a temporary bundle of an ONNX file, so that everything that runs bundles runs the file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import onnx

from sr_edge.bundle import GOLDEN_MIN_PSNR_DB, Artifact, ArtifactKind, Bundle, GoldenFrame, Manifest, sha256_of
from sr_edge.errors import ExportError
from sr_edge.export.graph.inputs import feed_of
from sr_edge.export.graph.onnxruntime_run import run_onnxruntime
from sr_edge.files.unfinished import temporary_folder
from sr_edge.frames import Batch, Picture, frame_from_batch
from sr_edge.image_files import write_picture
from sr_edge.model_sources.onnx_file import OnnxModel
from sr_edge.model_sources.onnx_file.ports import Layout
from sr_edge.model_sources.onnx_file.precisions import GraphPrecisions
from sr_edge.model_sources.onnx_file.rewrites.frames import INPUT
from sr_edge.model_sources.onnx_file.sizes import photograph
from sr_edge.spec import FrameFormat, Precision, TileSpec

RANDOM_OPERATORS = frozenset(
    {"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Bernoulli", "Multinomial", "Dropout"}
)
FLOAT32 = GraphPrecisions(Precision.FP32, Precision.FP32, None)


def bundle_of(model: OnnxModel, tile: TileSpec) -> Bundle:
    """Writes a temporary bundle, which is removed when it is closed.

    It contains the file itself where sr-edge wrote it, in the precision of the file, and a float32 graph unless the
    file is quantized. The output of the user's file for a photograph is its golden frame, by which `selftest` and
    `bench` judge each runtime; the float32 graph is compared with it here.

    Raises:
        TileError: The file does not take the tile.
        ExportError: The graph cannot be brought into the form that runtimes take, or then computes something else.
    """
    model.require_tile(tile)
    with ExitStack() as unpacked:
        folder = unpacked.enter_context(temporary_folder("onnx"))
        artifacts = write_artifacts(model, tile, folder)
        golden = _golden(model, artifacts, tile, folder)
        manifest = Manifest(model.card, tile, artifacts, golden)
        return Bundle(model.path, folder, manifest, unpacked.pop_all(), model.changes)


def write_artifacts(model: OnnxModel, tile: TileSpec, folder: Path) -> tuple[Artifact, ...]:
    """Writes the graphs of an ONNX file that runtimes can open: the file itself and its float32 form, or one of them.

    The file itself is among them in a precision other than float32, or if sr-edge wrote it.
    """
    shape = (1, model.card.input_channels, tile.height, tile.width)

    def written(graph: onnx.ModelProto, precisions: GraphPrecisions, io: FrameFormat) -> Artifact:
        file = folder / f"model.{precisions.precision}.onnx"
        file.write_bytes(graph.SerializeToString())
        return Artifact(
            file.name,
            ArtifactKind.ONNX,
            precisions.precision,
            precisions.float_precision,
            precisions.activation_type,
            io,
            shape,
            sha256_of(file),
        )

    artifacts = []
    own = model.precisions
    if model.metadata is not None:
        artifacts.append(written(_sized(model, tile), own, model.metadata.io))
    elif own.precision is not Precision.FP32 and model.has_runtime_frames:
        artifacts.append(written(_sized(model, tile), own, FrameFormat.FLOAT_NCHW))
    if own.activation_type is None and not (artifacts and own.precision is Precision.FP32):
        artifacts.append(written(model.graph(tile), FLOAT32, FrameFormat.FLOAT_NCHW))
    elif not artifacts:
        artifacts.append(written(model.graph(tile), own, FrameFormat.FLOAT_NCHW))
    return tuple(artifacts)


def _sized(model: OnnxModel, tile: TileSpec) -> onnx.ModelProto:
    """The file with batch 1 and the height and width of a tile in place of dynamic sizes."""
    if all(isinstance(size, int) for size in model.input.port.shape):
        return model.original
    sized = onnx.ModelProto()
    sized.CopyFrom(model.original)
    ends = ((sized.graph.input, model.input.port, 1), (sized.graph.output, model.output.port, model.card.scale))
    for values, port, factor in ends:
        sides = (factor * tile.height, factor * tile.width)
        shape = (1, port.channels, *sides) if port.layout is Layout.NCHW else (1, *sides, port.channels)
        value = next(value for value in values if value.name == port.name)
        value.CopyFrom(onnx.helper.make_tensor_value_info(port.name, value.type.tensor_type.elem_type, shape))
    sized.graph.ClearField("value_info")
    return sized


def _golden(model: OnnxModel, artifacts: Sequence[Artifact], tile: TileSpec, folder: Path) -> tuple[GoldenFrame, ...]:
    """Compares the float32 graph with the user's own file on a photograph, and writes the latter's output."""
    levels = np.rint(255 * photograph(tile, model.card.input_channels))
    batch = np.asarray(levels / np.float32(255), np.float32)
    wanted = model.run_original(batch)
    if not np.isfinite(wanted).all():
        raise ExportError(
            f"{model.path} returns NaN or infinite values for a photograph",
            wanted="finite values",
            remedy="check its weights and --input-range",
        )
    for artifact in artifacts:
        if artifact.precision is Precision.FP32 and artifact.io is FrameFormat.FLOAT_NCHW:
            _require_same(model, folder / artifact.file, batch, wanted)
    if {model.card.input_channels, model.card.output_channels} - {1, 3}:
        return ()  # golden frames are gray or RGB
    for name, picture in (("input.png", batch), ("output.png", wanted)):
        write_picture(folder / name, Picture(frame_from_batch(picture)))
    precisions = dict.fromkeys(artifact.precision for artifact in artifacts)
    if Precision.FP32 in precisions:
        precisions[Precision.BF16] = None  # runtimes compute it from the float32 file
    digests = [sha256_of(folder / name) for name in ("input.png", "output.png")]
    return tuple(
        GoldenFrame("input.png", "output.png", precision, GOLDEN_MIN_PSNR_DB[precision], digests[0], digests[1])
        for precision in precisions
    )


def _require_same(model: OnnxModel, graph: Path, batch: Batch, wanted: Batch) -> None:
    """Raises ExportError where the graph that runtimes take does not compute what the user's file computes."""
    controls = {control.name: control.default for control in model.card.controls}
    (output,) = run_onnxruntime(graph, feed_of(INPUT, batch, controls)).values()
    psnr_db = _psnr_db(output, wanted)
    limit = GOLDEN_MIN_PSNR_DB[model.precisions.precision]
    if psnr_db >= limit:
        return
    if _psnr_db(model.run_original(batch), wanted) < limit:
        operators = sorted({node.op_type for node in model.original.graph.node} & RANDOM_OPERATORS)
        raise ExportError(
            f"{model.path} returns a different picture in each run ({', '.join(operators) or 'it is random'})",
            found=tuple(operators),
            wanted="the same picture in each run",
            remedy="export the network in eval mode, without noise",
        )
    raise ExportError(
        f"the float32 graph made of {model.path} reaches only {psnr_db:.1f} dB against the file itself on a "
        f"photograph, {limit:g} required",
        found=psnr_db,
        wanted=limit,
        remedy="please report a bug with this file attached",
    )


def _psnr_db(first: Batch, second: Batch) -> float:
    """PSNR of two outputs of any number of channels, rounded to 8 bits."""
    levels = [np.rint(255 * np.clip(batch, 0, 1)) for batch in (first, second)]
    error = float(np.mean(np.square(levels[0] - levels[1])))
    return 10 * math.log10(255**2 / error) if error else math.inf
