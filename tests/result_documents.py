"""Documents of results made by hand, and what a person reads of them."""

import io
from collections.abc import Mapping
from typing import Any

from rich.console import Console

from dvgen.report.table import WIDTH, show_results

TRAIN: dict[str, Any] = {"tokenizer": {"ema": 0.0}}


def measured(value: float, metric: str, interval: tuple[float, float] | None = None, **protocol: str) -> dict[str, Any]:
    key = {"metric": metric, "unit": metric, "protocol": protocol or {"likelihood": "exact"}, "higher_is_better": False}
    return {"value": value, "interval": interval and list(interval), "n": 100, "key": key}


def row(prior: str, nll: float, *, budget: str = "steps:800", failed: str = "", **more: Any) -> dict[str, Any]:
    """A row; `failed`: the number of a check that it does not pass."""
    found = {"nll": measured(nll, "nats/code", (nll - 0.25, nll + 0.25)), "bits_image": measured(nll * 92, "bits/image")}
    checks = [{"number": number, "name": "x", "passed": number != failed, "detail": "x"} for number in ("1", "2", "3", "4")]
    return {
        "prior": prior,
        "budget": budget,
        "parameters": 1234567,
        "train_seconds": 61.4,
        "samples_per_second": 55.5,
        "verification": {"verified": not failed, "checks": checks},
        "ranked": not failed,
        "measurements": found | more,
    }


def verdict(one: str, other: str, difference: float, text: str, **more: Any) -> dict[str, Any]:
    """Half the interval is 0.1; the adjusted p is 0.0123."""
    ends = [difference - 0.1, difference + 0.1]
    return {
        "pair": [one, other], "budget": "steps:800", "difference": difference, "interval": ends, "unit": "nats/code",
        "p": 0.004, "p_holm": 0.0123, "better_on_image": 0.875, "verdict": text,
    } | more  # fmt: skip


VERDICT = verdict("gpt", "pixelsnail", -0.5, "gpt is better")
COUNTED = (("uniform", 6.0), ("unigram", 5.0), ("left", 3.5), ("left+up", 3.4), ("four neighbours", 3.3))


def results(rows: list[dict[str, Any]], group: Mapping[str, Any] = {}, **tokenizer: Any) -> dict[str, Any]:
    found = {
        "psnr": measured(23.456, "psnr", (23.4, 23.5)),
        "usage/codes": measured(0.875, "codebook usage"),
        "perplexity/codes": measured(77.7, "codebook perplexity"),
    }
    own = {
        "kind": "tokenizer", "name": "ema", "encoder": "vqvae", "data": "folder", "location": "my/[bold]images",
        "images": {"train": 40, "test": 4}, "codes": "abcdef0123456789", "conditioning": "none", "parameters": 12345,
        "steps": 600, "train_seconds": 61.4,
        "levels": [{"name": "codes", "grid": [8, 8], "num_codes": 512}], "entropy_nats_per_image": None,
        "codes_per_image": 64, "skipped": [], "measurements": found,
        "experiment": {"decoder": {"use": "mirror"}, "loss": [{"use": "mse"}, {"use": "l1"}], "train": TRAIN},
    }  # fmt: skip
    size = {"nll": measured(4.0, "nats/code", likelihood="file size of the whole split")}
    whole = {
        "tokenizer": own | tokenizer,
        "rows": rows,
        "references": [],
        "baselines": [{"name": name, "measurements": {"nll": measured(value, "nats/code")}} for name, value in COUNTED]
        + [{"name": "lzma", "measurements": size}],
        "notes": [],
        "verdicts": [VERDICT] if len(rows) > 1 else [],
        "fidelity": {"winner": None, "text": ""},
    }
    return {"groups": [whole | group], "intervals": "95 %, over test images"}


def shown(document: Mapping[str, Any], width: int = WIDTH) -> str:
    console = Console(file=io.StringIO(), width=width)
    show_results(document, console)
    return str(console.file.getvalue())  # type: ignore[attr-defined]


def words(text: str, name: str) -> list[str]:
    """Those after a name at the beginning of a line, in every table in which it stands."""
    lines = [line.strip() for line in text.splitlines()]
    return [word for line in lines if line.startswith(f"{name} ") for word in line.removeprefix(name).split()]


def named(text: str, *names: str) -> list[str]:
    """Which of the names begin a line of a table, in their order."""
    firsts = [line.split()[0] for line in text.splitlines() if line.startswith(" ") and line.split()]
    return [word for word in firsts if word in names]


FD = {"fd/rand": measured(0.01234, "FD[rand:v1]", (0.0113, 0.0133))}
ROWS = [row("pixelsnail", 2.5, **FD), row("gpt", 2.0, **FD)]
