"""What every quantizer makes of the same images: use of its codes, and reconstruction, at equal training steps.

    python benchmarks/codebook_usage.py --data folder:DIR [--steps 2000] [--only ema,fsq] [--out FOLDER] [--json FILE]

One encoder, one decoder, one seed, one order of the data; only the quantizer differs. Usage and perplexity are counted, and
PSNR is taken, over the whole test split. Below the table stands what the codebook doctor said during each training. Work that
is finished in --out is not done again.
"""

import argparse
import contextlib
import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from dvgen import hookimpl
from dvgen.assembly import checked_experiment, resolved
from dvgen.data.loading import signal_batches
from dvgen.discovery import Plugins, discover
from dvgen.evaluation.codebook import CodebookUse
from dvgen.evaluation.reconstruction import psnr
from dvgen.experiment import Experiment, table_of
from dvgen.hookspecs import Run
from dvgen.sealed import write_json
from dvgen.tokenizer import Tokenizer
from dvgen.training.folder import environment
from dvgen.training.interrupt import StopRequest
from dvgen.training.pipeline import OpenData, open_data
from dvgen.training.session import Hardware, Session, open_session
from dvgen.training.tokenizer import train_tokenizer

PRECISION = "32-true"
"""On every machine: usage and PSNR are compared with those that are kept."""
VQ = {"use": "vq", "num_codes": 512}
CASES: dict[str, dict[str, Any]] = {
    "vq": VQ,
    "vq, rotation": VQ | {"estimator": "rotation"},
    "ema": {"use": "ema", "num_codes": 512},
    "ema, rotation": {"use": "ema", "num_codes": 512, "estimator": "rotation"},
    "gumbel": {"use": "gumbel", "num_codes": 512},
    "simvq": {"use": "simvq", "num_codes": 512},
    "cosine, d=8": {"use": "cosine", "num_codes": 512, "dim": 8},
    "ibq": {"use": "ibq", "num_codes": 512},
    "ibq, entropy 0.5": {"use": "ibq", "num_codes": 512, "entropy_batch": 0.5},
    "fsq 8x5x5x5": {"use": "fsq", "levels_per_channel": [8, 5, 5, 5]},
    "lfq, 9 bits": {"use": "lfq", "bits": 9},
    "lfq, diversity 4": {"use": "lfq", "bits": 9, "diversity": 4.0},
    "bsq, 9 bits": {"use": "bsq", "bits": 9},
    "projected ema, d=8": {"use": "projected", "dim": 64, "inner": {"use": "ema", "num_codes": 512, "dim": 8}},
    "product 2 x ema": {"use": "product", "groups": 2, "inner": {"use": "ema", "num_codes": 512, "dim": 32}},
    "residual 2 x ema": {"use": "residual", "levels": 2, "inner": {"use": "ema", "num_codes": 512}},
    "ema 16384": {"use": "ema", "num_codes": 16384},
    "simvq 16384": {"use": "simvq", "num_codes": 16384},
    "fsq 8x8x8x8x4": {"use": "fsq", "levels_per_channel": [8, 8, 8, 8, 4]},
}


class Listener:
    """Keeps what training says."""

    def __init__(self) -> None:
        self.said: list[str] = []

    @hookimpl
    def dvgen_notice(self, run: Run, step: int, text: str) -> None:
        """Keep a line."""
        self.said.append(f"step {step}: {text}")


@contextlib.contextmanager
def listening(plugins: Plugins) -> Iterator[Listener]:
    """A listener among the plugins."""
    listener = Listener()
    plugins.manager.register(listener, name="listener")
    yield listener
    plugins.manager.unregister(name="listener")


def experiment_of(plugins: Plugins, quantizer: dict[str, Any], options: argparse.Namespace) -> Experiment:
    """The default experiment with these data, this quantizer and these steps."""
    use, _, location = options.data.partition(":")
    table = table_of(Experiment())
    table["data"] = {"use": use} | ({"location": location} if location else {})
    table["quantizer"] = [quantizer]
    table["train"]["tokenizer"]["budget"] = f"steps:{options.steps}"
    table["train"]["precision"] = PRECISION
    return resolved(plugins.registry, checked_experiment(plugins.registry, table))


@torch.no_grad()
def assess(tokenizer: Tokenizer, data: OpenData) -> dict[str, Any]:
    """PSNR in dB, and usage and perplexity of each level, over the test split."""
    codes, decibels = [], []
    for signals, _ in signal_batches(data.dataset, data.splits["test"], 256):
        codes.append(tokenizer.encode(signals))
        decibels.append(psnr(tokenizer.decode(codes[-1]).clamp(-1, 1), signals))
    levels = zip(tokenizer.levels, zip(*codes, strict=True), strict=True)
    uses = [CodebookUse.of(level, torch.cat(parts)) for level, parts in levels]
    return {
        "psnr": float(torch.cat(decibels).mean()),
        "num_codes": [use.num_codes for use in uses],
        "usage": [use.usage for use in uses],
        "perplexity": [use.perplexity for use in uses],
    }


def measured(name: str, session: Session, options: argparse.Namespace) -> dict[str, Any]:
    """Train one case, or take what is there, and measure it."""
    folder = options.out / name.replace(" ", "-").replace(",", "")
    kept = folder / "usage.json"
    if kept.exists():
        return json.loads(kept.read_text())
    experiment = experiment_of(session.plugins, CASES[name], options)
    data = open_data(session, experiment)
    folder.mkdir(parents=True, exist_ok=True)
    with listening(session.plugins) as listener:
        tokenizer = train_tokenizer(session, experiment, data.dataset, data.splits["train"], folder)
    found = {"case": name, "quantizer": CASES[name], **assess(tokenizer, data), "said": listener.said}
    write_json(kept, found)
    return found


def line(found: dict[str, Any]) -> str:
    """One row of the table."""
    codes = " / ".join(str(size) for size in found["num_codes"])
    usage = " / ".join(f"{100 * share:.1f}" for share in found["usage"])
    perplexity = " / ".join(f"{value:.1f}" for value in found["perplexity"])
    return f"{found['case']:20s} {codes:>14s} {usage:>15s} {perplexity:>17s} {found['psnr']:8.2f}"


def main() -> None:
    """Train, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="as for dvgen: NAME or NAME:LOCATION")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--only", help="cases, separated by semicolons")
    parser.add_argument("--out", type=Path, default=Path("runs/codebook-usage"))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    session = open_session(discover(), StopRequest(), Hardware(accelerator="auto", precision=PRECISION))
    wanted = options.only.split(";") if options.only else list(CASES)
    results = []
    print(f"{'quantizer':20s} {'codes':>14s} {'usage %':>15s} {'perplexity':>17s} {'PSNR dB':>8s}", flush=True)
    for name in wanted:
        results.append(measured(name, session, options))
        print(line(results[-1]), flush=True)
    for found in results:
        print(f"\n{found['case']}", *(f"  {text}" for text in found["said"]), sep="\n")
    if options.json:
        about = {"environment": environment(), "data": options.data.partition(":")[0], "steps": options.steps}
        write_json(options.json, about | {"results": results})


if __name__ == "__main__":
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        main()
