"""How often intervals over seeds and images cover the truth, by what the error is made of and by how they are computed.

    python benchmarks/interval_coverage.py [--replicates 4000] [--json FILE]

A value is an effect of its image (standard deviation 1), of its seed, and of both; the truth is 0. `ratio` is the error of one
seed over the error that the images leave, `both` the standard deviation of what is particular to a seed and an image.
Compared are `over_seeds`, Satterthwaite's degrees of freedom with the same standard error, and R - 1 degrees of freedom with
s_seed^2 / R + s_image^2 / n, which counts what is particular to both twice. All promise 95 %.
"""

import argparse
import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from dvgen.evaluation.statistics import over_seeds
from dvgen.training.folder import environment

Floats = NDArray[np.float64]
SEEDS = (2, 3, 5, 10)
RATIOS = (10.0, 3.0, 1.0, 0.3, 0.0)
BOTH = (0.0, 1.0, 4.0)
IMAGES = (("normal", 50), ("normal", 500), ("exponential", 500), ("lognormal", 200), ("lognormal", 2000))
CHUNK = 500
"""Replicates at once."""


def image_effects(kind: str, shape: tuple[int, ...], rng: np.random.Generator) -> Floats:
    """Of mean 0 and standard deviation 1; skewness 0, 2 and 6."""
    if kind == "exponential":
        return rng.exponential(size=shape) - 1
    if kind == "lognormal":
        return (rng.lognormal(size=shape) - np.exp(0.5)) / np.sqrt((np.e - 1) * np.e)
    return rng.standard_normal(shape)


def tables(case: dict[str, object], replicates: int) -> Iterator[Floats]:
    """Values (CHUNK, seeds, images), until there are as many replicates as wanted."""
    kind, n, seeds = str(case["images"]), int(str(case["n"])), int(str(case["seeds"]))
    ratio, both = float(str(case["ratio"])), float(str(case["both"]))
    rng = np.random.default_rng(0)
    for _ in range(0, replicates, CHUNK):
        of_images = image_effects(kind, (CHUNK, 1, n), rng)
        of_seeds = ratio / n**0.5 * rng.standard_normal((CHUNK, seeds, 1))
        yield of_images + of_seeds + both * rng.standard_normal((CHUNK, seeds, n))


def covered(table: Floats) -> dict[str, NDArray[np.bool_]]:
    """By name of the method, whether the interval of each replicate covers 0."""
    seeds, n = table.shape[1:]
    found = over_seeds(table)
    of_seeds = table.mean(axis=2).var(axis=1, ddof=1) / seeds
    total = found.error**2
    satterthwaite = total**2 / (of_seeds**2 / (seeds - 1) + (total - of_seeds) ** 2 / (n - 1))
    twice = np.sqrt(of_seeds + table.mean(axis=1).var(axis=1, ddof=1) / n)
    reaches = {
        "over_seeds": found.reach(),
        "satterthwaite": stdtrit(satterthwaite, 0.975) * found.error,
        "R - 1": stdtrit(seeds - 1, 0.975) * twice,
    }
    return {name: abs(found.mean) <= reach for name, reach in reaches.items()}


def measure(case: dict[str, object], replicates: int) -> dict[str, object]:
    """The case with the share covered by each method."""
    parts = [covered(table) for table in tables(case, replicates)]
    return case | {name: float(np.mean([part[name] for part in parts])) for name in parts[0]}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--replicates", type=int, default=4000)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    found = []
    print(f"{'seeds':>5} {'images':>16} {'ratio':>5} {'both':>4}   over_seeds  satterthwaite  R - 1")
    for seeds, (kind, n), ratio, both in itertools.product(SEEDS, IMAGES, RATIOS, BOTH):
        row = measure({"seeds": seeds, "images": kind, "n": n, "ratio": ratio, "both": both}, given.replicates)
        found.append(row)
        shares = [f"{row[name]:.1%}" for name in ("over_seeds", "satterthwaite", "R - 1")]
        print(f"{seeds:5} {n:5} {kind:>10} {ratio:5g} {both:4g}   {shares[0]:>10}  {shares[1]:>13}  {shares[2]:>5}")
    for seeds in SEEDS:
        own = [float(str(row["over_seeds"])) for row in found if row["seeds"] == seeds]
        print(f"{seeds} seeds: over_seeds covers {min(own):.1%} to {max(own):.1%}")
    if given.json is not None:
        result = {"replicates": given.replicates, "environment": environment(), "coverage": found}
        given.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
