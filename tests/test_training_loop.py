"""The loop of both stages: resumable bit for bit, a step whole or not at all, the same result however a batch is cut."""

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from toy_runs import STAGES, TRAINING, Watch, loop, same, saved, session, state, watched

from dvgen import hookimpl
from dvgen.errors import ConfigError, NonFiniteError, Stopped
from dvgen.experiment import Training
from dvgen.training.budget import Budget, learning_share
from dvgen.training.checkpoint import load_newest, steps
from dvgen.training.loop import Loop, Stage, StepResult
from dvgen.training.meter import Spent

QUANTIZERS = [("tokenizer", "ema"), ("tokenizer", "vq"), ("tokenizer", "gumbel"), ("prior", "ema")]


@pytest.mark.parametrize(("name", "quantizer"), QUANTIZERS)
def test_a_run_stopped_anywhere_and_resumed_equals_one_that_was_not(tmp_path: Path, name: str, quantizer: str) -> None:
    """Weights, buffers and optimiser state; the stop falls before, on and after a regular checkpoint."""
    loop(session(), name, tmp_path / "whole", quantizer=quantizer).run()
    whole = saved(tmp_path / "whole")
    for cuts in ([1], [2, 3], [5], [6]):
        folder = tmp_path / f"cut{cuts[0]}"
        for cut in cuts:
            with pytest.raises(Stopped):
                loop(watched(cut)[0], name, folder, quantizer=quantizer).run()
            newest = load_newest(folder)
            assert newest is not None
            assert (newest.step, newest.finished) == (cut, False)
        loop(session(), name, folder, quantizer=quantizer).run()
        assert same(saved(folder), whole), cuts


@pytest.mark.parametrize("name", STAGES)
def test_a_run_killed_between_checkpoints_equals_one_that_was_not(tmp_path: Path, name: str) -> None:
    loop(session(), name, tmp_path / "whole").run()
    made = loop(session(), name, tmp_path / "cut")
    spied(made, killed=4)
    with pytest.raises(Killed):
        made.run()
    newest = load_newest(tmp_path / "cut")
    assert newest is not None
    assert newest.step == 4
    loop(session(), name, tmp_path / "cut").run()
    assert same(saved(tmp_path / "cut"), saved(tmp_path / "whole"))


class Killed(BaseException):
    """The process dies, as far as the loop can tell."""


@pytest.mark.parametrize("name", STAGES)
def test_training_is_a_function_of_the_seed(tmp_path: Path, name: str) -> None:
    runs = []
    for folder, seed in (("a", 0), ("b", 0), ("c", 1)):
        torch.manual_seed(len(folder) * 1000 + len(runs))  # whatever was drawn before must not matter
        loop(session(), name, tmp_path / folder, seed=seed, budget="steps:2").run()
        runs.append(saved(tmp_path / folder))
    assert same(runs[0], runs[1])
    assert not same(runs[0], runs[2])


@pytest.mark.parametrize("name", STAGES)
def test_a_finished_run_is_returned_and_not_trained_again(tmp_path: Path, name: str) -> None:
    loop(session(), name, tmp_path / "run").run()
    place = steps(tmp_path / "run")[0]
    before, modified = saved(tmp_path / "run"), place.stat().st_mtime_ns
    opened, watch = watched()
    again = loop(opened, name, tmp_path / "run")
    assert again.run().finished
    assert watch.seen == []
    assert place.stat().st_mtime_ns == modified
    loaded = {**again.stage.module.state_dict()}
    assert all(torch.equal(tensor, before[key]) for key, tensor in loaded.items())


@pytest.mark.parametrize("micro_batches", [2, 4])
def test_micro_batches_equal_one_batch(tmp_path: Path, micro_batches: int) -> None:
    """Weights after some steps, and the codebook that moves by sums of statistics."""
    whole, parts = (loop(session(), "tokenizer", tmp_path / str(n), micro_batches=n) for n in (1, micro_batches))
    whole.run()
    parts.run()
    one, other = whole.stage.module.state_dict(), parts.stage.module.state_dict()
    assert one.keys() == other.keys()
    for key in one:
        torch.testing.assert_close(other[key], one[key], rtol=1e-4, atol=1e-5, msg=key)
    assert one["quantizers.0.counts"].sum() > 0, "the codebook must have moved"


def test_micro_batches_equal_one_batch_for_priors(tmp_path: Path) -> None:
    runs = []
    for n in (1, 2):
        opened = session()
        made = loop(opened, "prior", tmp_path / str(n), micro_batches=n)
        made.stage.module.double()  # a bias of keys has no gradient but rounding, which Adam would scale up
        for module in made.stage.module.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        made.run()
        runs.append(made.stage.module.state_dict())
    for key, tensor in runs[0].items():
        torch.testing.assert_close(runs[1][key], tensor, rtol=1e-4, atol=1e-5, msg=key)


class Spy(Stage):
    """A stage that notes what it is asked; its loss is poisoned at one step, its process killed at another."""

    def __init__(self, inner: Stage, poisoned: int = -1, poison: float = float("nan"), killed: int = -1) -> None:
        self.inner, self.poisoned, self.poison, self.killed = inner, poisoned, poison, killed
        self.name, self.module, self.size, self.codes = inner.name, inner.module, inner.size, inner.codes
        self.forward_methods = inner.forward_methods
        self.calls: list[Any] = []

    def groups(self) -> list[dict[str, Any]]:
        return self.inner.groups()

    def initialise(self) -> None:
        self.calls.append("initialise")
        self.inner.initialise()

    def schedule(self, step: int) -> None:
        self.calls.append(("schedule", step))
        self.inner.schedule(step)

    def compute(self, modules: Sequence[nn.Module], indices: Tensor, step: int) -> StepResult:
        self.calls.append(("compute", step))
        if step == self.killed:
            raise Killed
        result = self.inner.compute(modules, indices, step)
        return result._replace(loss=result.loss * self.poison) if step == self.poisoned else result

    def update(self, pending: dict[str, Tensor]) -> None:
        self.calls.append(("update", sorted(pending)))
        self.inner.update(pending)


def spied(made: Loop, **options: Any) -> Spy:
    spy = Spy(made.stage, **options)
    made.stage = spy
    return spy


def test_every_step_is_scheduled_computed_and_then_updated(tmp_path: Path) -> None:
    made = loop(session(), "tokenizer", tmp_path / "run", budget="steps:3", micro_batches=2)
    spy = spied(made)
    made.run()
    pending = ("update", ["counts", "errors", "sums"])
    one = [[("schedule", step), ("compute", step), ("compute", step), pending] for step in range(3)]
    assert spy.calls == ["initialise", *one[0], *one[1], *one[2]]


def test_a_resumed_run_is_not_initialised_again_and_counts_on(tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        loop(watched(2)[0], "tokenizer", tmp_path / "run", budget="steps:3").run()
    made = loop(session(), "tokenizer", tmp_path / "run", budget="steps:3")
    spy = spied(made)
    made.run()
    assert spy.calls[:2] == [("schedule", 2), ("compute", 2)]


@pytest.mark.parametrize("name", STAGES)
@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_a_step_that_is_not_finite_moves_nothing_and_saves_nothing(tmp_path: Path, name: str, poison: float) -> None:
    folder = tmp_path / "run"
    opened, watch = watched()
    made = loop(opened, name, folder)
    spied(made, poisoned=3, poison=poison)
    kept: list[dict[str, Tensor]] = []
    watch.at, watch.act = 3, lambda: kept.append(state(made))
    with pytest.raises(NonFiniteError, match=f"{name}, step 3"):
        made.run()
    assert same(state(made), kept[0])
    newest = load_newest(folder)
    assert newest is not None
    assert newest.step == 2
    told = json.loads((folder / "run.json").read_text())
    assert told["status"] == "failed"
    assert "NonFiniteError" in told["error"]
    assert watch.seen[-1] == ("step", 3)
    # the cause mended, the run goes on as if nothing had been
    loop(session(), name, folder).run()
    loop(session(), name, tmp_path / "whole").run()
    assert same(saved(folder), saved(tmp_path / "whole"))


@pytest.mark.parametrize("name", STAGES)
def test_observers_are_told_in_order_with_rising_steps(tmp_path: Path, name: str) -> None:
    opened, watch = watched(3)
    with pytest.raises(Stopped):
        loop(opened, name, tmp_path / "run").run()
    assert watch.seen == [("started", 0), ("step", 1), ("step", 2), ("step", 3)]
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "stopped"
    opened, watch = watched()
    loop(opened, name, tmp_path / "run").run()
    assert watch.seen == [("started", 3), ("step", 4), ("step", 5), ("step", 6), ("finished", 6)]
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "finished"
    assert {"loss", "lr", "seconds", "progress", "examples_per_second", "gradient_norm"} <= set(watch.values[0])
    assert [values["progress"] for values in watch.values] == [4 / 6, 5 / 6, 1.0]
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]


def test_the_first_step_and_every_log_every_th_are_logged(tmp_path: Path) -> None:
    """Of a stage without held-out codes; those of a prior are logged too, in test_budget."""
    opened, watch = watched()
    loop(opened, "tokenizer", tmp_path / "run", log_every=4).run()
    assert watch.seen == [("started", 0), ("step", 1), ("step", 4), ("finished", 6)]


class Broken(Watch):
    """An observer that fails."""

    @hookimpl
    def dvgen_step(self) -> None:
        raise RuntimeError("no such server")


def test_an_observer_that_raises_costs_one_warning_and_not_the_run(tmp_path: Path) -> None:
    opened, watch = watched()
    opened.plugins.manager.register(Broken(), name="broken")
    with pytest.warns(UserWarning, match="plugin 'broken': dvgen_step failed") as told:
        loop(opened, "prior", tmp_path / "run").run()
    assert len(told) == 1
    assert watch.seen[-1] == ("finished", 6)


def test_a_batch_that_cannot_be_divided_is_a_config_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="batch 8 cannot be divided among 1 devices and 3 micro-batches"):
        loop(session(), "tokenizer", tmp_path / "run", micro_batches=3).run()
    assert not (tmp_path / "run").exists()


def test_a_seconds_budget_counts_training_time_across_resumes(tmp_path: Path) -> None:
    opened, _ = watched(2)
    with pytest.raises(Stopped):
        loop(opened, "prior", tmp_path / "run", budget="seconds:30").run()
    spent = load_newest(tmp_path / "run")
    assert spent is not None
    assert 0 < spent.seconds < 20
    began = time.monotonic()
    budget = f"seconds:{spent.seconds + 0.2:.3f}"
    finished = loop(session(), "prior", tmp_path / "run", budget=budget).run()
    assert finished.finished
    assert finished.step > spent.step
    assert spent.seconds + 0.19 < finished.seconds
    assert time.monotonic() - began < 10


def test_budgets_and_the_learning_rate() -> None:
    training = Training(budget="steps:100", lr=2.0, warmup=10, decay=0.25)
    rates = [training.lr * learning_share(training, s, Budget.of(training).progress(Spent(steps=s))) for s in range(100)]
    assert rates[:3] == pytest.approx([0.2, 0.4, 0.6])
    assert rates[9:76] == pytest.approx([2.0] * 67)
    assert rates[80] == pytest.approx(2.0 * 20 / 25)
    assert rates[99] == pytest.approx(2.0 / 25)
    assert min(rates) > 0
    flat = Training(budget="seconds:10", lr=1.0, warmup=0, decay=0.0)
    assert [flat.lr * learning_share(flat, step, 0.999) for step in (0, 5)] == [1.0, 1.0]
    timed = Budget.of(flat)
    assert [timed.progress(Spent(steps=10**6, seconds=seconds)) for seconds in (0.0, 5.0, 20.0)] == [0.0, 0.5, 1.0]
    with pytest.raises(ValueError, match="more than 0"):
        Training(budget="seconds:0")


def test_the_rate_of_a_step_is_the_one_that_is_logged_and_used(tmp_path: Path) -> None:
    opened, watch = watched()
    loop(opened, "prior", tmp_path / "run").run()
    training = Training(**TRAINING)
    expected = [training.lr * learning_share(training, step, step / 6) for step in range(6)]
    assert [values["lr"] for values in watch.values] == pytest.approx(expected)


def test_a_stop_keeps_two_checkpoints_at_most(tmp_path: Path) -> None:
    loop(session(), "prior", tmp_path / "run", checkpoint_every=1).run()
    assert [place.name for place in steps(tmp_path / "run")] == ["step-00000006", "step-00000005"]
