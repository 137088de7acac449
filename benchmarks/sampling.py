"""Sampling with the cache of `start` and `step` against a full forward pass for every position, in one process.

    python benchmarks/sampling.py [--grid 8 16] [--batch 16] [--json FILE]

Both draw the same codes from the same generators, which is checked; printed are medians of interleaved runs and their ratio.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Generator, Tensor

from dvgen.discovery import discover
from dvgen.interfaces.codes import Level
from dvgen.interfaces.context import Context, ContextShape
from dvgen.interfaces.prior import AutoregressivePrior
from dvgen.interfaces.sampling import Sampling, draw
from dvgen.training.folder import environment

NUM_CODES, ROUNDS = 512, 3


@torch.no_grad()
def with_full_passes(prior: AutoregressivePrior, generators: Sequence[Generator]) -> Tensor:
    """Codes (b, length) drawn from `logits` of the whole grid, computed anew for every position."""
    batch, length = len(generators), prior.level.length
    uniforms = torch.stack([torch.rand(length, generator=g, dtype=torch.float64) for g in generators])
    codes = torch.zeros(batch, length, dtype=torch.int64)
    for position in range(length):
        logits = prior.logits(codes.unflatten(1, prior.level.grid), Context(batch)).flatten(1, -2)[:, position]
        codes[:, position] = draw(logits.float(), uniforms[:, position], Sampling())
    return codes


def with_cache(prior: AutoregressivePrior, generators: Sequence[Generator]) -> Tensor:
    """Codes (b, length) drawn by `sample`."""
    (codes,) = prior.sample(Context(len(generators)), sampling=Sampling(), generators=generators)
    return codes.flatten(1)


def timed(sampler: Callable[..., Tensor], prior: AutoregressivePrior, batch: int) -> tuple[float, Tensor]:
    """Seconds and the codes drawn."""
    generators = [Generator().manual_seed(i) for i in range(batch)]
    began = time.perf_counter()
    codes = sampler(prior, generators)
    return time.perf_counter() - began, codes


def measure(name: str, prior: AutoregressivePrior, batch: int) -> dict[str, object]:
    """Medians of interleaved runs of both ways, and how many codes differ."""
    full, cached, differ = [], [], 0
    for _ in range(ROUNDS):
        seconds, codes = timed(with_full_passes, prior, batch)
        full.append(seconds)
        seconds, other = timed(with_cache, prior, batch)
        cached.append(seconds)
        differ = int((codes != other).sum())
    slow, fast = statistics.median(full), statistics.median(cached)
    return {"prior": name, "grid": prior.level.grid, "full_s": slow, "cached_s": fast, "ratio": slow / fast, "differ": differ}


def main() -> None:
    """Print a table, and write it with the machine and versions when asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--grid", type=int, nargs="+", default=[8, 16])
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    registry, rows = discover().registry, []
    for side in arguments.grid:
        for name in registry.names("prior"):
            cls = registry.load("prior", name)
            if not issubclass(cls, AutoregressivePrior):
                continue
            torch.manual_seed(0)
            prior = cls(cls.Config(), levels=(Level("codes", (side, side), NUM_CODES),), context=ContextShape()).eval()
            rows.append(measure(name, prior, arguments.batch))
            row = rows[-1]
            print(f"{name:12} {side:2}x{side:<2} full {row['full_s']:8.3f} s  cached {row['cached_s']:7.3f} s  "
                  f"{row['ratio']:6.1f}x  codes that differ: {row['differ']}")  # fmt: skip
    if arguments.json:
        arguments.json.write_text(json.dumps({"environment": environment(), "batch": arguments.batch, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
