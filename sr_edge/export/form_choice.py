"""Export of the static form of a network or, where it has none, of its traced form."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from sr_edge.errors import NotStatic
from sr_edge.export.export import ExportReport, export_onnx
from sr_edge.export.graph.metadata import Form
from sr_edge.export.graph.patches import Patch
from sr_edge.export.passes.speed_passes import SpeedPass
from sr_edge.models import LoadedModel
from sr_edge.spec import TileSpec, member_of


def export_best_form(
    model: LoadedModel,
    tile: TileSpec | str,
    path: Path,
    *,
    form: Form | str | None = None,
    passes: Sequence[SpeedPass] | None = None,
    targets: Sequence[str] = (),
    patches: Sequence[Patch] = (),
    progress: Callable[[str], None] = lambda step: None,
) -> ExportReport:
    """Writes the fp32 graph of the static form or, where there is none, of the traced form, unless one is asked for.

    The traced form is no fallback for a static form that computes something else than the network, or that a target
    refuses: both are errors.

    Args:
        model: the network and its card.
        tile: input size in low-resolution pixels.
        path: the .onnx file to write.
        form: the form to write; None chooses it.
        passes: the passes that make the graph faster; None applies those that are a gain on every target.
        targets: the runtimes that must accept the graph.
        patches: photographs of the tile's size to compare on.
        progress: called with the name of each step before it starts.

    Returns:
        The report; its `form_reason` says why the traced form was exported, and is empty for the static form.

    Raises:
        SrEdgeError: the errors of `export_onnx`.
    """
    tile = TileSpec.of(tile)
    form = None if form is None else member_of(Form, form, "form")
    export = partial(export_onnx, model, tile, path, passes=passes, targets=targets, patches=patches, progress=progress)
    try:
        return export(form=form or Form.STATIC)
    except NotStatic as error:
        if form is not None:
            raise
        reason = f"{model.card.name} is exported as traced, because it has no static form: {error.__cause__ or error}"
    return dataclasses.replace(export(form=Form.TRACED), form_reason=reason)
