"""The graphs among which a runtime chooses: made by passes for timing, and verified where one of them is chosen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sr_edge.controls import control_values
from sr_edge.deploy.graphs import FLOAT_GRAPHS, FloatExports, GraphFile, with_frames
from sr_edge.deploy.pass_timing import Candidates, Passes
from sr_edge.deploy.plan import DeployPlan
from sr_edge.errors import ExportError
from sr_edge.export import accelerate_onnx, derive_onnx, graph_digest, read_metadata, require_deployable
from sr_edge.export.checks.parity import difference
from sr_edge.export.checks.targets import readers_of
from sr_edge.export.derived import take_frames
from sr_edge.export.export import save_model
from sr_edge.export.graph.inputs import Tensor, feed_of
from sr_edge.export.graph.onnxruntime_run import open_onnxruntime, run_session
from sr_edge.export.graph.view import read_onnx
from sr_edge.export.passes.speed_passes import Gain, SpeedPass, apply_passes
from sr_edge.frames import Batch
from sr_edge.models import LoadedModel
from sr_edge.printable import one_line

AGREEMENT_DB = 45.0
"""The smallest PSNR of an INT8 graph after passes relative to the one before; rounding errors stay well above it."""


class PassGraphs:
    """The graphs of one precision with further passes, written to a folder when they are needed.

    Attributes:
        candidates: What there is to choose from.
        failures: Why a pass could not be applied, by its name.
    """

    def __init__(
        self, shared: Path, plain: Path | None, passes: Passes, every: Sequence[SpeedPass], folder: Path
    ) -> None:
        """Makes a graph with each of the passes that need a measurement, and one with all of them.

        Args:
            shared: The graph that all runtimes share.
            plain: The graph without passes; None where there is none.
            passes: The passes of the shared graph that the plain one does not have.
            every: All passes.
            folder: Where graphs are written.
        """
        self.failures: dict[str, str] = {}
        self._every = every
        self._folder = folder
        self._shared = passes
        self._graph = read_onnx(shared)
        self._files = {passes: shared} | ({(): plain} if plain and passes else {})
        further = [speed_pass.name for speed_pass in every if speed_pass.gain is Gain.MEASUREMENT]
        single = [made for name in further if (made := self._made({name})) != passes]
        all_passes = self._made(set(further)) if len(single) > 1 else passes
        plain_passes = () if () in self._files else passes
        self.candidates = Candidates(passes, plain_passes, all_passes, tuple(single), self._combined)

    def sequence(self, passes: Passes) -> list[SpeedPass]:
        """The passes that turn the shared graph into one of the candidates.

        Those of the shared graph that come after the first further pass are applied once more, since they may find
        something to do after it.
        """
        further = set(passes) - set(self._shared)
        names = [speed_pass.name for speed_pass in self._every]
        first = min((names.index(name) for name in further), default=len(names))
        return [each for each in self._every[first:] if each.name in passes]

    def file(self, passes: Passes) -> Path:
        """The file of one of the candidates, or of their combination."""
        return self._files[passes]

    def has(self, passes: Passes) -> bool:
        """Whether there is a graph with exactly these passes; it is made if it is a combination of candidates."""
        return passes in self._files or self._made(set(passes) - set(self._shared)) == passes

    def digests(self) -> dict[str, str]:
        """The digest of each candidate, by its passes."""
        return {",".join(passes): graph_digest(read_onnx(self._files[passes])) for passes in self.candidates.first}

    def _combined(self, several: Sequence[Passes]) -> Passes:
        return self._made({name for passes in several for name in passes} - set(self._shared))

    def _made(self, further: set[str]) -> Passes:
        """The passes of the shared graph and further ones, without those that change nothing; its file is written."""
        wanted = self._ordered({*self._shared, *further})
        try:
            graph, names = apply_passes(self._graph, self.sequence(wanted))
            made = self._ordered({*self._shared, *names})
            if made not in self._files:
                self._folder.mkdir(parents=True, exist_ok=True)
                file = self._folder / f"{len(self._files)}.onnx"
                save_model(graph, file)
                self._files[made] = file
        except Exception as error:  # a pass that fails on a graph that nobody foresaw must not prevent the deployment
            self.failures[", ".join(sorted(further))] = one_line(str(error) or type(error).__name__)
            return self._shared
        return made

    def _ordered(self, names: set[str]) -> Passes:
        return tuple(speed_pass.name for speed_pass in self._every if speed_pass.name in names)


def write_float_graphs(
    exports: FloatExports,
    model: LoadedModel,
    plan: DeployPlan,
    candidates: PassGraphs,
    passes: Passes,
    runtimes: tuple[str, ...],
    patches: Sequence[Batch],
    staging: Path,
) -> tuple[GraphFile, ...]:
    """Writes the fp32 graphs of certain runtimes, verified like those of all runtimes.

    Args:
        exports: The float graphs of all runtimes.
        model: The network.
        plan: The deployment.
        candidates: The candidates.
        passes: The passes of the one that was chosen.
        runtimes: The runtimes.
        patches: Patches to compare on.
        staging: The folder in which the bundle is built.

    Raises:
        ExportError: The graph with these passes fails a check.
    """
    floats, *frames = (
        _for_runtimes(graph, runtimes, passes)
        for graph in (FLOAT_GRAPHS[0], *with_frames(FLOAT_GRAPHS[0], plan.nv12_colour))
    )
    base = exports.reports[0] if passes else exports.plain
    sequence, file = candidates.sequence(passes), staging / floats.file
    report = accelerate_onnx(base, model, file, sequence, targets=plan.targets, patches=patches)
    applied = report.passes[len(exports.plain.passes) :]
    if set(applied) != set(passes):
        reasons = [remark for remark in report.remarks if remark not in base.remarks]
        raise ExportError("; ".join(reasons) or "another graph was made", found=applied, wanted=passes)
    for graph in frames:
        derive_onnx(
            report,
            staging / graph.file,
            io=graph.io,
            nv12_colour=graph.nv12_colour,
            targets=plan.targets,
            patches=patches,
        )
    return floats, *frames


def write_int8_graphs(
    shared: GraphFile,
    plan: DeployPlan,
    passes: Passes,
    runtimes: tuple[str, ...],
    made: Path,
    patches: Sequence[Batch],
    staging: Path,
) -> tuple[GraphFile, ...]:
    """Writes the INT8 graphs of certain runtimes, compared with the INT8 graph of all runtimes.

    Args:
        shared: That graph, with float frames.
        plan: The deployment.
        passes: The passes that were applied to it.
        runtimes: The runtimes.
        made: The file of the graph after the passes.
        patches: Patches to compare on.
        staging: The folder in which the bundle is built.

    Raises:
        ExportError: The graph differs, or a target refuses it.
    """
    _require_equal_output(staging / shared.file, made, patches)
    require_deployable(made, plan.targets, static=False, intended=readers_of(shared.activation_type))
    floats, *frames = (
        _for_runtimes(graph, runtimes, passes) for graph in (shared, *with_frames(shared, plan.nv12_colour))
    )
    save_model(read_onnx(made), staging / floats.file)
    for graph in frames:
        save_model(read_onnx(made), staging / graph.file)
        take_frames(staging / graph.file, graph.io, graph.nv12_colour)
    return floats, *frames


def _for_runtimes(graph: GraphFile, runtimes: tuple[str, ...], passes: Passes) -> GraphFile:
    """The file for certain runtimes, for example model.openvino.uint8.onnx beside model.uint8.onnx."""
    stem, _, rest = graph.file.partition(".")
    return replace(graph, file=f"{stem}.{'-'.join(runtimes)}.{rest}", runtimes=runtimes, passes=passes)


def _require_equal_output(reference: Path, file: Path, patches: Sequence[Batch]) -> None:
    """Compares two INT8 graphs in ONNX Runtime without its optimizations, with all controls at their defaults."""
    sessions = [open_onnxruntime(path, optimize=False) for path in (reference, file)]
    controls = control_values(read_metadata(read_onnx(reference)).card.controls)
    for patch in patches:
        expected, actual = (_output_of(session, patch, controls) for session in sessions)
        psnr_db = difference(actual, expected).psnr_db
        if psnr_db < AGREEMENT_DB:
            raise ExportError(
                f"the INT8 graph after passes differs from the one before by a PSNR of {psnr_db:.1f} dB",
                found=psnr_db,
                wanted=AGREEMENT_DB,
            )


def _output_of(session: Any, patch: Batch, controls: Mapping[str, float]) -> Tensor:
    name, output = session.get_inputs()[0].name, session.get_outputs()[0].name
    return run_session(session, feed_of(name, patch, controls))[output]
