"""Two processes train what one does on the same global batch, and end cleanly."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from toy_runs import settings

from dvgen.cli import main
from dvgen.training.checkpoint import load_checkpoint, steps

pytestmark = pytest.mark.slow
TESTS = Path(__file__).parent
LAUNCHERS = {
    "dvgen": [sys.executable, "-m", "dvgen"],
    "torchrun": [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "dvgen"],
}
PLUGIN = ["-p", "toy_components"]
PRIOR = ["--prior", "independent"]  # in a transformer, parameters without a gradient would move by Adam's scaled rounding
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(TESTS)}


def launched(launcher: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*LAUNCHERS[launcher], *PLUGIN, *arguments, "--devices", "2"],
        env=os.environ | ENVIRONMENT, capture_output=True, text=True, timeout=180, check=False,
    )  # fmt: skip


def alone(*arguments: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*PLUGIN, *arguments])
    assert not ended.value.code


@pytest.mark.parametrize(("launcher", "quantizer"), [("dvgen", "ema"), ("torchrun", "vq")])
def test_two_processes_end_with_the_weights_of_one(tmp_path: Path, launcher: str, quantizer: str) -> None:
    """The EMA codebook too: its statistics are summed over ranks. One document on standard output, of rank 0."""
    arguments = [*PRIOR, "--quantizer", quantizer, "--json", *settings(steps=(8, 8))]
    done = launched(launcher, "train", "--out", str(tmp_path / "two"), *arguments)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["folder"] == str(tmp_path / "two")
    assert json.loads((tmp_path / "two" / "run.json").read_text())["status"] == "finished"
    alone("train", "--out", str(tmp_path / "one"), *arguments)
    for part in ("tokenizer", "."):
        one, two = (load_checkpoint(steps(tmp_path / name / part)[0]) for name in ("one", "two"))
        assert one.step == two.step == 8
        assert (one.codes, one.flops) == (two.codes, two.flops), "what the whole batch spends, however it is shared out"
        assert one.model.keys() == two.model.keys()
        for name, tensor in one.model.items():
            torch.testing.assert_close(two.model[name], tensor, rtol=1e-5, atol=1e-5, msg=f"{part} {name}")


def test_two_processes_play_the_adversarial_game_of_one(tmp_path: Path) -> None:
    """Both players, and the averaged weights: the adaptive weight is that of the whole batch, not of a rank's part.

    Without normalisation by the batch, which each rank does for itself. Adam's first steps are the sign of a gradient, however
    small, so the tolerance is that of a few weights whose gradient is nearly zero.
    """
    game = ("begin=1", "start=2", "ramp=2", "discriminator.norm=none", "discriminator.layers=1", "discriminator.channels=4")
    arguments = [
        *PRIOR,
        "--discriminator",
        "patchgan",
        *settings(
            *(f"adversarial.{field}" for field in game), "train.tokenizer.ema=0.9", "train.tokenizer.log_every=1", steps=(8, 1)
        ),
    ]
    done = launched("dvgen", "train", "--out", str(tmp_path / "two"), *arguments)
    assert done.returncode == 0, done.stderr
    alone("train", "--out", str(tmp_path / "one"), *arguments)
    one, two = (load_checkpoint(steps(tmp_path / name / "tokenizer")[0]) for name in ("one", "two"))
    assert set(one.more) == set(two.more) == {"average", "discriminator", "discriminator-optimizer"}
    for mine, its in ((one.model, two.model), (one.more["discriminator"], two.more["discriminator"])):
        for name, tensor in mine.items():
            torch.testing.assert_close(its[name], tensor, rtol=1e-4, atol=1e-4, msg=name)
    weights = [
        [json.loads(line)["adversarial_weight"] for line in path.read_text().splitlines() if "adversarial_weight" in line]
        for path in (tmp_path / name / "tokenizer" / "metrics.jsonl" for name in ("one", "two"))
    ]
    assert len(weights[0]) > 0
    assert weights[1] == pytest.approx(weights[0], rel=1e-3)


def test_a_comparison_by_two_processes_is_written_once(tmp_path: Path) -> None:
    arguments = ["compare", *PRIOR, "--json", *settings(steps=(4, 4))]
    done = launched("dvgen", *arguments, "--out", str(tmp_path / "two"))
    assert done.returncode == 0, done.stderr
    alone(*arguments, "--out", str(tmp_path / "one"))
    one, two = (json.loads((tmp_path / name / "results.json").read_text()) for name in ("one", "two"))
    assert json.loads(done.stdout) == two
    values = [document["groups"][0]["rows"][0]["measurements"]["nll"]["value"] for document in (one, two)]
    assert values[0] == pytest.approx(values[1], rel=1e-4)
    assert list(tmp_path.rglob(".*")) == []


def test_two_processes_end_a_budget_of_seconds_at_the_same_step(tmp_path: Path) -> None:
    """Each has a clock of its own; were they not shared, one would wait for the other's gradients forever."""
    budgets = ["--tokenizer-budget", "seconds:0.3", "--budget", "seconds:0.3"]
    done = launched("dvgen", "train", "--out", str(tmp_path / "two"), *PRIOR, *settings(), *budgets)
    assert done.returncode == 0, done.stderr
    for part in ("tokenizer", "."):
        assert load_checkpoint(steps(tmp_path / "two" / part)[0]).seconds >= 0.3


def test_a_batch_that_two_devices_cannot_share_is_a_config_error(tmp_path: Path) -> None:
    done = launched("dvgen", "train", "--out", str(tmp_path / "run"), *PRIOR, *settings("train.prior.batch=7"))
    assert done.returncode == 2, done.stderr
    assert "batch 7 cannot be divided among 2 devices" in done.stderr
    assert not (tmp_path / "run").exists()


def test_one_process_that_is_interrupted_stops_both_at_the_same_step(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    every = [f"train.tokenizer.{field}" for field in ("log_every=1", "checkpoint_every=100000")]
    arguments = ["train", "--out", str(folder), *PRIOR, *settings(*every, steps=(100000, 1)), "--devices", "2"]
    running = subprocess.Popen(
        [*LAUNCHERS["dvgen"], *PLUGIN, *arguments],
        env=os.environ | ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        log, deadline = folder / "tokenizer" / "metrics.jsonl", time.monotonic() + 120
        while not log.exists() or log.read_text().count("\n") < 3:
            assert running.poll() is None, running.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        running.send_signal(signal.SIGINT)
        _, err = running.communicate(timeout=60)
    finally:
        running.kill()
        running.communicate()
    assert running.returncode == 75, err
    assert json.loads((folder / "run.json").read_text())["status"] == "stopped"
    assert len(list(folder.glob("tokenizer/checkpoints/step-*"))) == 1
