"""Results as text, for a terminal or a pipe."""

import math
from collections.abc import Mapping
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

Results = Mapping[str, Any]
WIDTH = 118
"""Columns of text that is not shown on a terminal; a table that needs more takes more."""
WIDEST = 1000


def show_results(results: Results, console: Console) -> None:
    """One table a tokenizer: what it is and does, its priors and baselines, and the verdict on every pair."""
    for group in results["groups"]:
        _show_group(group, console)
    console.print(f"Intervals: {results['intervals']}. NLL compares only on the same codes: within one table.", markup=False)


def _show_group(group: Results, console: Console) -> None:
    tokenizer = group["tokenizer"]
    for line in _heading(tokenizer):
        console.print(line, markup=False, highlight=False)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    distance = _distance_name(group)
    columns = [
        "prior",
        "params",
        "NLL nats/code ↓",
        "bits/image ↓",
        "excess nats/code ↓",
        f"{distance} ↓",
        "train s",
        "samples/s",
    ]
    for i, column in enumerate(columns):
        table.add_column(Text(column), justify="left" if i == 0 else "right", no_wrap=True)
    for row in sorted(group["rows"], key=lambda row: row["measurements"]["nll"]["value"]):
        table.add_row(*_row(row))
    table.add_section()
    for baseline in group["baselines"]:
        found = baseline["measurements"]
        table.add_row(baseline["name"], "-", _value(found["nll"], 4), _value(found["bits_image"], 1, interval=False))
    if "reconstruction_fd" in tokenizer["measurements"]:
        fd = _value(tokenizer["measurements"]["reconstruction_fd"], 4)
        table.add_row("reconstructions", "-", "", "", "", fd)
    # numbers are never cut off: on a narrow terminal the lines wrap
    needed = console.measure(table, options=console.options.update(max_width=WIDEST)).maximum
    console.width = max(console.width, needed)
    console.print(table)
    for verdict in group["verdicts"]:
        console.print(_verdict(verdict), markup=False, highlight=False)
    console.print()


def _heading(tokenizer: Results) -> list[str]:
    found = tokenizer["measurements"]
    where = f"{tokenizer['data']}:{tokenizer['location']}" if tokenizer["location"] else tokenizer["data"]
    images = ", ".join(f"{split} {n}" for split, n in tokenizer["images"].items())
    lines = [
        f"{tokenizer['encoder']} + {tokenizer['name']} on {where} ({images}), codes {tokenizer['codes'][:8]}, "
        f"conditioning: {tokenizer['conditioning']}",
        f"  {_count(tokenizer['parameters'])} parameters, {tokenizer['steps']} steps in {tokenizer['train_seconds']:.0f} s, "
        f"PSNR {_value(found['psnr'], 2)} dB",
    ]
    for level in tokenizer["levels"]:
        usage, perplexity = found[f"usage/{level['name']}"]["value"], found[f"perplexity/{level['name']}"]["value"]
        grid = "x".join(map(str, level["grid"]))
        lines.append(f"  {level['name']}: {grid} codes of {level['num_codes']}, usage {usage:.1%}, perplexity {perplexity:.1f}")
    entropy = tokenizer["entropy_nats_per_image"]
    if entropy is not None:
        floor = entropy / tokenizer["codes_per_image"]
        lines.append(f"  exact entropy of the codes, the floor: {floor:.4f} nats/code, {entropy / math.log(2):.2f} bits/image")
    if tokenizer["skipped"]:
        lines.append(
            f"  {len(tokenizer['skipped'])} files could not be read and were skipped, such as {tokenizer['skipped'][0]}"
        )
    return lines


def _row(row: Results) -> list[str]:
    found = row["measurements"]
    bound = "" if dict(found["nll"]["key"]["protocol"]).get("likelihood") == "exact" else "<= "
    return [
        row["prior"],
        _count(row["parameters"]),
        bound + _value(found["nll"], 4),
        bound + _value(found["bits_image"], 1, interval=False),
        _value(found["excess"], 4) if "excess" in found else "-",
        _value(found["fd"], 4) if "fd" in found else "-",
        f"{row['train_seconds']:.0f}",
        f"{row['samples_per_second']:.0f}",
    ]


def _value(measurement: Results, digits: int, *, interval: bool = True) -> str:
    text = f"{measurement['value']:.{digits}f}"
    if not interval or measurement["interval"] is None:
        return text
    low, high = measurement["interval"]
    return f"{text} ±{(high - low) / 2:.{digits}f}"


def _distance_name(group: Results) -> str:
    for row in group["rows"]:
        if "fd" in row["measurements"]:
            return str(row["measurements"]["fd"]["key"]["metric"])
    return "FD"


def _verdict(verdict: Results) -> str:
    one, other = verdict["pair"]
    if verdict["interval"] is None:
        return f"{one}, {other}: {verdict['verdict']}"
    low, high = verdict["interval"]
    difference = f"{verdict['difference']:+.4f} nats/code [{low:+.4f}, {high:+.4f}]"
    return f"{one} - {other}: {difference}, paired by image: {verdict['verdict']}"


def _count(n: int) -> str:
    return f"{n / 1e6:.2f}M" if n >= 1e6 else f"{n / 1e3:.0f}k"
