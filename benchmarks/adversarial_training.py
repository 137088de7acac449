"""VQGAN against the same network with mean squared error alone: equal steps, equal data, several seeds.

    python benchmarks/adversarial_training.py --data folder:DIR [--seeds 3] [--steps 1500] [--out FOLDER] [--json FILE]

Every seed trains two tokenizers of the recipe `vqgan-tiny` that differ in what they minimise, and a GPT on the codes of each.
The table gives mean and standard deviation over seeds. Beside it, in --out: `curves.png`, the adaptive weight and what happens
to reconstruction and discriminator when the game starts, and `pictures.png`, the same test images and samples of both. Work
that is finished in --out is not done again.
"""

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
from PIL import Image

from dvgen.sealed import write_json

SYSTEMS = {"VQGAN": [], "mse only": ["--discriminator", "none", "--loss", "mse"]}
COLUMNS = {
    "PSNR dB": ("tokenizer", "psnr"),
    "reconstruction FD": ("tokenizer", "reconstruction_fd/rand"),
    "reconstruction KD": ("tokenizer", "reconstruction_kd/rand"),
    "sample FD": ("row", "fd/rand"),
    "sample KD": ("row", "kd/rand"),
    "NLL bits/image": ("row", "bits_image"),
}
CURVES = ("adversarial_weight", "reconstruction", "discriminator_accuracy")


def trained(options: argparse.Namespace, name: str, seed: int) -> tuple[dict[str, Any], Path]:
    """The group of one system and seed, from a comparison of its own; its folder."""
    folder = options.out / f"{name.replace(' ', '-')}-{seed}"
    command = [sys.executable, "-m", "dvgen", "compare", "--recipe", "vqgan-tiny", "--data", options.data, "--prior", "gpt"]
    command += [
        *SYSTEMS[name],
        "--seed",
        str(seed),
        "--out",
        str(folder),
        "--json",
        "--set",
        f"evaluate.samples={options.samples}",
    ]
    command += ["--tokenizer-budget", f"steps:{options.steps}", "--budget", f"steps:{options.prior_steps}"]
    command += ["--precision", "32-true"]  # the same on every machine
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE)  # noqa: S603
    (group,) = json.loads(done.stdout)["groups"]
    return group, folder


def values(group: dict[str, Any]) -> dict[str, float]:
    """The columns of one group."""
    found = {"tokenizer": group["tokenizer"]["measurements"], "row": group["rows"][0]["measurements"]}
    return {title: found[part][name]["value"] for title, (part, name) in COLUMNS.items()}


def logged(folder: Path) -> list[dict[str, float]]:
    """The logged steps of the tokenizer in a comparison's folder."""
    (path,) = folder.glob("tokenizers/*/metrics.jsonl")
    return [line for line in map(json.loads, path.read_text().splitlines()) if "loss" in line]


def draw_curves(runs: dict[str, dict[int, Path]], losses: tuple[str, ...], out: Path) -> None:
    """Adaptive weight, reconstruction loss and accuracy of the discriminator over steps, a line a seed."""
    figure, axes = plt.subplots(len(CURVES), 1, figsize=(8, 8), sharex=True, layout="constrained")
    for seed, folder in runs["VQGAN"].items():
        lines = logged(folder)
        for axis, name in zip(axes, CURVES, strict=True):
            own = [
                (line["step"], sum(line[part] for part in losses) if name == "reconstruction" else line.get(name))
                for line in lines
            ]
            kept = [(step, value) for step, value in own if value is not None]
            axis.plot([step for step, _ in kept], [value for _, value in kept], label=f"seed {seed}", linewidth=1)
    start = json.loads(next(iter(runs["VQGAN"].values())).joinpath("results.json").read_text())
    game = start["groups"][0]["tokenizer"]["experiment"]["adversarial"]
    titles = ("adaptive weight", "reconstruction losses, weighted", "accuracy of the discriminator")
    for axis, title in zip(axes, titles, strict=True):
        axis.set_ylabel(title)
        axis.axvspan(game["start"], game["start"] + game["ramp"], alpha=0.15, label="the game's weight rises")
        axis.grid(alpha=0.3)
    axes[0].set_yscale("log")
    axes[0].legend()
    axes[-1].set_xlabel("step")
    figure.savefig(out, dpi=110)


def draw_pictures(runs: dict[str, dict[int, Path]], out: Path) -> None:
    """Of the first seed: reconstructions of both systems, then samples of both, side by side."""
    seed = min(runs["VQGAN"])
    figure, axes = plt.subplots(2, 2, figsize=(13, 11), layout="constrained")
    for column, name in enumerate(SYSTEMS):
        (reconstructions,) = runs[name][seed].glob("tokenizers/*/samples/reconstructions.png")
        (samples,) = runs[name][seed].glob("rows/*/samples/samples.png")
        for row, (path, what) in enumerate([(reconstructions, "reconstructions (originals above)"), (samples, "samples")]):
            axes[row][column].imshow(Image.open(path))
            axes[row][column].set_title(f"{name}: {what}")
            axes[row][column].axis("off")
    figure.savefig(out, dpi=100)


def table(found: dict[str, list[dict[str, float]]]) -> str:
    """Mean and standard deviation over seeds, as Markdown."""
    lines = ["| system | " + " | ".join(COLUMNS) + " |", "|---" * (len(COLUMNS) + 1) + "|"]
    for name, rows in found.items():
        cells = []
        for title in COLUMNS:
            numbers = [row[title] for row in rows]
            spread = f" ±{statistics.stdev(numbers):.4f}" if len(numbers) > 1 else ""
            cells.append(f"{statistics.mean(numbers):.4f}{spread}")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first", type=int, default=0, help="The first seed; several processes can share the work.")
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--prior-steps", type=int, default=800)
    parser.add_argument("--samples", type=int, default=1024)
    parser.add_argument("--out", type=Path, default=Path("runs/adversarial-training"))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    mpl.use("Agg")
    found: dict[str, list[dict[str, float]]] = {name: [] for name in SYSTEMS}
    runs: dict[str, dict[int, Path]] = {name: {} for name in SYSTEMS}
    losses: tuple[str, ...] = ()
    for seed in range(options.first, options.first + options.seeds):
        for name in SYSTEMS:
            group, runs[name][seed] = trained(options, name, seed)
            found[name].append(values(group))
            if name == "VQGAN":
                losses = tuple(choice["use"] for choice in group["tokenizer"]["experiment"]["loss"])
                environment = json.loads((runs[name][seed] / "results.json").read_text())["environment"]
    draw_curves(runs, losses, options.out / "curves.png")
    draw_pictures(runs, options.out / "pictures.png")
    print(table(found))
    print(f"\n{options.seeds} seeds, {options.steps} steps; pictures: {options.out}/curves.png, {options.out}/pictures.png")
    if options.json:
        settings = {name: getattr(options, name) for name in ("seeds", "steps", "prior_steps", "samples")}
        write_json(options.json, {"schema": 1, "settings": settings, "systems": found, "environment": environment})


if __name__ == "__main__":
    main()
