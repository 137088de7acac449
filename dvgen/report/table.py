"""Results as text, for a terminal or a pipe."""

import itertools
import math

from rich.console import Console
from rich.text import Text

from dvgen.report.cells import Results, count
from dvgen.report.comparison_table import WIDTH, print_whole, show_comparison, table, valued
from dvgen.report.headline import warnings
from dvgen.report.likelihood_tables import Rows, by_budget, ordered
from dvgen.report.marks import marks_of

__all__ = ["WIDTH", "show_results"]

LEVELS = 3
"""Levels side by side in one table; what has more of them, such as residual quantization, has several tables."""
FIDELITY = {"psnr": "PSNR", "snr": "SNR"}
"""How close reconstructions come to their signals, in dB: of images, and of sound."""
SMALLEST = 1e-4
"""Below it a p-value has no more digits."""
PAIRS = 10
"""Verdicts that are all told, those of five rows; of more rows the best one's."""


def show_results(results: Results, console: Console) -> None:
    """One table each of the tokenizers and sources of codes, with verdicts; then the tokenizers side by side, if several."""
    for group in results["groups"]:
        _show_group(group, console)
    tokenizers = [group["tokenizer"] for group in results["groups"] if not _truth(group["tokenizer"])]
    if len(tokenizers) > 1:
        _show_tokenizers(tokenizers, console)
    console.print(f"Intervals: {results['intervals']}. NLL compares only on the same codes: within one table.", markup=False)


def _show_group(group: Results, console: Console) -> None:
    rows = list(zip(group["rows"], marks_of(group["rows"]), strict=True))
    for line in _heading(group):
        console.print(line, markup=False, highlight=False)
    footnotes = show_comparison(group, rows, console)
    if len(group["tokenizer"]["levels"]) > 1:
        _show_levels(group, rows, console)
    for line in [*footnotes, *_verdicts(group, rows), *_fidelity_line(group), *warnings(group, rows)]:
        console.print(line, markup=False, highlight=False)
    console.print()


def _show_levels(group: Results, rows: Rows, console: Console) -> None:
    """The likelihood of every level by itself, then of all together; intervals where there is room for them."""
    names = _levels(group["tokenizer"])
    priors = [(mark.name.replace("+", "+\n"), row["measurements"]) for row, mark in ordered(rows)]
    baselines = [(baseline["name"], baseline["measurements"]) for baseline in group["baselines"]]
    for first in range(0, len(names), LEVELS):
        own = [f"/{name}" for name in names[first : first + LEVELS]]
        own += [""] if first + LEVELS >= len(names) else []
        heads = [(f"{level.removeprefix('/') or 'all levels'}\nnats/code", "\nbits/image") for level in own]
        found = table("\nby level", *itertools.chain(*heads))
        found.collapse_padding = True
        for part in (priors, baselines):
            for name, measured in part:
                cells = [_level(measured, level, len(names)) for level in own]
                if any(itertools.chain(*cells)):
                    found.add_row(Text(name), *itertools.chain(*cells))
            found.add_section()
        print_whole(found, console)


def _level(found: Results, level: str, levels: int) -> tuple[str, str]:
    """NLL in nats/code and in bits/image of one level ("/<name>") or of all (""), whose interval is in the table above."""
    nll = valued(found, f"nll{level}", spread=bool(level) and levels == 2)
    return nll, valued(found, f"bits_image{level}", spread=False)


def _show_tokenizers(tokenizers: list[Results], console: Console) -> None:
    measures = "/".join(dict.fromkeys(_fidelity(tokenizer)[0] for tokenizer in tokenizers))
    distances = list(dict.fromkeys(name for one in tokenizers for name in one["measurements"] if _distance(name)))
    heads = [f"reconstruction FD\n{name.partition('/')[2]} ↓" for name in distances]
    found = table("tokenizer", f"{measures} dB ↑", "usage ↑", "perplexity ↑", *heads, "train s")
    for tokenizer in tokenizers:
        own = tokenizer["measurements"]
        usage = " / ".join(f"{own[f'usage/{level}']['value']:.1%}" for level in _levels(tokenizer))
        perplexity = " / ".join(f"{own[f'perplexity/{level}']['value']:.1f}" for level in _levels(tokenizer))
        cells = [valued(own, name) or "-" for name in distances]
        seconds = f"{tokenizer['train_seconds']:.0f}"
        found.add_row(Text(_name(tokenizer)), _fidelity(tokenizer)[1], usage, perplexity, *cells, seconds)
    print_whole(found, console)


def _distance(name: str) -> bool:
    return name.startswith("reconstruction_fd/")


def _truth(tokenizer: Results) -> bool:
    """Whether codes are drawn from a source that knows their probability: then there is no tokenizer."""
    return bool(tokenizer.get("kind") == "truth")


def _fidelity(tokenizer: Results) -> tuple[str, str]:
    """The name of the measure of reconstructions that a tokenizer has, and its value in dB."""
    found = tokenizer["measurements"]
    (name,) = FIDELITY.keys() & found.keys()
    it = found[name]
    spread = "" if it["interval"] is None else f" ±{(it['interval'][1] - it['interval'][0]) / 2:.2f}"
    return FIDELITY[name], f"{it['value']:.2f}{spread}"


def _name(tokenizer: Results) -> str:
    """Every box that decides a tokenizer; of a source, its name."""
    if _truth(tokenizer):
        return f"truth:{tokenizer['name'].removeprefix('truth:')}"
    losses = "+".join(choice["use"] for choice in tokenizer["experiment"]["loss"])
    where = f"{tokenizer['data']}:{tokenizer['location']}" if tokenizer["location"] else tokenizer["data"]
    parts = [tokenizer["encoder"], tokenizer["name"], tokenizer["experiment"]["decoder"]["use"]]
    game = tokenizer["experiment"].get("adversarial")  # absent where there is none
    parts += [game["discriminator"]["use"]] if game else []
    return f"{' + '.join(parts)}, {losses}, on {where}"


def _levels(tokenizer: Results) -> list[str]:
    return [level["name"] for level in tokenizer["levels"]]


def _heading(group: Results) -> list[str]:
    tokenizer = group["tokenizer"]
    images = ", ".join(f"{split} {n}" for split, n in tokenizer["images"].items())
    budgets = list(dict.fromkeys(row["budget"] for row in group["rows"]))
    trained = f"; budget {budgets[0]}" if len(budgets) == 1 else ""
    return [
        _name(tokenizer) + ("" if _truth(tokenizer) else _averaged(tokenizer)),
        f"  {images}; codes {tokenizer['codes'][:8]}; conditioning: {tokenizer['conditioning']}{trained}",
        *([] if _truth(tokenizer) else [_stage_one(tokenizer)]),
        *(_grid(tokenizer, level) for level in tokenizer["levels"]),
        *_floor(tokenizer),
    ]


def _averaged(tokenizer: Results) -> str:
    decay = tokenizer["experiment"]["train"]["tokenizer"]["ema"]
    return f"; weights: moving average ({decay:g})" if decay else ""


def _stage_one(tokenizer: Results) -> str:
    steps, seconds = tokenizer["steps"], tokenizer["train_seconds"]
    fidelity = " ".join(_fidelity(tokenizer))
    return f"  {count(tokenizer['parameters'])} parameters, {steps} steps in {seconds:.0f} s, {fidelity} dB"


def _grid(tokenizer: Results, level: Results) -> str:
    found, name = tokenizer["measurements"], level["name"]
    text = f"  {name}: {'x'.join(map(str, level['grid']))} codes of {level['num_codes']}"
    if f"usage/{name}" in found:
        text += f", usage {found[f'usage/{name}']['value']:.1%}, perplexity {found[f'perplexity/{name}']['value']:.1f}"
    return text


def _floor(tokenizer: Results) -> list[str]:
    entropy = tokenizer["entropy_nats_per_image"]
    if entropy is None:
        return []
    per_code = entropy / tokenizer["codes_per_image"]
    return [f"  exact entropy of the codes, the floor: {per_code:.4f} nats/code, {entropy / math.log(2):.2f} bits/image"]


def _verdicts(group: Results, rows: Rows) -> list[str]:
    """What is said of every pair; of many pairs, those of the best row of each budget."""
    told = list(group["verdicts"])
    if len(told) > PAIRS:
        best = {budget: own[0][0]["prior"] for budget, own in by_budget(rows).items()}
        told = [verdict for verdict in told if best[verdict["budget"]] in verdict["pair"]]
    several = len({row["budget"] for row, _ in rows}) > 1
    lines = [(f"{verdict['budget']}: " if several else "") + _verdict(verdict) for verdict in told]
    left = len(group["verdicts"]) - len(told)
    return [*lines, f"{left} more pairs are in results.json"] if left else lines


def _verdict(verdict: Results) -> str:
    one, other = verdict["pair"]
    if verdict["interval"] is None or verdict["p_holm"] is None:
        return f"{one}, {other}: {verdict['verdict']}"
    low, high = verdict["interval"]
    p = f"< {SMALLEST}" if verdict["p_holm"] < SMALLEST else f"= {verdict['p_holm']:.2g}"
    share = f"{one} lower on {verdict['better_on_image']:.0%} of images"
    numbers = f"{verdict['difference']:+.4f} {verdict['unit']} [{low:+.4f}, {high:+.4f}]"
    return f"{one} - {other}: {numbers}, paired; p {p} (Holm); {share}: {verdict['verdict']}"


def _fidelity_line(group: Results) -> list[str]:
    """Whether the distances of samples agree on a winner."""
    text = group["fidelity"]["text"]
    return [f"samples: {text}"] if text else []
