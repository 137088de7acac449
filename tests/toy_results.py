"""Results of schema 2, made by hand: documents, and folders of comparisons with the files that stand beside them."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Floats = NDArray[np.float64]
CODES, GRID = "c0de" * 16, (4, 4)
LENGTH = GRID[0] * GRID[1]


def measured(
    value: float,
    metric: str,
    interval: Sequence[float] | None = None,
    *,
    unit: str = "",
    n: int = 100,
    higher: bool = False,
    range: Sequence[float] | None = None,
    **protocol: str,
) -> dict[str, Any]:
    """One measurement as results.json has it."""
    key = {"metric": metric, "unit": unit, "protocol": protocol, "higher_is_better": higher}
    table = {"value": value, "interval": interval and list(interval), "n": n, "key": key}
    return table if range is None else table | {"range": list(range)}


def likelihood(nats: Floats, codes: str = CODES) -> dict[str, Any]:
    """nll and bits_image of nats (seeds, levels, n); their interval is over the images of one seed, or t over seeds' means."""
    images = nats.sum(axis=1)
    spread = images.mean(axis=0) if len(images) == 1 else images.mean(axis=1)
    reach = stats.sem(spread) * stats.t.ppf(0.975, len(spread) - 1)
    found = {}
    for name, unit, scale in (("nll", "nats/code", 1 / LENGTH), ("bits_image", "bits/image", 1 / np.log(2))):
        mean = float(images.mean() * scale)
        ends = (mean - reach * scale, mean + reach * scale)
        protocol = {"codes": codes, "likelihood": "exact", "split": "test"}
        found[name] = measured(mean, unit, ends, unit=unit, n=images.shape[1], **protocol)
    return found


def fd(value: float, interval: Sequence[float] | None = None, **protocol: str) -> dict[str, Any]:
    """A Frechet distance in features of three random networks."""
    spread = (value * 0.9, value * 1.1)
    return measured(value, "FD[rand:v1]", interval, range=spread, **({"data": "d16", "gen": "100"} | protocol))


def trained(seed: int = 0) -> dict[str, Any]:
    """What every training tells."""
    spent = {"steps": 800.0, "codes": 800.0 * 32 * LENGTH, "flops": 1.5e9 + seed, "seconds": 12.5 + seed}
    return {"parameters": 12345, "train_seconds": 12.5 + seed, "steps": 800, "budget_spent": spent}


def row(prior: str, nats: Floats, budget: str = "steps:800", codes: str = CODES, **more: Any) -> dict[str, Any]:
    """One row of nats (seeds, levels, n), its repeats in rows/PRIOR-SEED."""
    checks = [{"number": "1", "name": "sums to one", "passed": True, "detail": "1e-7"}]
    extra = {"samples_per_second": 50.0, "verification": {"verified": True, "checks": checks}}
    own = {"fd/rand": fd(0.5 + len(prior) / 100)} | more
    repeats = [
        {"folder": f"rows/{prior}-{budget.replace(':', '-')}-{seed}"}
        | {"measurements": likelihood(nats[seed : seed + 1], codes) | own}
        | trained(seed)
        | extra
        for seed in range(len(nats))
    ]
    experiment = {"prior": [{"use": prior, "layers": 2}], "train": {"prior": {"budget": budget}}}
    whole = {"prior": prior, "budget": budget, "experiment": experiment, "ranked": True, "repeats": repeats}
    return whole | trained() | extra | {"measurements": likelihood(nats, codes) | own}


def group(rows: list[dict[str, Any]], codes: str = CODES, **tokenizer: Any) -> dict[str, Any]:
    """A tokenizer of one level "codes" with its rows."""
    found = {
        "psnr": measured(23.5, "PSNR", (23.4, 23.6), unit="dB", higher=True, data="d16", split="test"),
        "usage/codes": measured(0.875, "codebook usage", higher=True, codes=codes),
        "perplexity/codes": measured(77.75, "codebook perplexity", higher=True, codes=codes),
        "reconstruction_fd/rand": fd(0.25, source="reconstructions"),
    }
    own = {
        "kind": "tokenizer", "name": "ema", "encoder": "vqvae", "data": "shapes", "location": None,
        "folder": "tokenizers/ema-1", "images": {"train": 400, "validation": 50, "test": 100}, "skipped": [],
        "fingerprint": codes[::-1], "codes": codes,
        "levels": [{"name": "codes", "grid": list(GRID), "num_codes": 64}], "codes_per_image": LENGTH,
        "entropy_nats_per_image": None, "conditioning": "none", "measurements": found,
        "experiment": {
            "encoder": {"use": "vqvae"}, "decoder": {"use": "mirror"}, "loss": [{"use": "mse"}],
            "train": {"tokenizer": {"ema": 0.0, "budget": "steps:600"}},
        },
    }  # fmt: skip
    counted = np.full((1, 1, 100), 3.5 * LENGTH) + np.linspace(-1, 1, 100)
    return {
        "tokenizer": own | trained() | tokenizer,
        "rows": rows,
        "references": [
            {"name": name, "measurements": {"fd/rand": fd(value)}}
            for name, value in (("oracle codes", 0.3), ("real against real", 0.02), ("unigram samples", 4.0))
        ],
        "baselines": [
            {"name": name, "measurements": likelihood(counted + more, codes)}
            for name, more in (("uniform", 11.0), ("unigram", 3.0), ("left+up", 0.0))
        ],
        "notes": ["FID: n/a: the weights are not there"],
        "verdicts": [],
        "fidelity": {"winner": None, "text": "no consistent winner"},
    }


def document(groups: list[dict[str, Any]]) -> dict[str, Any]:
    """A whole results.json."""
    return {
        "schema": 2,
        "created": "2026-11-21T10:00:00Z",
        "environment": {"versions": {"dvgen": "0.1.0"}, "python": "3.11.9", "git": None},
        "command": ["dvgen", "compare", "--prior", "gpt,pixelsnail"],
        "repeats": max((len(row["repeats"]) for group in groups for row in group["rows"]), default=1),
        "intervals": "95 %",
        "groups": groups,
    }


def drawn(seed: int, seeds: int = 3, n: int = 100, mean: float = 3.0, hard: float = 0.5) -> Floats:
    """Nats (seeds, 1, n) of images, some of which are harder than others for everybody."""
    images = np.random.default_rng(99).normal(0, hard * LENGTH, n)
    own = np.random.default_rng(seed).normal(0, 0.02 * LENGTH, (seeds, 1, n))
    return mean * LENGTH + images + own


def write_comparison(folder: Path, nats: Mapping[str, Floats], results: dict[str, Any] | None = None) -> dict[str, Any]:
    """A folder with results.json, the nats of every repeat, and learning curves; returns the document."""
    found = results or document([group([row(prior, table) for prior, table in nats.items()])])
    for of_one in found["groups"]:
        _curve(folder / of_one["tokenizer"]["folder"], "tokenizer")
        for one in of_one["rows"]:
            for repeat, table in zip(one["repeats"], nats[one["prior"]], strict=True):
                assessed = folder / repeat["folder"] / "assessment"
                assessed.mkdir(parents=True)
                np.savez(assessed / "per_image.npz", nats=table)
                _curve(folder / repeat["folder"], "prior")
    (folder / "results.json").write_text(json.dumps(found))
    return found


def _curve(folder: Path, stage: str) -> None:
    """Three logged steps, the last of them with a validation loss, and one notice."""
    folder.mkdir(parents=True, exist_ok=True)
    lines: list[dict[str, Any]] = [
        {"step": step, "stage": stage, "loss": 5 / step, "seconds": step / 10, "codes": step * 512, "flops": step * 1e6}
        for step in (100, 200, 300)
    ]
    lines[-1]["validation"] = 0.125
    lines.insert(1, {"step": 100, "notice": "half of the codebook is unused"})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
