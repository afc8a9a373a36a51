"""`sr-edge selftest`: replays a bundle's golden frames on this machine and compares the outputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sr_edge.cli.model_argument import (
    AUTO,
    ChannelOrderOption,
    OnnxInputRangeOption,
    OnnxTileOption,
    RunnableArgument,
    opened_model,
)
from sr_edge.cli.options import (
    LOADING_MEASUREMENTS,
    AnyIoOption,
    DeviceOption,
    JsonOption,
    PrecisionsOption,
    RuntimesOption,
    TrustOption,
)
from sr_edge.errors import EngineError

if TYPE_CHECKING:
    from rich.console import Group

    from sr_edge.bench import SelfTest


def selftest(
    bundle: RunnableArgument,
    runtimes: RuntimesOption = "all",
    precisions: PrecisionsOption = "all",
    device: DeviceOption = None,
    io: AnyIoOption = None,
    trust: TrustOption = "",
    tile: OnnxTileOption = None,
    input_range: OnnxInputRangeOption = AUTO,
    channel_order: ChannelOrderOption = "rgb",
    as_json: JsonOption = False,
) -> None:
    """Verify the golden frames of a bundle on this machine."""
    from sr_edge.cli.output import during, progress_on_stderr, result_on_stdout

    with result_on_stdout(as_json) as show:
        with progress_on_stderr() as progress:
            with during(progress, LOADING_MEASUREMENTS):
                from sr_edge.bench import OpenOptions, choose_precisions, choose_runtimes, self_test_bundle, variants_of

            chosen = choose_runtimes(runtimes), choose_precisions(precisions)
            with opened_model(bundle, tile, input_range, channel_order) as opened:
                opened.verify()
                variants = variants_of(opened, *chosen, device)
                tests = self_test_bundle(
                    opened, variants, OpenOptions(device, io, trusted_architecture=trust), progress
                )
        failure = _failure(tests)
        document = {"passed": failure is None, "tests": [_document(test) for test in tests]}
        show(document, _readable(tests))
    if failure is not None:
        raise failure


def _failure(tests: Sequence[SelfTest]) -> EngineError | None:
    failed = tuple(f"{test.variant.runtime} {test.variant.label}" for test in tests if test.results and not test.passed)
    if failed:
        return EngineError(
            f"self-test failed in {', '.join(failed)}",
            found=failed,
            remedy="deploy the model again, or update that runtime",
        )
    if not any(test.results for test in tests):
        reasons = tuple(dict.fromkeys(test.reason for test in tests))
        return EngineError(f"nothing could be tested here: {'; '.join(reasons)}", found=reasons)
    return None


def _document(test: SelfTest) -> dict[str, object]:
    return {"runtime": test.variant.runtime, "precision": test.variant.label, "passed": test.passed, "detail": test}


def _readable(tests: Sequence[SelfTest]) -> Group:
    from rich.console import Group
    from rich.table import Table

    from sr_edge.bench import grouped

    table = Table("runtime", "precision", "ran", "result", "lowest dB", "required dB")
    for test in tests:
        name, label = test.variant.runtime, test.variant.label
        if not test.results:
            table.add_row(name, label, "-", "not tested", "-", "-")
            continue
        worst = min(test.results, key=lambda result: result.psnr_db - result.min_psnr_db)
        verdict = "passed" if test.passed else "FAILED"
        table.add_row(name, label, str(test.ran), verdict, f"{worst.psnr_db:.1f}", f"{worst.min_psnr_db:.0f}")
    return Group(table, *grouped([(test.variant, test.reason) for test in tests if test.reason]))
