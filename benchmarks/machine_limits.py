"""What this machine can do at all: matrix products, thin ones, and copying memory. Others tell their distance to it.

    python benchmarks/machine_limits.py [--threads 2] [--rounds 7] [--json FILE]

Printed are the best of the rounds: a limit is what the machine did when nobody else used it.
"""

from typing import NamedTuple

import torch
from measured import Report, Row, Work, interleaved, option_parser

SIDE, BATCH, WIDTH, LAYERS = 2048, 16, 256, 32
LARGE, SMALL = 2**28, 2**22
"""Bytes: far more than caches hold, and a part of them."""


class Limits(NamedTuple):
    """Operations a second of a square product in float32 and bfloat16; bytes a second that a copy reads and writes."""

    float32: float
    bfloat16: float
    bandwidth: float


def product(dtype: torch.dtype, side: int = SIDE) -> Work:
    """A square matrix product into memory that is there already."""
    left, right, out = (torch.randn(side, side).to(dtype) for _ in range(3))
    return lambda: torch.mm(left, right, out=out)


def thin(dtype: torch.dtype) -> Work:
    """What sampling does: the layers of a transformer, one position of a batch at a time, each with weights of its own."""
    weights = [torch.randn(WIDTH, 4 * WIDTH).to(dtype) for _ in range(LAYERS)]
    rows, out = torch.randn(BATCH, WIDTH).to(dtype), torch.empty(BATCH, 4 * WIDTH, dtype=dtype)

    def work() -> None:
        for weight in weights:
            torch.mm(rows, weight, out=out)

    return work


def copy(size: int) -> Work:
    """A copy of `size` bytes, or of so many parts of that size that as much is moved."""
    source, target = torch.ones(size // 4), torch.empty(size // 4)

    def work() -> None:
        for _ in range(LARGE // size):
            target.copy_(source)

    return work


def measure(rounds: int) -> list[Row]:
    """One row a kind of work: how fast the best round was."""
    kinds = {"float32": torch.float32, "bfloat16": torch.bfloat16}
    works: dict[str, Work] = {f"product {SIDE} x {SIDE} x {SIDE}, {name}": product(dtype) for name, dtype in kinds.items()}
    works |= {f"product {BATCH} x {WIDTH} x {4 * WIDTH}, {name}": thin(dtype) for name, dtype in kinds.items()}
    works |= {f"copy of {size // 2**20} MiB, read and written": copy(size) for size in (LARGE, SMALL)}
    amounts = [2 * SIDE**3] * 2 + [2 * BATCH * WIDTH * 4 * WIDTH * LAYERS] * 2 + [2 * LARGE] * 2
    found = interleaved(works, rounds)
    return [
        {"work": name, "a second": amount / found[name].least / 1e9, "unit": "GFLOP" if "product" in name else "GB"}
        for name, amount in zip(works, amounts, strict=True)
    ]


def limits(rounds: int = 3) -> Limits:
    """What the other benchmarks compare with."""
    rates = [row["a second"] * 1e9 for row in measure(rounds)]
    return Limits(rates[0], rates[1], rates[4])


def main() -> None:
    """Print the table."""
    options = option_parser(__doc__, rounds=7).parse_args()
    report = Report(options)
    report.table(f"this machine, best of {options.rounds}", measure(options.rounds))
    report.write()


if __name__ == "__main__":
    main()
