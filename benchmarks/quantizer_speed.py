"""Training steps of dvgen's quantizers against those of vector-quantize-pytorch: time and peak memory, in one process.

    pip install -e '.[bench]'
    python benchmarks/quantizer_speed.py [--threads 2] [--rounds 7] [--only ema] [--json FILE]

A step is forward, backward (of the vectors' squares and of all losses) and the codebook's update. Both get the same features,
each in the layout it prefers: dvgen maps (b, d, 32, 32), the other rows (1, n, d). Rounds are interleaved, one step of each in
turn; printed are the least time of each (what the machine's noise left alone), their ratio, and the least time of one bare
matrix product of the size of the search, n x d by d x k, into memory that is there already.

Memory is measured in a second process, in which the allocator returns every block at once: the highest resident size during a
step less the resident size before it, the median of three steps (Linux only).
"""

import argparse
import gc
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dvgen.assembly import build
from dvgen.discovery import discover
from dvgen.experiment import Choice
from dvgen.training.folder import environment

SIDE = 32
OTHER = "vector-quantize-pytorch"
SIZES = ((8192, 1024, 64), (4096, 8192, 256), (16384, 16384, 8))
"""Features, codes, width."""

Step = Callable[[], None]


def cases() -> list[tuple[str, tuple[int, int, int], str, dict[str, Any], dict[str, Any]]]:
    """Name, (n, k, d), class of the other library, fields of ours, arguments of theirs."""
    decay = {"decay": 0.99}
    plain = decay | {"rotation_trick": False}
    found: list[Any] = [("ema", size, "VectorQuantize", {}, plain) for size in SIZES]
    found += [("ema", size, "VectorQuantize", {"estimator": "rotation"}, decay | {"rotation_trick": True}) for size in SIZES]
    first = SIZES[0]
    learned = {"learnable_codebook": True, "ema_update": False, "rotation_trick": False}
    found += [
        ("vq", first, "VectorQuantize", {}, learned),
        ("cosine", first, "VectorQuantize", {}, plain | {"use_cosine_sim": True}),
        ("simvq", first, "SimVQ", {}, {"rotation_trick": False}),
        ("residual", first, "ResidualVQ", {"levels": 4, "inner": {"use": "ema"}}, plain | {"num_quantizers": 4}),
        ("fsq", (8192, 1000, 4), "FSQ", {"levels_per_channel": [8, 5, 5, 5]}, {"levels": [8, 5, 5, 5]}),
        ("lfq", (8192, 2**14, 14), "LFQ", {"bits": 14}, {"dim": 14, "codebook_size": 2**14, "commitment_loss_weight": 0.25}),
    ]
    return found


def ours(name: str, size: tuple[int, int, int], fields: dict[str, Any], rows: Tensor) -> Step:
    """A training step of a quantizer of dvgen that was initialised as in training."""
    _, num_codes, dim = size
    table, sizes = dict(fields), {"num_codes": num_codes, "dim": dim}
    if "inner" in table:
        table["inner"] = table["inner"] | sizes
    elif name not in ("fsq", "lfq"):
        table |= sizes
    quantizer = build(discover().registry, "quantizer", Choice(use=name, fields=table))
    quantizer.initialise(torch.randn(2 * num_codes if num_codes < 2**14 else num_codes, dim))
    z = rows.unflatten(0, (-1, SIDE, SIDE)).movedim(-1, 1).contiguous()

    def step() -> None:
        features = z.clone().requires_grad_()
        out = quantizer(features)
        torch.stack([out.vectors.square().sum(), *out.losses.values()]).sum().backward()
        quantizer.zero_grad()
        quantizer.update(out.pending)

    return step


def theirs(cls: str, size: tuple[int, int, int], arguments: dict[str, Any], rows: Tensor) -> Step:
    """The like of the other library."""
    import vector_quantize_pytorch

    _, num_codes, dim = size
    if cls not in ("FSQ", "LFQ"):
        arguments = {"dim": dim, "codebook_size": num_codes} | arguments
    module = getattr(vector_quantize_pytorch, cls)(**arguments)
    module.train()

    def step() -> None:
        features = rows.unsqueeze(0).clone().requires_grad_()
        vectors, _, *rest = module(features)
        losses = [rest[0].sum()] if rest else []
        torch.stack([vectors.square().sum(), *losses]).sum().backward()
        module.zero_grad()

    return step


def product(size: tuple[int, int, int], rows: Tensor) -> Step:
    """One matrix product of the size of the search, in parts that fit the memory that is there."""
    n, k, d = size
    table = torch.randn(k, d).T.contiguous()
    out = torch.empty(max(1, min(n, 2**22 // k)), k)

    def step() -> None:
        for part in rows.split(len(out)):
            torch.mm(part, table, out=out[: len(part)])

    return step


def seconds(step: Step) -> float:
    """Wall-clock time of one step."""
    began = time.perf_counter()
    step()
    return time.perf_counter() - began


def extra_bytes(step: Step) -> float:
    """Highest resident size during a step less the resident size before it."""
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")
    before = _status("VmRSS")
    step()
    return float(_status("VmHWM") - before)


def _status(name: str) -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) * 1024


def measure(case: Any, what: str, rounds: int) -> dict[str, float]:
    """Seconds or bytes of ours, theirs and of the bare product."""
    name, size, cls, fields, arguments = case
    torch.manual_seed(0)
    rows = torch.randn(size[0], size[2])
    steps = {
        "ours": ours(name, size, fields, rows),
        "theirs": theirs(cls, size, arguments, rows),
        "product": product(size, rows),
    }
    for step in steps.values():
        step()
    found: dict[str, list[float]] = {key: [] for key in steps}
    for _ in range(rounds if what == "time" else 3):
        for key, step in steps.items():
            found[key].append(seconds(step) if what == "time" else extra_bytes(step))
    return {key: min(values) if what == "time" else statistics.median(values) for key, values in found.items()}


def in_process(index: int, what: str, options: argparse.Namespace) -> dict[str, float]:
    """`measure` in a process of its own, both libraries in it."""
    settings = {"OMP_NUM_THREADS": str(options.threads), "PYTHONWARNINGS": "ignore"}
    if what == "memory":
        settings |= {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "0"}
    command = [sys.executable, __file__, "--child", str(index), what, "--rounds", str(options.rounds)]
    done = subprocess.run(command, env=os.environ | settings, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise SystemExit(f"case {index} ({what}) failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def line(case: Any, spent: dict[str, float], memory: dict[str, float]) -> str:
    """One row of the table."""
    name, (n, k, d), cls, fields, _ = case
    label = f"{name} (rotation)" if fields.get("estimator") == "rotation" else name
    mebibytes = {key: value / 2**20 for key, value in memory.items()}
    remembered = f"{mebibytes['ours']:8.1f} {mebibytes['theirs']:8.1f} {mebibytes['theirs'] / mebibytes['ours']:7.1f}x"
    ratio, distance = spent["theirs"] / spent["ours"], spent["ours"] / spent["product"]
    return (
        f"{label:15s} {cls:15s} {n:6d} {k:6d} {d:4d} {spent['ours'] * 1e3:8.1f} {spent['theirs'] * 1e3:9.1f} "
        f"{ratio:6.1f}x {spent['product'] * 1e3:8.1f} {distance:6.1f}x {remembered}"
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", help="names, separated by commas")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(measure(cases()[int(options.child[0])], options.child[1], options.rounds)))
        return
    print(
        f"{OTHER} {version(OTHER)}, torch {torch.__version__}, {options.threads} threads; ms and MiB, least of {options.rounds}"
    )
    print(
        f"{'dvgen':15s} {'theirs':15s} {'n':>6s} {'k':>6s} {'d':>4s} {'ms':>8s} {'theirs':>9s} {'ratio':>7s} "
        f"{'product':>8s} {'ours/p.':>7s} {'MiB':>8s} {'theirs':>8s} {'ratio':>8s}"
    )
    results = []
    for index, case in enumerate(cases()):
        if options.only and case[0] not in options.only.split(","):
            continue
        spent, memory = in_process(index, "time", options), in_process(index, "memory", options)
        print(line(case, spent, memory), flush=True)
        results.append({"case": case, "seconds": spent, "bytes": memory})
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps({"environment": environment(), OTHER: version(OTHER), "results": results}, indent=1))


if __name__ == "__main__":
    main()
