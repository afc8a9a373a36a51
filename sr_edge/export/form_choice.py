"""The static form where a network has one, and its traced form where not."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

from sr_edge.errors import NotStatic
from sr_edge.export.metadata import Form
from sr_edge.export.onnx_file import ExportReport, export_onnx
from sr_edge.export.patches import Patch
from sr_edge.models import LoadedModel
from sr_edge.spec import TileSpec


def export_best_form(
    model: LoadedModel,
    tile: TileSpec,
    path: Path,
    *,
    targets: Sequence[str] = (),
    patches: Sequence[Patch] = (),
    progress: Callable[[str], None] = lambda step: None,
) -> ExportReport:
    """Writes the fp32 graph of the static form or, where there is none, of the traced form, and says why.

    Arguments and errors are those of `export_onnx`. A static form that exists and gives other pictures than the
    network, or that a target refuses, is an error and no reason to fall back.

    Returns:
        The report; its `form_reason` is empty for the static form.
    """
    try:
        return export_onnx(model, tile, path, targets=targets, patches=patches, progress=progress)
    except NotStatic as error:
        reason = f"{model.card.name} is exported as traced, because it has no static form: {error.__cause__ or error}"
    report = export_onnx(model, tile, path, form=Form.TRACED, targets=targets, patches=patches, progress=progress)
    return dataclasses.replace(report, form_reason=reason)
