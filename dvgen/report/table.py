"""Results as text, for a terminal or a pipe."""

import itertools
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
LEVELS = 3
"""Levels side by side in one table; what has more of them, such as residual quantization, has several tables."""
FIDELITY = {"psnr": "PSNR", "snr": "SNR"}
"""How close reconstructions come to their signals, in dB: of images, and of sound."""


def show_results(results: Results, console: Console) -> None:
    """The tokenizers side by side where there are several; then one table each: its priors, baselines, and verdicts."""
    for group in results["groups"]:
        _show_group(group, console)
    if len(results["groups"]) > 1:
        _show_tokenizers([group["tokenizer"] for group in results["groups"]], console)
    console.print(f"Intervals: {results['intervals']}. NLL compares only on the same codes: within one table.", markup=False)


def _show_group(group: Results, console: Console) -> None:
    tokenizer = group["tokenizer"]
    for line in _heading(tokenizer):
        console.print(line, markup=False, highlight=False)
    table = _table("prior", "params", "NLL nats/code ↓", "bits/image ↓", "excess, all images ↓", f"{_distance_name(group)} ↓",
                   "train s", "samples/s")  # fmt: skip
    for row in _ranked(group):
        table.add_row(*_row(row))
    table.add_section()
    for baseline in group["baselines"]:
        found = baseline["measurements"]
        name = baseline["name"] + (" (no labels)" if tokenizer["conditioning"] == "labels" else "")
        table.add_row(name, "-", _value(found["nll"], 4), _value(found["bits_image"], 1, interval=False))
    if "reconstruction_fd" in tokenizer["measurements"]:
        fd = _value(tokenizer["measurements"]["reconstruction_fd"], 4)
        table.add_row("reconstructions", "-", "", "", "", fd)
    _print_whole(table, console)
    if len(tokenizer["levels"]) > 1:
        _show_levels(group, console)
    for line in [*map(_verdict, group["verdicts"]), *_warnings(group)]:
        console.print(line, markup=False, highlight=False)
    console.print()


def _show_levels(group: Results, console: Console) -> None:
    """The likelihood of every level by itself, then of all together; intervals where there is room for them."""
    names = _levels(group["tokenizer"])
    rows = [(row["prior"].replace("+", "+\n"), row["measurements"]) for row in _ranked(group)]
    baselines = [(baseline["name"], baseline["measurements"]) for baseline in group["baselines"]]
    for first in range(0, len(names), LEVELS):
        own = [f"/{name}" for name in names[first : first + LEVELS]]
        own += [""] if first + LEVELS >= len(names) else []
        heads = [(f"{level.removeprefix('/') or 'all levels'}\nnats/code", "\nbits/image") for level in own]
        table = _table("\nby level", *itertools.chain(*heads))
        table.collapse_padding = True
        for part in (rows, baselines):
            for name, found in part:
                table.add_row(Text(name), *(cell for level in own for cell in _level(found, level, len(names))))
            table.add_section()
        _print_whole(table, console)


def _level(found: Results, level: str, levels: int) -> tuple[str, str]:
    """NLL in nats/code and in bits/image of one level ("/<name>") or of all (""), whose interval is in the table above."""
    nll, bits = found[f"nll{level}"], found[f"bits_image{level}"]
    bound = "" if _exact(nll) else "<= "
    return bound + _value(nll, 4, interval=bool(level) and levels == 2), bound + _value(bits, 1, interval=False)


def _show_tokenizers(tokenizers: list[Results], console: Console) -> None:
    measures = "/".join(dict.fromkeys(_fidelity(tokenizer)[0] for tokenizer in tokenizers))
    table = _table("tokenizer", f"{measures} dB ↑", "usage ↑", "perplexity ↑", "reconstruction FD ↓", "train s")
    for tokenizer in tokenizers:
        found = tokenizer["measurements"]
        usage = " / ".join(f"{found[f'usage/{level}']['value']:.1%}" for level in _levels(tokenizer))
        perplexity = " / ".join(f"{found[f'perplexity/{level}']['value']:.1f}" for level in _levels(tokenizer))
        distance = _value(found["reconstruction_fd"], 4) if "reconstruction_fd" in found else "-"
        seconds = f"{tokenizer['train_seconds']:.0f}"
        table.add_row(Text(_name(tokenizer)), _fidelity(tokenizer)[1], usage, perplexity, distance, seconds)
    _print_whole(table, console)


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for i, column in enumerate(columns):
        table.add_column(Text(column), justify="left" if i == 0 else "right", no_wrap=True)
    return table


def _print_whole(table: Table, console: Console) -> None:
    # numbers are never cut off: on a narrow terminal the lines wrap
    needed = console.measure(table, options=console.options.update(max_width=WIDEST)).maximum
    console.width = max(console.width, needed)
    console.print(table)


def _warnings(group: Results) -> list[str]:
    """What a reader must not miss: a prior that has not learned more than counting does."""
    (left_up,) = (b["measurements"]["nll"] for b in group["baselines"] if b["name"] == "left+up")
    comparable = [row for row in group["rows"] if row["measurements"]["nll"]["key"] == left_up["key"]]
    lost = [row["prior"] for row in comparable if row["measurements"]["nll"]["value"] >= left_up["value"]]
    found = [
        f"{prior} is not better than counting neighbours (left+up): train it longer, or look for a fault" for prior in lost
    ]
    if not all("fd" in row["measurements"] for row in group["rows"]):
        found.append("The Frechet distance is left out: it needs more test images and more samples than features.")
    return found


def _exact(likelihood: Results) -> bool:
    """Whether a likelihood is exact, not a bound."""
    return bool(likelihood["key"]["protocol"].get("likelihood") == "exact")


def _ranked(group: Results) -> list[Results]:
    """The rows, best first; bounds, which rank with nothing, after all that is exact."""
    found = [(row["measurements"]["nll"], row) for row in group["rows"]]
    return [row for _, row in sorted(found, key=lambda pair: (not _exact(pair[0]), pair[0]["value"]))]


def _fidelity(tokenizer: Results) -> tuple[str, str]:
    """The name of the measure of reconstructions that a tokenizer has, and its value in dB."""
    found = tokenizer["measurements"]
    (name,) = FIDELITY.keys() & found.keys()
    return FIDELITY[name], _value(found[name], 2)


def _name(tokenizer: Results) -> str:
    """Every box that decides a tokenizer."""
    losses = "+".join(choice["use"] for choice in tokenizer["experiment"]["loss"])
    where = f"{tokenizer['data']}:{tokenizer['location']}" if tokenizer["location"] else tokenizer["data"]
    parts = [tokenizer["encoder"], tokenizer["name"], tokenizer["experiment"]["decoder"]["use"]]
    game = tokenizer["experiment"].get("adversarial")  # absent where there is none
    parts += [game["discriminator"]["use"]] if game else []
    return f"{' + '.join(parts)}, {losses}, on {where}"


def _levels(tokenizer: Results) -> list[str]:
    return [level["name"] for level in tokenizer["levels"]]


def _heading(tokenizer: Results) -> list[str]:
    found = tokenizer["measurements"]
    decay = tokenizer["experiment"]["train"]["tokenizer"]["ema"]
    images = ", ".join(f"{split} {n}" for split, n in tokenizer["images"].items())
    lines = [
        _name(tokenizer) + (f"; weights: moving average ({decay:g})" if decay else ""),
        f"  {images}; codes {tokenizer['codes'][:8]}; conditioning: {tokenizer['conditioning']}",
        f"  {_count(tokenizer['parameters'])} parameters, {tokenizer['steps']} steps in {tokenizer['train_seconds']:.0f} s, "
        f"{' '.join(_fidelity(tokenizer))} dB",
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
    bound = "" if _exact(found["nll"]) else "<= "
    return [
        row["prior"],
        _count(row["parameters"]),
        bound + _value(found["nll"], 4),
        bound + _value(found["bits_image"], 1, interval=False),
        bound + _value(found["excess"], 4) if "excess" in found else "-",
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
