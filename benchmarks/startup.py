"""How long a person waits before anything begins: fresh interpreters that list, help or import, and those of peers.

    pip install -e '.[bench]'
    python benchmarks/startup.py [--rounds 7] [--json FILE]

Every row is a fresh interpreter with warm caches: CPU time (user and system) and time of day, medians of rounds in which the
rows take turns. `dvgen ...` is what the installed command runs. Beside them stand the modules that were imported, and the CPU
time as a share of what importing torch takes: a library that imports torch at once lets even its help wait for it.
"""

import os
import resource
import subprocess
import sys
import time
from collections.abc import Mapping

from measured import Report, Row, Timing, option_parser, packages_there, timing

HELP_BAR = 0.25
"""Seconds of CPU time that `dvgen --help` may take."""
TORCH = "import torch"
IMPORTS = ("pass", "import click", "import dvgen", "import dvgen.interfaces.prior", TORCH)
COMMANDS = (
    "dvgen --help",
    "dvgen plugins",
    "dvgen recipes",
    "dvgen recipes vqvae-tiny --toml",
    "dvgen recipes vqvae-tiny",
    "dvgen data shapes",
    "dvgen train --help",
)
PEERS = {"vector-quantize-pytorch": "import vector_quantize_pytorch", "pythae": "import pythae.models"}
COUNTED = "import sys\ntry:\n    exec({code!r})\nexcept SystemExit:\n    pass\nprint(len(sys.modules), file=sys.stderr)"


def main() -> None:
    """Print the table."""
    options = option_parser(__doc__, rounds=7).parse_args()
    report = Report(options)
    found = packages_there(*PEERS)
    codes = {name: name for name in IMPORTS} | {name: _of_command(name) for name in COMMANDS}
    codes |= {f"{PEERS[name]} ({found[name]})": PEERS[name] for name in found}
    spent = measured(codes, options.rounds, options.threads)
    modules = {name: _modules(code) for name, code in codes.items()}
    rows = [_row(name, *spent[name], modules[name], spent[TORCH][0].median) for name in codes]
    cpu = spent["dvgen --help"][0].median
    verdict = "met" if cpu < HELP_BAR else "MISSED"
    notes = [f"without {name}: not installed; pip install -e '.[bench]'" for name in PEERS if name not in found]
    report.table("start-up", rows, f"dvgen --help: {cpu:.3f} s of CPU time; may take {HELP_BAR} s: {verdict}", *notes)
    report.write(peers=found, bars={"dvgen --help, CPU seconds": HELP_BAR})


def measured(codes: Mapping[str, str], rounds: int, threads: int) -> dict[str, tuple[Timing, Timing]]:
    """CPU time and time of day of every code, in rounds that take turns; one round before them does not count."""
    cpu: dict[str, list[float]] = {name: [] for name in codes}
    wall: dict[str, list[float]] = {name: [] for name in codes}
    for _ in range(1 + rounds):
        for name, code in codes.items():
            began, used = time.perf_counter(), _used()
            _run(code, threads)
            cpu[name].append(_used() - used)
            wall[name].append(time.perf_counter() - began)
    return {name: (timing(cpu[name][1:]), timing(wall[name][1:])) for name in codes}


def _row(name: str, cpu: Timing, wall: Timing, modules: int, torch: float) -> Row:
    return {
        "fresh interpreter": name,
        "CPU s": cpu.median,
        "least": cpu.least,
        "s": wall.median,
        "modules": modules,
        "of torch's CPU s": f"{cpu.median / torch:.1%}",
    }


def _of_command(line: str) -> str:
    return f"from dvgen.cli import main; main({line.split()[1:]})"


def _run(code: str, threads: int = 1) -> str:
    """Run code in a fresh interpreter; returns what it wrote on standard error."""
    settings = os.environ | {"OMP_NUM_THREADS": str(threads), "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=settings, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise SystemExit(f"{code}: failed:\n{done.stderr[-2000:]}")
    return done.stderr


def _modules(code: str) -> int:
    return int(_run(COUNTED.format(code=code)).split()[-1])


def _used() -> float:
    """CPU time of every interpreter that has ended so far."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    main()
