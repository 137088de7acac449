"""What a person sees of a tokenizer and of a run in progress."""

import io
from pathlib import Path

import pytest
from result_documents import ROWS, TRAIN, measured, results, shown
from rich.console import Console

from dvgen.hookspecs import Run
from dvgen.report.progress import ProgressConsole


def test_the_tokenizer_is_described() -> None:
    text = shown(results(ROWS, entropy_nats_per_image=64.0, skipped=["bad[1].png", "worse.png"]))
    for part in (
        "vqvae + ema + mirror, mse+l1, on folder:my/", "train 40, test 4",
        "codes abcdef01", "conditioning: none", "12k parameters", "600 steps in 61 s",
        "PSNR 23.46 ±0.05 dB", "codes: 8x8 codes of 512, usage 87.5%, perplexity 77.7",
        "floor: 1.0000 nats/code, 92.33 bits/image",
        "2 files", "bad[1].png",
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
    one["tokenizer"]["measurements"]["reconstruction_fd/rand"] = measured(0.25, "FD[rand:v1]")
    text = shown({"groups": [one, other], "intervals": "95 %"})
    summary = text[text.index("tokenizer ") :]
    assert "PSNR dB" in summary
    lines = [line for line in summary.splitlines() if line.lstrip().startswith("vqvae +")]
    assert [line.split("+")[1].strip() for line in lines] == ["ema", "vq"]
    assert [float(word) for word in lines[0].split()[-2:]] == [0.25, 61]
    assert lines[1].split()[-6:] == ["23.46", "±0.05", "87.5%", "77.7", "-", "12"]
    assert "PSNR dB" not in shown(results(ROWS))


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
