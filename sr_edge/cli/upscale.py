"""`sr-edge upscale`: picture files or folders of them through a bundle."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sr_edge.cli.options import BundlePath, Device, Json, Settings, Threads, Trust, read_settings
from sr_edge.errors import FrameError
from sr_edge.spec import Precision
from sr_edge.whole_file import require_output, require_output_file

if TYPE_CHECKING:
    from sr_edge.cli.output import Report
    from sr_edge.runtimes import SessionSpec
    from sr_edge.upscaler import FileResult, Upscaler


def upscale(
    bundle: BundlePath,
    source: Annotated[Path, typer.Argument(metavar="IN", help="A picture, or a folder of them.", show_default=False)],
    target: Annotated[
        Path, typer.Argument(metavar="OUT", help="A picture, or a folder that keeps the names.", show_default=False)
    ],
    runtime: Annotated[
        str | None, typer.Option(help="Left out: openvino, onnxruntime or torch, what works.", show_default=False)
    ] = None,
    precision: Annotated[Precision, typer.Option(help="Of convolutions and matmuls.")] = Precision.FP32,
    overlap: Annotated[
        int | None, typer.Option(min=0, help="Least overlap of tiles in pixels; the model's own.", show_default=False)
    ] = None,
    resume: Annotated[bool, typer.Option(help="Keep results that are newer than their source.")] = True,
    slots: Annotated[
        int | None, typer.Option(min=1, help="Tiles in flight; more for throughput.", show_default=False)
    ] = None,
    threads: Threads = None,
    device: Device = "cpu",
    settings: Settings = [],  # noqa: B006  # typer copies it; it wants a list here
    trust: Trust = "",
    as_json: Json = False,
) -> None:
    """Upscale a picture or a folder of pictures."""
    from sr_edge.cli.output import progress_on_stderr, result_on_stdout

    controls = read_settings(settings)
    _require_place(source, target)
    with result_on_stdout(as_json) as show:
        from sr_edge.bench import preferred_runtime
        from sr_edge.bundle import open_bundle
        from sr_edge.runtimes import open_session
        from sr_edge.upscaler import Upscaler

        name = runtime or preferred_runtime()
        options = {"architecture": trust} if trust and name == "torch" else None
        with (
            open_bundle(bundle) as opened,
            open_session(opened, name, precision, device, threads=threads, slots=slots, options=options) as session,
            progress_on_stderr() as progress,
        ):
            started = time.perf_counter()
            results = _upscaled(Upscaler(session, overlap, controls), source, target, resume, progress)
            seconds = time.perf_counter() - started
        document = {"session": session.spec, "seconds": seconds, "files": results}
        show(document, _readable(results, session.spec, seconds))
    failed = [result for result in results if result.outcome == "failed"]
    if failed:
        raise FrameError(f"{len(failed)} of {len(results)} pictures failed, the first: {failed[0].reason}")


def _require_place(source: Path, target: Path) -> None:
    """Raises UsageError where no result could be written; a folder of results need not be there yet."""
    if target.is_dir():
        require_output(target / source.name)
    elif not source.is_dir():
        require_output_file(target)


def _upscaled(upscaler: Upscaler, source: Path, target: Path, resume: bool, progress: Report) -> Sequence[FileResult]:
    from sr_edge.image_files import list_pictures
    from sr_edge.upscaler import FileResult, Outcome, upscale_file, upscale_folder

    if not source.is_dir():
        into = target / source.name if target.is_dir() else target
        upscale_file(upscaler, source, into, lambda done, total: progress(source.name, done, total))
        return [FileResult(source, into, Outcome.WRITTEN)]
    total = len(list_pictures(source))
    results = []
    for result in upscale_folder(upscaler, source, target, resume=resume):
        results.append(result)
        progress("pictures", len(results), total)
    return results


def _readable(results: Sequence[FileResult], spec: SessionSpec, seconds: float) -> str:
    lines = [f"{result.source} -> {result.target}: {result.outcome}" + _because(result) for result in results]
    rest = "" if spec.rest_ran is spec.ran else f", rest {spec.rest_ran}"
    return "\n".join([*lines, f"{spec.runtime} {spec.version} on {spec.device}, {spec.ran}{rest}, {seconds:.2f} s"])


def _because(result: FileResult) -> str:
    return f" ({result.reason})" if result.reason else ""
