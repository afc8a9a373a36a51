"""Sections of the page about networks: sizes, comparisons, forms, precisions, attention."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence

from comparison_rows import ComparisonRow
from page_cells import Kept, judged, row_of
from paper_rows import PaperRow

from sr_edge.bundle.plain import from_plain
from sr_edge.models.registry import WEIGHTS_FOLDER

OUR_INT8, LARGEST_INT8_DROP_DB = "sr-edge", 0.05
SCALING_PICTURE = "attention_scaling.png"
MOVEMENT_RECORD = "adr/0007-half-of-the-static-form-moves-data.md"


def papers(rows: Sequence[Kept]) -> Iterator[str]:
    found = [from_plain(PaperRow, row, "papers").cells() for row in rows]
    shown = [tuple("**missed**" if cell == "missed" else cell for cell in cells) for cells in found]
    yield "\n".join([row_of(PaperRow.HEADINGS), "|---|---|---:|---:|---:|---|---|---|", *map(row_of, shown)])
    yield (
        "MACs are multiply-accumulates, what the papers call FLOPs; layers take 64 channels of 64x64 pixels. Last "
        "digit: the paper's, rounded or cut off. Where nothing is allowed, nothing was promised."
    )


def comparisons(report: Kept) -> Iterator[str]:
    for comparison in report["comparisons"]:
        rows = [from_plain(ComparisonRow, row, "comparisons") for row in comparison["rows"]]
        heading = [row_of(ComparisonRow.HEADINGS), "|---|---:|---:|---:|---:|---:|---|---|"]
        recipe = comparison["recipe"]
        yield f"**{comparison['title']}** ({comparison['network']}), x2:"
        yield "\n".join([*heading, *(row_of(row.cells()) for row in rows)])
        yield (
            f"{recipe['steps']} steps of {recipe['batch']} crops of {recipe['patch_px']}x{recipe['patch_px']}. "
            f"The paper: {comparison['paper']}."
        )
    yield (
        "Variants of a table learn bicubic x2 from the same crops in the same order, by the same recipe. Differences "
        "are to the first variant with the same seed, mean and range over the seeds: one whose range has both signs is "
        "noise, and one seed alone cannot tell. Papers train hundreds of times longer, LabNet's on blurred pictures."
    )


def systems(report: Kept) -> Iterator[str]:
    table = ["| system | runtime | precision | traced / static | quartiles | |", "|---|---|---|---:|---|---|"]
    for row in report["rows"]:
        ratio = row["ratio"]
        quartiles = f"{ratio['low']:.2f} to {ratio['high']:.2f}"
        verdict = judged(ratio["median"], report["least_target"])
        cells = (row["system"], row["runtime"], row["precision"], f"{ratio['median']:.2f}", quartiles, verdict)
        table.append(row_of(cells))
    yield "\n".join(table)
    mean = judged(report["geometric_mean"], report["mean_target"])
    least = judged(report["least"], report["least_target"])
    yield (
        f"Of the papers' systems the geometric mean is {report['geometric_mean']:.2f} (target "
        f"{report['mean_target']:.1f}: {mean}), the least {report['least']:.2f} (target "
        f"{report['least_target']:.1f}: {least}). {_pooled(report['rows'][0])}"
    )


def forms(rows: Sequence[Kept]) -> Iterator[str]:
    table = [
        "| runtime | precision | form | x the static form's time | quartiles | target | |",
        "|---|---|---|---:|---|---:|---|",
    ]
    for row in rows:
        for form, ratio in row["ratios"].items():
            target = row["targets"].get(form)
            wanted = f">= {target:.2f}" if target else ""
            found, quartiles = f"{ratio['median']:.2f}", f"{ratio['low']:.2f} to {ratio['high']:.2f}"
            verdict = judged(ratio["median"], target)
            table.append(row_of((row["runtime"], row["precision"], form, found, quartiles, wanted, verdict)))
    yield "\n".join(table)
    yield _pooled(rows[0])
    for row in rows:
        share = row["peak_share"]
        if share:
            verdict = judged(share["median"], row["peak_share_target"])
            yield (
                f"{row['runtime']} {row['precision']}: {row['giga_macs']:.1f} GMAC at {share['median']:.0%} "
                f"({share['low']:.0%} to {share['high']:.0%}) of the rate of a 2048x2048 matmul (target "
                f"{row['peak_share_target']:.0%}: {verdict}); {row['threads']} threads."
            )


def _pooled(row: Kept) -> str:
    return (
        f"A ratio is taken in each of {row['rounds']} rounds; of {row['processes']} fresh processes' medians and "
        "quartiles the middle ones are shown."
    )


def movement(figures: Kept) -> Iterator[str]:
    """What the static form consists of; `targets` are the shares of the other forms' time that it should reach."""
    for form, share in figures["shares"].items():
        target = figures["targets"][form]
        yield (
            f"{share['median']:.2f} of the {form} form's time ({share['low']:.2f} to {share['high']:.2f}; target "
            f"{target:.2f}: {judged(target, share['median'])}); outputs differ by at most "
            f"{figures['largest_differences'][form]:.0e} in fp32."
        )
    table = ["| operators of the static form | nodes | share of its time |", "|---|---:|---:|"]
    table += [row_of((row["kind"], str(row["nodes"]), f"{row['share']:.1%}")) for row in figures["operators"]]
    yield "\n".join(table)
    weights = "random weights" if figures["random_weights"] else "the bundled weights"
    yield (
        f"OpenVINO bf16, {figures['threads']} threads, {weights}; each operator's shortest time. {_pooled(figures)} "
        f"{figures['giga_macs']:.1f} GMAC alone, at a large matmul's rate, would take "
        f"{figures['arithmetic_share']:.0%} of that time. What was tried: [decision 0007]({MOVEMENT_RECORD})."
    )


def float16(report: Kept) -> Iterator[str]:
    headings = ("network", "pictures", "fp32, dB", "lost in fp16", "", "lost in bf16", "fp32 nodes of the fp16 file")
    table = [row_of(headings), "|---|---|---:|---:|---|---:|---:|"]
    for row in report["rows"]:
        bf16 = row["bf16_loss_db"]
        cells = (
            row["network"],
            f"{row['test_set']} ({row['pictures']})",
            f"{row['fp32_db']:.3f}",
            f"{row['fp16_loss_db']:+.4f}",
            judged(report["largest_loss_db"], row["fp16_loss_db"]),
            "" if bf16 is None else f"{bf16:+.4f}",
            f"{row['fp32_nodes']} of {row['nodes']}",
        )
        table.append(row_of(cells))
    yield "\n".join(table)
    left_out = f" {report['bf16_left_out']}." if report["bf16_left_out"] else ""
    yield (
        f"PSNR of luma; fp16 may lose {report['largest_loss_db']} dB. fp16: the file, islands and all, in real float16 "
        f"arithmetic; bf16: the fp32 file in OpenVINO. Tiles of 96x96.{left_out}"
    )
    yield from _of_earlier_weights(report["rows"])


def int8(networks: Sequence[Kept]) -> Iterator[str]:
    sets, bases = list(networks[0]["rows"][0]["quality"]), list(networks[0]["rows"][0]["ratios"])
    headings = ("network", "graph", *(f"{key}, dB" for key in sets), *(f"{key}, noise" for key in sets))
    table = [row_of((*headings, *(f"x {base}" for base in bases), "")), "|---" * (len(headings) + len(bases) + 1) + "|"]
    table += [row_of(cells) for network in networks for cells in _int8_rows(network, sets, bases)]
    yield "\n".join(table)
    yield (
        "dB: PSNR of luma minus that of the fp32 graph, whole images in tiles of 96x96; at most "
        f"{LARGEST_INT8_DROP_DB} may be lost. noise: what changes in the output, in decibels below what the network "
        "adds to bicubic interpolation. x: time as a multiple of the float graph's, all graphs of a network "
        "interleaved in OpenVINO, the float layers of an INT8 graph in bf16 where the CPU supports it, and in fp32 "
        "where the row says so. All are calibrated on the same images."
    )
    days = {network["network"]: network.get("measured", "") for network in networks}
    if len(set(days.values())) > 1:
        later = [f"{name} ({day})" for name, day in days.items() if day > min(days.values())]
        yield f"Measured again later: {', '.join(later)}."
    yield from _of_earlier_weights(networks)


def _of_earlier_weights(rows: Sequence[Kept]) -> Iterator[str]:
    """Says which rows were measured with other weights than those bundled now."""
    cards = (json.loads(card.read_text(encoding="utf-8")) for card in WEIGHTS_FOLDER.glob("*.json"))
    bundled = {None, *(card["weights_sha256"] for card in cards)}
    old = dict.fromkeys(row["network"] for row in rows if row.get("weights_sha256") not in bundled)
    if old:
        yield f"Measured with weights that have been trained further since: {', '.join(old)}."


def _int8_rows(network: Kept, sets: Sequence[str], bases: Sequence[str]) -> Iterator[tuple[str, ...]]:
    for row in network["rows"]:
        if row["failure"]:
            yield (network["network"], row["maker"], f"failed: {row['failure'][:80]}", *[""] * (2 * len(sets) + 2))
            continue
        quality, ratios = row["quality"], row["ratios"]
        cells = [f"{quality[key]['change_db']:+.3f}" for key in sets]
        noises = [quality[key]["noise_below_residual_db"] for key in sets]
        cells += ["" if noise is None else f"-{noise:.1f}" for noise in noises]
        cells += [f"{ratios[base]['median']:.2f}" for base in bases]
        maker = row["maker"] + (" (float layers fp32)" if row["ran"] == "int8, rest fp32" and "bf16" in bases else "")
        yield (network["network"], maker, *cells, _int8_verdict(row, network["targets"]))


def _int8_verdict(row: Kept, targets: Mapping[str, float]) -> str:
    if row["maker"] != OUR_INT8:
        return ""
    kept = all(found["change_db"] >= -LARGEST_INT8_DROP_DB for found in row["quality"].values())
    slow = [base for base, limit in targets.items() if row["ratios"][base]["median"] > limit]
    missed = [*(() if kept else ("dB",)), *(f"{targets[base]} x {base}" for base in slow)]
    return f"**missed** {', '.join(missed)}" if missed else "met"


def scaling(figures: Kept) -> Iterator[str]:
    """Exponents, and ratios at one size; the curves are a picture that the benchmark draws."""
    rows = figures["scaling"]
    sides = sorted({point["side_px"] for point in figures["points"]})
    at = rows[0]["compared_at_px"]
    yield f"![Time and memory of attention layers against N](images/{SCALING_PICTURE})"
    table = ["| attention | | exponent of N | plain | x plain | limit | |", "|---|---|---:|---:|---:|---:|---|"]
    for row in rows:
        for kind in ("time", "memory"):
            ratio, limit = row[f"{kind}_ratio"], row[f"{kind}_limit"]
            cells = (
                row["name"],
                kind,
                f"{row[f'{kind}_exponent']:.2f}",
                f"{row[f'plain_{kind}_exponent']:.2f}",
                f"{ratio:.3f}",
                f"<= {limit:.2f}" if limit else "",
                judged(limit, ratio) if limit else "",
            )
            table.append(row_of(cells))
    yield "\n".join(table)
    yield (
        f"Layers in training form in PyTorch, pictures of {sides[0]}x{sides[0]} to {sides[-1]}x{sides[-1]}, every "
        f"point in a fresh process; multiples of plain non-local attention of the same width at {at}x{at}. "
        "LCoA's time is a tenth of its ten layers, one LSP and nine CoA."
    )
