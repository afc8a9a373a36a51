"""INT8 graphs of one float graph by those who make them: ours, NNCF's two ways, ONNX Runtime's static quantization.

Every one is given the same calibration patches and nothing but its documented defaults, and leaves an ONNX file with
Q/DQ nodes that any session opens. Accuracy control, which has no end of its own, is stopped after MOST_MINUTES.

NNCF's two ways need the extra [comparison]; it is imported only where they run.
"""

from __future__ import annotations

import importlib.util
import multiprocessing
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime  # type: ignore[import-untyped]
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static  # type: ignore[import-untyped]
from onnxruntime.quantization.shape_inference import quant_pre_process  # type: ignore[import-untyped]

from sr_edge.calibration import Budget, CalibrationConfig, calibrate_within, calibration_patches, held_out_patches
from sr_edge.calibration import quantize_onnx as write_int8
from sr_edge.calibration.graph.probe import Feeds
from sr_edge.calibration.selection.quality import BEST_KNOWN_DB
from sr_edge.errors import NothingToQuantize
from sr_edge.spec import ActivationType, Precision, TileSpec

Batch = npt.NDArray[np.float32]

OURS = "sr-edge"
NNCF, NNCF_ACCURACY, ORT = "NNCF default", "NNCF accuracy control", "onnxruntime static"
MAKERS = (OURS, NNCF, NNCF_ACCURACY, ORT)
MOST_MINUTES = 5.0


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

    def feeds(self, patches: Sequence[Batch]) -> list[dict[str, Batch]]:
        """All inputs of the graph; controls, which only our own calibration knows of, at their defaults."""
        feeds = Feeds(onnx.load(self.graph))
        return [feeds.of(patch) for patch in patches]


@dataclass(frozen=True)
class Made:
    """What to know of an INT8 graph beside its file: how many layers are INT8 where that is told, and what the rest
    is to run in.
    """

    float_precision: Precision
    int8_layers: int | None = None


def make(maker: str, material: Material, out: Path, max_drop_db: float, float_precision: Precision) -> Made:
    """Writes the INT8 graph of a maker."""
    if maker == OURS:
        return _ours(material, out, max_drop_db, float_precision)
    if maker == NNCF_ACCURACY:
        _within_minutes(_nncf_with_accuracy_control, material, out, max_drop_db)
    else:
        {NNCF: _nncf, ORT: _onnxruntime}[maker](material, out)
    return Made(float_precision)


def _ours(material: Material, out: Path, max_drop_db: float, float_precision: Precision) -> Made:
    """As `deploy` does it: where nothing keeps the budget beside a bf16 rest, fp32."""
    config = CalibrationConfig(Budget(max_drop_db), runtime="openvino", float_precision=float_precision)
    held_out = held_out_patches(material.images, material.tile)
    try:
        report = calibrate_within(material.graph, material.patches, held_out, config)
    except NothingToQuantize:
        if float_precision is Precision.FP32:
            raise
        return _ours(material, out, max_drop_db, Precision.FP32)
    write_int8(material.graph, report.calibration, out, ActivationType.UINT8)
    return Made(float_precision, len(report.calibration.int8_nodes))


def _within_minutes(work: Callable[..., None], *arguments: object) -> None:
    """In a process of its own, which can be stopped; raises TimeoutError then, or what the process said."""
    context = multiprocessing.get_context("spawn")
    said: multiprocessing.SimpleQueue[str] = context.SimpleQueue()
    process = context.Process(target=_saying, args=(said, work, *arguments))
    process.start()
    process.join(60 * MOST_MINUTES)
    if process.is_alive():
        process.kill()
        process.join()
        raise TimeoutError(f"not done after {MOST_MINUTES:g} minutes")
    if process.exitcode:
        raise RuntimeError(said.get() if not said.empty() else f"it ended with code {process.exitcode}")


def _saying(said: multiprocessing.SimpleQueue[str], work: Callable[..., None], *arguments: object) -> None:
    try:
        work(*arguments)
    except Exception as error:  # these libraries raise whatever they like
        said.put(f"{type(error).__name__}: {error}"[:1000])
        raise SystemExit(1) from None


def missing_package(makers: Sequence[str]) -> str:
    """What to install for these makers; "" where they can run."""
    needed = [maker for maker in makers if maker in (NNCF, NNCF_ACCURACY)]
    if not needed or importlib.util.find_spec("nncf") is not None:
        return ""
    return (
        f"{', '.join(needed)} need the package nncf: run pip install --constraint constraints.txt '.[comparison]', or "
        f"choose other makers, such as --makers '{OURS}' '{ORT}'"
    )


def _nncf(material: Material, out: Path) -> None:
    import nncf

    onnx.save(nncf.quantize(onnx.load(material.graph), nncf.Dataset(material.feeds(material.patches))), out)


def _nncf_with_accuracy_control(material: Material, out: Path, max_drop_db: float) -> None:
    """The accuracy is PSNR of a picture that the float graph restores as well as the best known; so is ours judged."""
    import nncf

    reference = onnxruntime.InferenceSession(str(material.graph), providers=["CPUExecutionProvider"])
    name, held_out = material.input_name, material.held_out()
    wanted = {feed[name].tobytes(): reference.run(None, feed)[0] for feed in material.feeds(held_out)}

    patch, output = held_out[0], next(iter(wanted.values()))
    float_error = 10 ** (-BEST_KNOWN_DB[output.shape[-1] // patch.shape[-1]] / 10)

    def validate(model: onnx.ModelProto, data: Iterable[dict[str, Batch]]) -> tuple[float, None]:
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        errors = []
        for feed in data:
            errors.append(np.mean(np.square(session.run(None, feed)[0] - wanted[feed[name].tobytes()])))
        return float(-10 * np.log10(float_error + np.mean(errors))), None

    quantized = nncf.quantize_with_accuracy_control(
        onnx.load(material.graph),
        calibration_dataset=nncf.Dataset(material.feeds(material.patches)),
        validation_dataset=nncf.Dataset(material.feeds(held_out)),
        validation_fn=validate,
        max_drop=max_drop_db,
    )
    onnx.save(quantized, out)


class _Reader(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
    def __init__(self, feeds: Iterator[dict[str, Batch]]) -> None:
        self._feeds = feeds

    def get_next(self) -> dict[str, Batch] | None:
        return next(self._feeds, None)


def _onnxruntime(material: Material, out: Path) -> None:
    prepared = out.with_suffix(".prepared.onnx")
    quant_pre_process(str(material.graph), str(prepared), skip_symbolic_shape=True)
    reader = _Reader(iter(material.feeds(material.patches)))
    quantize_static(str(prepared), str(out), reader, quant_format=QuantFormat.QDQ)
    prepared.unlink()
