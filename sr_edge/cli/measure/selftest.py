"""`sr-edge selftest`: replays a bundle's golden frames on this machine and compares the outputs."""

from __future__ import annotations

import math
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
    AllOption,
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
    with_all: AllOption = False,
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
        show(document, _readable(tests, with_all))
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


def _readable(tests: Sequence[SelfTest], with_all: bool) -> Group:
    """How many variants passed, a table of those that were tested, and why the others were not, if all are wanted."""
    from rich.console import Group
    from rich.table import Table

    from sr_edge.bench import grouped
    from sr_edge.bench.headline import cannot_run_line

    tested = [test for test in tests if test.results]
    table = Table("runtime", "precision", "ran", "result", "lowest dB", "required dB")
    for column in table.columns[4:]:
        column.justify = "right"
    for test in tested:
        worst = min(test.results, key=lambda result: result.psnr_db - result.min_psnr_db)
        cells = "passed" if test.passed else "FAILED", _decibels(worst.psnr_db), f"{worst.min_psnr_db:.0f}"
        table.add_row(test.variant.runtime, test.variant.label, str(test.ran), *cells)
    passed = sum(test.passed for test in tested)
    headline = f"{passed} of {len(tested)} tested variants reproduce the golden frames"
    if with_all:
        others = grouped([(test.variant, test.reason) for test in tests if test.reason])
    else:
        others = [cannot_run_line([test.variant for test in tests], {test.variant for test in tested})]
    return Group(headline, *([table] if tested else []), *filter(None, others))


def _decibels(psnr_db: float) -> str:
    return f"{psnr_db:.1f}" if math.isfinite(psnr_db) else "equal" if psnr_db > 0 else "wrong"
