"""Training steps of dvgen's quantizers against those of four other libraries: time and peak memory, in one process.

    pip install -e '.[bench]'
    python benchmarks/quantizer_speed.py [--threads 2] [--rounds 7] [--only ema] [--json FILE]
        [--peer taming=taming-transformers] [--peer rosinality=vq-vae-2-pytorch]

A step is forward, backward (of the vectors' squares and of all losses) and the codebook's update; an optimizer is in none.
All get the same features, each in the layout it takes: dvgen and taming maps (b, d, 32, 32), the others (b, 32, 32, d) or
(1, n, d). The steps take turns; printed are the median of each, theirs over ours, and the median of one bare matrix product of
the size of the search, n x d by d x k, into memory that is there already: what a search on this machine cannot do without.

Memory is measured in a second process, in which the allocator returns every block at once: the highest resident size during a
step less the resident size before it, the median of three steps (Linux only).

vector-quantize-pytorch and pythae are installed packages; of taming's VectorQuantizer2 and rosinality's Quantize a checkout is
measured where --peer names one. A peer that is not there is left out, with a word.
"""

import argparse
import json
import statistics
import sys

import torch
from measured import Report, Row, extra_bytes, in_process, interleaved, option_parser, packages_there
from peers import Peers, add_option, opened
from quantizer_peers import Case, Size, Step, cases, maps, peer_step
from torch import Tensor

from dvgen.assembly import build
from dvgen.discovery import discover
from dvgen.experiment import Choice

PACKAGES = ("vector-quantize-pytorch", "pythae")
CHECKOUTS = ("rosinality", "taming")
NAMES = tuple(dict.fromkeys(case.name for case in cases()))


def ours(case: Case, rows: Tensor) -> Step:
    """A training step of a quantizer of dvgen that was initialised as in training."""
    table, sizes = dict(case.fields), {"num_codes": case.size.k, "dim": case.size.d}
    if "inner" in table:
        table["inner"] = table["inner"] | sizes
    elif case.name not in ("fsq", "lfq"):
        table |= sizes
    quantizer = build(discover().registry, "quantizer", Choice(use=case.name, fields=table))
    quantizer.initialise(torch.randn(2 * case.size.k if case.size.k < 2**14 else case.size.k, case.size.d))
    z = maps(rows)

    def step() -> None:
        features = z.clone().requires_grad_()
        out = quantizer(features)
        torch.stack([out.vectors.square().sum(), *out.losses.values()]).sum().backward()
        quantizer.zero_grad()
        quantizer.update(out.pending)

    return step


def product(size: Size, rows: Tensor) -> Step:
    """One matrix product of the size of the search, in parts that fit the memory that is there."""
    table = torch.randn(size.k, size.d).T.contiguous()
    out = torch.empty(max(1, min(size.n, 2**22 // size.k)), size.k)

    def step() -> None:
        for part in rows.split(len(out)):
            torch.mm(part, table, out=out[: len(part)])

    return step


def measure(case: Case, what: str, rounds: int, peers: Peers) -> dict[str, float]:
    """Seconds or bytes of ours, theirs and of the bare product."""
    torch.manual_seed(0)
    rows = torch.randn(case.size.n, case.size.d)
    steps = {"ours": ours(case, rows), "theirs": peer_step(case, rows, peers), "product": product(case.size, rows)}
    if what == "time":
        return {key: found.median for key, found in interleaved(steps, rounds).items()}
    for step in steps.values():
        step()
    taken = [{key: extra_bytes(step) for key, step in steps.items()} for _ in range(3)]
    return {key: statistics.median(found[key] for found in taken) for key in steps}


def row(case: Case, options: argparse.Namespace) -> Row:
    """One row of the table: a pair, each measure in a process of its own that holds both libraries."""
    print(f"{case.label} {tuple(case.size)} and {case.peer}", file=sys.stderr, flush=True)
    shared = ["--rounds", str(options.rounds), *(word for peer in options.peer for word in ("--peer", peer))]
    spent, memory = (
        in_process(["--child", str(cases().index(case)), what, *shared], threads=options.threads, memory=what == "memory")
        for what in ("time", "memory")
    )
    mebibytes = {key: value / 2**20 for key, value in memory.items()}
    return {
        "dvgen": case.label,
        "peer": f"{case.peer} {case.cls}",
        **case.size._asdict(),
        "ms": spent["ours"] * 1e3,
        "theirs": spent["theirs"] * 1e3,
        "ratio": f"{spent['theirs'] / spent['ours']:.1f}x",
        "product": spent["product"] * 1e3,
        "ms/product": spent["ours"] / spent["product"],
        "MiB": mebibytes["ours"],
        "theirs MiB": mebibytes["theirs"],
        "ratio MiB": f"{mebibytes['theirs'] / mebibytes['ours']:.1f}x",
    }


def main() -> None:
    """Print the table."""
    parser = option_parser(__doc__, rounds=7, parts=NAMES)
    add_option(parser, CHECKOUTS)
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    peers, packages = opened(options.peer, CHECKOUTS), packages_there(*PACKAGES)
    if options.child:
        print(json.dumps(measure(cases()[int(options.child[0])], options.child[1], options.rounds, peers)))
        return
    report = Report(options)
    chosen = [case for case in cases() if case.name in options.only and (case.peer in packages or case.peer in peers)]
    words = peers.missing(*CHECKOUTS)
    words += [f"without {name}: not installed; pip install -e '.[bench]'" for name in PACKAGES if name not in packages]
    report.table(f"training steps, medians of {options.rounds}", [row(case, options) for case in chosen], *words)
    report.write(peers=packages | peers.versions())


if __name__ == "__main__":
    main()
