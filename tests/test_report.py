"""What a person sees: every row and every number of the results, whole, in the words of their protocol."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from dvgen.hookspecs import Run
from dvgen.report.progress import ProgressConsole
from dvgen.report.table import WIDTH, show_results

TRAIN: dict[str, Any] = {"tokenizer": {"ema": 0.0}}


def measured(value: float, metric: str, interval: tuple[float, float] | None = None, **protocol: str) -> dict[str, Any]:
    key = {"metric": metric, "unit": metric, "protocol": protocol or {"likelihood": "exact"}, "higher_is_better": False}
    return {"value": value, "interval": interval and list(interval), "n": 100, "key": key}


def row(prior: str, nll: float, **more: Any) -> dict[str, Any]:
    found = {"nll": measured(nll, "nats/code", (nll - 0.25, nll + 0.25)), "bits_image": measured(nll * 92, "bits/image")}
    return {
        "prior": prior,
        "parameters": 1234567,
        "train_seconds": 61.4,
        "samples_per_second": 55.5,
        "measurements": found | more,
    }


def results(rows: list[dict[str, Any]], **tokenizer: Any) -> dict[str, Any]:
    found = {
        "psnr": measured(23.456, "psnr", (23.4, 23.5)),
        "usage/codes": measured(0.875, "codebook usage"),
        "perplexity/codes": measured(77.7, "codebook perplexity"),
    }
    own = {
        "name": "ema", "encoder": "vqvae", "data": "folder", "location": "my/[bold]images", "images": {"train": 40, "test": 4},
        "codes": "abcdef0123456789", "conditioning": "none", "parameters": 12345, "steps": 600, "train_seconds": 61.4,
        "levels": [{"name": "codes", "grid": [8, 8], "num_codes": 512}], "entropy_nats_per_image": None,
        "codes_per_image": 64, "skipped": [], "measurements": found,
        "experiment": {"decoder": {"use": "mirror"}, "loss": [{"use": "mse"}, {"use": "l1"}], "train": TRAIN},
    }  # fmt: skip
    verdict = {
        "pair": ["gpt", "pixelsnail"],
        "difference": -0.5,
        "interval": (-0.6, -0.4),
        "unit": "nats/code",
        "verdict": "gpt is better",
    }
    baselines = [
        {"name": name, "measurements": row(name, value)["measurements"]} for name, value in (("unigram", 5.0), ("left+up", 3.3))
    ]
    group = {"tokenizer": own | tokenizer, "rows": rows, "baselines": baselines, "verdicts": [verdict]}
    return {"groups": [group], "intervals": "95 %, over test images"}


def shown(document: Mapping[str, Any], width: int = WIDTH) -> str:
    console = Console(file=io.StringIO(), width=width)
    show_results(document, console)
    return str(console.file.getvalue())  # type: ignore[attr-defined]


FD = {"fd": measured(0.0123, "FD[rand:v1]")}
ROWS = [row("pixelsnail", 2.5, **FD), row("gpt", 2.0, **FD)]


def test_every_row_baseline_and_verdict_is_shown_best_first() -> None:
    text = shown(results(ROWS))
    lines = [line.split() for line in text.splitlines()]
    order = [words[0] for words in lines if words and words[0] in ("gpt", "pixelsnail", "unigram", "left+up")]
    assert order[:4] == ["gpt", "pixelsnail", "unigram", "left+up"]
    gpt = next(words for words in lines if words and words[0] == "gpt")
    assert gpt == ["gpt", "1.23M", "2.0000", "±0.2500", "184.0", "-", "0.0123", "61", "56"]
    assert "gpt - pixelsnail: -0.5000 nats/code [-0.6000, -0.4000], paired by image: gpt is better" in text
    assert "95 %, over test images" in text


def test_the_distance_is_named_after_its_features_and_no_markup_is_swallowed() -> None:
    text = shown(results(ROWS))
    assert "FD[rand:v1] ↓" in text
    assert "my/[bold]images" in text
    assert "FD ↓" in shown(results([row("gpt", 2.0)]))


def test_the_tokenizer_is_described() -> None:
    text = shown(results(ROWS, entropy_nats_per_image=64.0, skipped=["bad[1].png", "worse.png"]))
    for part in (
        "vqvae + ema + mirror, mse+l1, on folder:my/", "train 40, test 4",
        "codes abcdef01", "conditioning: none", "12k parameters", "600 steps in 61 s",
        "PSNR 23.46 ±0.05 dB", "codes: 8x8 codes of 512, usage 87.5%, perplexity 77.7",
        "floor: 1.0000 nats/code, 92.33 bits/image",
        "2 files could not be read", "bad[1].png",
    ):  # fmt: skip
        assert part in text.replace("\n", " ")


def test_what_else_decides_a_tokenizer_is_told() -> None:
    """An opponent is part of its name; and whether its weights are an average is said, for it changes every number."""
    parts = {"decoder": {"use": "mirror"}, "loss": [{"use": "mse"}], "train": TRAIN}
    game = {"adversarial": {"discriminator": {"use": "patchgan"}}}
    assert "vqvae + ema + mirror + patchgan, mse, on" in shown(results(ROWS, experiment=parts | game))
    averaged = parts | {"train": {"tokenizer": {"ema": 0.999}}}
    assert "weights: moving average (0.999)" in shown(results(ROWS, experiment=averaged))
    assert "moving average" not in shown(results(ROWS))


def test_sound_is_measured_in_the_ratio_of_signal_to_noise() -> None:
    codebook = {"usage/codes": measured(0.5, "x"), "perplexity/codes": measured(7.0, "x")}
    sound = results(ROWS, measurements={"snr": measured(12.5, "snr", (12.25, 12.75))} | codebook)["groups"]
    text = shown({"groups": sound, "intervals": "95 %"})
    assert "SNR 12.50 ±0.25 dB" in text
    assert "PSNR" not in text
    assert "SNR dB ↑" in shown({"groups": sound * 2, "intervals": "95 %"})
    assert "PSNR/SNR dB ↑" in shown({"groups": results(ROWS)["groups"] + sound, "intervals": "95 %"})


def test_several_tokenizers_are_shown_side_by_side() -> None:
    one, other = results(ROWS)["groups"] + results(ROWS, name="vq", train_seconds=12.0)["groups"]
    text = shown({"groups": [one, other], "intervals": "95 %"})
    summary = text[text.index("tokenizer ") :]
    assert "PSNR dB" in summary
    lines = [line for line in summary.splitlines() if line.lstrip().startswith("vqvae +")]
    assert [line.split("+")[1].strip() for line in lines] == ["ema", "vq"]
    assert lines[1].split()[-6:] == ["23.46", "±0.05", "87.5%", "77.7", "-", "12"]
    assert "PSNR dB" not in shown(results(ROWS))


def test_a_prior_that_loses_to_counting_is_named() -> None:
    lost = "not better than counting neighbours"
    assert lost not in shown(results(ROWS))
    (line,) = [line for line in shown(results([row("gpt", 2.0), row("poor", 3.3)])).splitlines() if lost in line]
    assert line.startswith("poor")


def test_a_bound_is_shown_as_one() -> None:
    bound = row("masked", 2.0)
    for name in ("nll", "bits_image"):
        bound["measurements"][name]["key"]["protocol"] = {"likelihood": "bound"}
    text = shown(results([bound]))
    assert "<= 2.0000 ±0.2500" in text
    assert "<= 184.0" in text
    assert "<=" not in shown(results(ROWS))


@pytest.mark.parametrize("prior", ["gpt", "top=pixelsnail+bottom=pixelsnail"])
def test_nothing_is_cut_off_where_there_is_no_terminal(prior: str) -> None:
    full = {
        "fd": measured(12345.6789, "FD[inception-tv:0123456789ab]"),
        "excess": measured(1.2345, "excess", (1.2, 1.3)),
    }
    text = shown(results([row(prior, 12.0, **full)]))
    assert "…" not in text
    for part in (prior, "12.0000 ±0.2500", "1.2345 ±0.0500", "12345.6789", "FD[inception-tv:0123456789ab] ↓", "samples/s"):
        assert part in text


def run(step: int = 0) -> Run:
    return Run(folder=Path("runs/[red]x"), stage="prior", name="x", step=step, config={})


def progress(monkeypatch: pytest.MonkeyPatch, clock: list[float], step: int = 0) -> str:
    """What is said of a run whose steps are logged at these times."""
    console = Console(file=io.StringIO(), width=60)
    now = [0.0]
    monkeypatch.setattr("dvgen.report.progress.time.monotonic", lambda: now[0])
    with ProgressConsole(console) as observer:
        observer.dvgen_run_started(run(step))
        for i, now[0] in enumerate(clock):
            values = {"progress": (i + 1) / len(clock), "seconds": 10.0, "loss": 1.5, "examples_per_second": 99.0}
            observer.dvgen_step(run(step), i + 1, values)
        observer.dvgen_run_finished(run(step), {"step": len(clock), "seconds": 125.0})
    return str(console.file.getvalue())  # type: ignore[attr-defined]


def test_progress_tells_beginning_end_and_a_line_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = progress(monkeypatch, [1.0, 20.0]).splitlines()
    assert lines[0] == "prior: runs/[red]x"
    assert lines[-1] == "prior: 2 steps in 2:05"
    assert any(line.startswith("prior: 100%  step 2  loss 1.5000  99/s  0:00 left") for line in lines)
    assert progress(monkeypatch, [1.0], step=7).splitlines()[0] == "prior: runs/[red]x, from step 7"
    assert len(progress(monkeypatch, [1.0, 2.0, 3.0]).splitlines()) == 2


@pytest.mark.parametrize("terminal", [True, False])
def test_a_notice_is_said_whole_and_at_once(terminal: bool) -> None:
    """Above a live bar too, and without taking brackets for markup."""
    console = Console(file=io.StringIO(), width=60, force_terminal=terminal)
    text = "codebook: [red] " + "word " * 20 + "end"
    with ProgressConsole(console) as observer:
        observer.dvgen_run_started(run())
        observer.dvgen_notice(run(), 7, text)
        assert f"prior: step 7: {text}" in str(console.file.getvalue())  # type: ignore[attr-defined]
