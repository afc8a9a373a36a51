"""INT8 graphs of one float graph by those who make them: ours, NNCF's two ways, ONNX Runtime's static quantization.

Every one is given the same calibration patches and nothing but its documented defaults, and leaves an ONNX file with
Q/DQ nodes that any session opens.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import nncf
import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from sr_edge.calibration import Account, Budget, Order, calibrate_within, calibration_patches, held_out_patches
from sr_edge.calibration import quantize_onnx as write_int8
from sr_edge.calibration.quality import BEST_KNOWN_DB
from sr_edge.spec import Precision, Spelling, TileSpec

Batch = npt.NDArray[np.float32]

OURS = "sr-edge"
NNCF, NNCF_ACCURACY, ORT = "NNCF default", "NNCF accuracy control", "onnxruntime static"
MAKERS = (OURS, NNCF, NNCF_ACCURACY, ORT)
ACCURACY_CONTROL_ROUNDS = 60  # each validates the whole graph; its default has no end


@dataclass(frozen=True)
class Material:
    """One float graph and the pictures that everyone calibrates on."""

    graph: Path
    patches: tuple[Batch, ...]
    images: Path
    tile: TileSpec

    @classmethod
    def of(cls, graph: Path, images: Path, tile: TileSpec) -> Material:
        return cls(graph, tuple(calibration_patches(images, tile)), images, tile)

    @property
    def input_name(self) -> str:
        return str(onnx.load(self.graph, load_external_data=False).graph.input[0].name)

    def held_out(self) -> list[Batch]:
        return [held.patch for held in held_out_patches(self.images, self.tile)]


def make(maker: str, material: Material, out: Path, max_drop_db: float, rest: Precision) -> Account | None:
    """Writes the INT8 graph of a maker; ours comes with its account."""
    if maker == OURS:
        return _ours(material, out, max_drop_db, rest)
    if maker == NNCF_ACCURACY:
        _nncf_with_accuracy_control(material, out, max_drop_db)
    else:
        {NNCF: _nncf, ORT: _onnxruntime}[maker](material, out)
    return None


def _ours(material: Material, out: Path, max_drop_db: float, rest: Precision) -> Account:
    order = Order(Budget(max_drop_db), runtime="openvino", rest=rest)
    held_out = held_out_patches(material.images, material.tile)
    account = calibrate_within(material.graph, material.patches, held_out, order)
    write_int8(material.graph, account.calibration, out, Spelling.U8)
    return account


def _nncf(material: Material, out: Path) -> None:
    onnx.save(nncf.quantize(onnx.load(material.graph), _dataset(material, material.patches)), out)


def _nncf_with_accuracy_control(material: Material, out: Path, max_drop_db: float) -> None:
    """The accuracy is PSNR of a picture that the float graph restores as well as the best known; so is ours judged."""
    reference = onnxruntime.InferenceSession(str(material.graph), providers=["CPUExecutionProvider"])
    wanted = {patch.tobytes(): reference.run(None, {material.input_name: patch})[0] for patch in material.held_out()}

    patch, output = material.held_out()[0], next(iter(wanted.values()))
    float_error = 10 ** (-BEST_KNOWN_DB[output.shape[-1] // patch.shape[-1]] / 10)

    def validate(model: onnx.ModelProto, data: Iterable[dict[str, Batch]]) -> tuple[float, None]:
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        errors = []
        for feed in data:
            (patch,) = feed.values()
            errors.append(np.mean(np.square(session.run(None, feed)[0] - wanted[patch.tobytes()])))
        return float(-10 * np.log10(float_error + np.mean(errors))), None

    quantized = nncf.quantize_with_accuracy_control(
        onnx.load(material.graph),
        calibration_dataset=_dataset(material, material.patches),
        validation_dataset=_dataset(material, material.held_out()),
        validation_fn=validate,
        max_drop=max_drop_db,
        advanced_accuracy_restorer_parameters=nncf.AdvancedAccuracyRestorerParameters(
            max_num_iterations=ACCURACY_CONTROL_ROUNDS
        ),
    )
    onnx.save(quantized, out)


def _dataset(material: Material, patches: Sequence[Batch]) -> nncf.Dataset:
    name = material.input_name
    return nncf.Dataset([{name: patch} for patch in patches])


class _Reader(CalibrationDataReader):
    def __init__(self, feeds: Iterator[dict[str, Batch]]) -> None:
        self._feeds = feeds

    def get_next(self) -> dict[str, Batch] | None:
        return next(self._feeds, None)


def _onnxruntime(material: Material, out: Path) -> None:
    prepared = out.with_suffix(".prepared.onnx")
    quant_pre_process(str(material.graph), str(prepared), skip_symbolic_shape=True)
    name = material.input_name
    reader = _Reader({name: patch} for patch in material.patches)
    quantize_static(str(prepared), str(out), reader, quant_format=QuantFormat.QDQ)
    prepared.unlink()
