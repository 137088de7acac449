"""Stopping and dying: a run that is interrupted, or killed at any moment, resumes to the weights of one that was not."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from toy_runs import TINY_GPT, dvgen, same, saved, settings

from dvgen import hookimpl
from dvgen.errors import IntegrityError
from dvgen.training.checkpoint import load_newest
from dvgen.training.folder import locked
from dvgen.training.interrupt import StopRequest, stop_on_signal

STEPS = (30, 30)
EVERY = [f"train.{stage}.{field}" for stage in ("tokenizer", "prior") for field in ("log_every=1", "checkpoint_every=4")]
OPTIONS = settings(*TINY_GPT, *EVERY, steps=STEPS)
STOPPED, INTERRUPTED, INTEGRITY = 75, 130, 4


def finished_like(folder: Path, whole: Path) -> None:
    """Both stages of a run ended with the same weights and optimiser state as another's."""
    assert same(saved(folder), saved(whole))
    assert same(saved(folder / "tokenizer"), saved(whole / "tokenizer"))
    assert json.loads((folder / "run.json").read_text())["status"] == "finished"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was not interrupted."""
    folder = tmp_path_factory.mktemp("interrupt") / "whole"
    assert dvgen("train", "--out", str(folder), *OPTIONS) == 0
    return folder


@pytest.fixture
def signals_at(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, int, int], None]:
    """Load with `-p interrupting`: sends this process SIGINT `times` times at a step of a stage."""

    def prepare(stage: str, step: int, times: int) -> None:
        module = types.ModuleType("interrupting")
        at = step

        @hookimpl
        def dvgen_components() -> list[object]:
            return []

        @hookimpl
        def dvgen_step(run: "object", step: int) -> None:
            if (run.stage, step) == (stage, at):  # type: ignore[attr-defined]
                for _ in range(times):
                    signal.raise_signal(signal.SIGINT)

        module.dvgen_components, module.dvgen_step = dvgen_components, dvgen_step  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "interrupting", module)

    return prepare


@pytest.mark.parametrize(("stage", "step"), [("tokenizer", 1), ("tokenizer", 30), ("prior", 6)])
def test_an_interrupted_run_stops_resumable_and_ends_alike(
    whole: Path, tmp_path: Path, signals_at: Callable[..., None], capsys: pytest.CaptureFixture[str], stage: str, step: int
) -> None:
    folder = tmp_path / "run"
    signals_at(stage, step, 1)
    before = signal.getsignal(signal.SIGINT)
    assert dvgen("-p", "interrupting", "train", "--out", str(folder), *OPTIONS) == STOPPED
    assert signal.getsignal(signal.SIGINT) is before
    err = capsys.readouterr().err
    assert "Ctrl-C again stops at once" in err
    assert "stopped on request" in err
    assert json.loads((folder / "run.json").read_text())["status"] == "stopped"
    newest = load_newest(folder if stage == "prior" else folder / "tokenizer")
    assert newest is not None
    assert newest.step == step
    assert dvgen("train", "--resume", str(folder), "--accelerator", "cpu") == 0
    finished_like(folder, whole)


def test_a_second_interrupt_stops_at_once_and_loses_only_steps_since_the_checkpoint(
    whole: Path, tmp_path: Path, signals_at: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    signals_at("prior", 6, 2)
    assert dvgen("-p", "interrupting", "train", "--out", str(folder), *OPTIONS) == INTERRUPTED
    assert "finished checkpoints are kept" in capsys.readouterr().err
    assert json.loads((folder / "run.json").read_text())["status"] == "stopped"
    newest = load_newest(folder)
    assert newest is not None
    assert newest.step == 4
    assert dvgen("train", "--resume", str(folder), "--accelerator", "cpu") == 0
    finished_like(folder, whole)


def test_requests_are_asked_first_and_insisted_on_second() -> None:
    told: list[str] = []
    with stop_on_signal(told.append) as request:
        assert not request.asked
        signal.raise_signal(signal.SIGTERM)
        assert request.asked
        signal.raise_signal(signal.SIGTERM)  # a scheduler may send it twice
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert len(told) == 1
    StopRequest().check("nothing was asked")


def test_a_folder_in_use_is_left_alone(whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = Path(shutil.copytree(whole, tmp_path / "run"))
    status = (folder / "run.json").read_text()
    with locked(folder):
        assert dvgen("train", "--resume", str(folder), "--accelerator", "cpu") == INTEGRITY
    (tmp_path / "comparison").mkdir()
    with locked(tmp_path / "comparison"):
        assert dvgen("compare", "--out", str(tmp_path / "comparison"), *OPTIONS) == INTEGRITY
    with locked(folder), pytest.raises(IntegrityError, match=f"in use by process {os.getpid()} on "), locked(folder):
        pass
    assert f"in use by process {os.getpid()}" in capsys.readouterr().err
    assert (folder / "run.json").read_text() == status
    assert dvgen("train", "--resume", str(folder), "--accelerator", "cpu") == 0


class Process:
    """`python -m dvgen` as a process of its own."""

    def __init__(self, *arguments: str) -> None:
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "dvgen", *arguments],
            env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def wait_for(self, lines: int, path: Path) -> None:
        """Until so many steps are logged."""
        deadline = time.monotonic() + 120
        while not path.exists() or path.read_text().count("\n") < lines:
            assert self.process.poll() is None, self.process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.005)

    def ended(self) -> int:
        self.process.communicate(timeout=120)
        return self.process.returncode


@pytest.fixture
def start() -> Iterator[Callable[..., Process]]:
    """Starts processes, and ends them with the test."""
    begun: list[Process] = []

    def begin(*arguments: str) -> Process:
        begun.append(Process(*arguments))
        return begun[-1]

    yield begin
    for each in begun:
        each.process.kill()
        each.process.communicate()


@pytest.mark.slow
def test_a_process_that_is_interrupted_exits_75_and_resumes(whole: Path, tmp_path: Path, start: Callable[..., Process]) -> None:
    folder = tmp_path / "run"
    running = start("train", "--out", str(folder), *OPTIONS)
    running.wait_for(3, folder / "tokenizer" / "metrics.jsonl")
    assert dvgen("train", "--resume", str(folder), "--accelerator", "cpu") == INTEGRITY  # the lock of another process
    running.process.send_signal(signal.SIGINT)
    assert running.ended() == STOPPED
    assert json.loads((folder / "run.json").read_text())["status"] == "stopped"
    assert load_newest(folder / "tokenizer") is not None
    assert start("train", "--resume", str(folder), "--accelerator", "cpu").ended() == 0
    finished_like(folder, whole)


@pytest.mark.slow
@pytest.mark.parametrize("attempt", range(3))
def test_a_process_that_is_killed_at_any_moment_resumes(
    whole: Path, tmp_path: Path, start: Callable[..., Process], attempt: int
) -> None:
    folder = tmp_path / "run"
    running = start("train", "--out", str(folder), *OPTIONS)
    running.wait_for(1, (folder / "tokenizer" if attempt < 2 else folder) / "metrics.jsonl")
    time.sleep(random.random() * 0.4)
    running.process.kill()
    assert running.ended() == -signal.SIGKILL
    assert dvgen("train", "--resume", str(folder), "--accelerator", "cpu") == 0  # its lock died with it
    finished_like(folder, whole)
