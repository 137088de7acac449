"""A training step asks the device for nothing: the host runs ahead of it, and what is not finite is found one step late."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from test_adversarial import made as game_loop
from test_training_loop import Spy, spied
from torch import Tensor
from toy_runs import experiment, loop, same, saved, session, stage, state, watched
from waits import waits_in

from dvgen.data.order import Order
from dvgen.errors import NonFiniteError, Stopped
from dvgen.experiment import Training, experiment_from, table_of
from dvgen.training.checkpoint import load_newest
from dvgen.training.loop import Loop, Plan

ON_THE_HOST = {"order.py:batch", "prefetch.py:_is_next", "tokenizer.py:_loaded", "prior.py:compute", "finiteness.py:settle"}
"""Which examples come is decided on the host, by indices that are there; and the step before, whose numbers have been sent, is
answered for."""


@pytest.fixture
def late(monkeypatch: pytest.MonkeyPatch) -> None:
    """The host is taken to run ahead of the device, as it does of every device but the CPU."""
    monkeypatch.setattr(Loop, "_late", True)


def prepared(made: Loop) -> Loop:
    """A loop two steps on: optimisers have their state, and doctors their sums."""
    made._prepare(None)
    for _ in range(2):
        made._take_step(1.0)
        made.meter.steps += 1
    return made


def with_prior(folder: Path, prior: Mapping[str, object]) -> Loop:
    opened = session()
    chosen = experiment(opened, prior=dict(prior))
    return Loop(opened, stage(opened, "prior", folder, chosen), Plan(folder / "run", Training(batch=8), 0, {}))


@pytest.mark.usefixtures("late")
@pytest.mark.parametrize(
    "quantizer",
    [
        {"use": "vq", "num_codes": 4, "dim": 3},
        {"use": "ema", "num_codes": 4, "dim": 3},
        {"use": "gumbel", "num_codes": 4, "dim": 3},
        {"use": "fsq"},
    ],
)
def test_a_step_of_a_tokenizer_asks_for_nothing(tmp_path: Path, quantizer: dict[str, object]) -> None:
    opened = session()
    table = table_of(experiment(opened)) | {"quantizer": [quantizer]}
    plan = Plan(tmp_path / "run", Training(batch=8), 0, {})
    made = prepared(Loop(opened, stage(opened, "tokenizer", tmp_path, experiment_from(table)), plan))
    assert set(waits_in(lambda: made._take_step(1.0))) <= ON_THE_HOST


@pytest.mark.usefixtures("late")
def test_a_step_of_a_game_asks_for_nothing(tmp_path: Path) -> None:
    """Both players, the adaptive weight, and both doctors."""
    made = prepared(game_loop(tmp_path / "run", begin=0, start=0))
    assert set(waits_in(lambda: made._take_step(1.0))) <= ON_THE_HOST


@pytest.mark.usefixtures("late")
@pytest.mark.parametrize(
    "prior",
    [
        {"use": "gpt", "layers": 1, "dim": 8, "heads": 2, "dropout": 0.1},
        {"use": "pixelsnail", "channels": 8, "blocks": 1, "residual_blocks": 1},
    ],
)
def test_a_step_of_a_prior_asks_for_nothing(tmp_path: Path, prior: dict[str, object]) -> None:
    made = prepared(with_prior(tmp_path, prior))
    assert set(waits_in(lambda: made._take_step(1.0))) <= ON_THE_HOST


def test_the_count_sees_a_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stage that reads its loss in the step, in one way and in another."""
    made = prepared(loop(session(), "prior", tmp_path / "run"))

    compute, asked = made.stage.compute, [0.0]

    def asking(*arguments: Any) -> Any:
        result = compute(*arguments)
        asked.append(float(result.loss.detach()))
        asked.extend(result.loss.detach().reshape(1).tolist())
        return result

    monkeypatch.setattr(made.stage, "compute", asking)
    found = waits_in(lambda: made._take_step(1.0))
    assert found["loop.py:_compute"] == 2
    assert found["finiteness.py:settle"] == 1
    monkeypatch.setattr(made.stage, "compute", compute)
    made.meter.steps += 1
    assert waits_in(lambda: made._take_step(1.0))["loop.py:_compute"] == 0


@pytest.mark.usefixtures("late")
@pytest.mark.parametrize("name", ["tokenizer", "prior"])
def test_looking_late_changes_no_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    loop(session(), name, tmp_path / "late").run()
    monkeypatch.setattr(Loop, "_late", False)
    loop(session(), name, tmp_path / "at once").run()
    assert same(saved(tmp_path / "late"), saved(tmp_path / "at once"))


@pytest.mark.usefixtures("late")
@pytest.mark.parametrize(
    ("poisoned", "settings"),
    [
        (5, {}),  # the next step finds it
        (6, {"log_every": 7}),
        (6, {"checkpoint_every": 7}),
        (7, {}),  # held-out codes are looked at: every second step
        (39, {}),  # the end
    ],
)
def test_a_step_that_is_not_finite_is_named_and_never_saved_nor_logged(
    tmp_path: Path, poisoned: int, settings: dict[str, Any]
) -> None:
    opened, watch = watched()
    folder = tmp_path / "run"
    settings = {"budget": "steps:40", "log_every": 1000, "checkpoint_every": 4} | settings
    made = loop(opened, "tokenizer", folder, **settings)
    spied(made, poisoned=poisoned)
    with pytest.raises(NonFiniteError, match=rf"tokenizer, step {poisoned}: loss nan, gradient norm nan.*newest checkpoint"):
        made.run()
    newest, every = load_newest(folder), settings["checkpoint_every"]
    assert (newest.step if newest else 0) == poisoned - poisoned % every
    assert newest is None or all(tensor.isfinite().all() for tensor in newest.model.values())
    assert all(step <= poisoned for event, step in watch.seen if event == "step")
    assert ("finished", 40) not in watch.seen
    assert json.loads((folder / "run.json").read_text())["status"] == "failed"


@pytest.mark.usefixtures("late")
def test_the_cause_mended_the_run_goes_on_as_if_nothing_had_been(tmp_path: Path) -> None:
    """Though the weights had taken the step when it was seen."""
    made = loop(session(), "tokenizer", tmp_path / "run", log_every=100)
    spied(made, poisoned=4)
    with pytest.raises(NonFiniteError, match="step 4"):
        made.run()
    assert not all(tensor.isfinite().all() for tensor in state(made).values())
    for name in ("run", "whole"):
        loop(session(), "tokenizer", tmp_path / name, log_every=100).run()
    assert same(saved(tmp_path / "run"), saved(tmp_path / "whole"))


@pytest.mark.usefixtures("late")
def test_nothing_is_saved_of_a_step_that_is_not_finite_when_somebody_asks_to_stop(tmp_path: Path) -> None:
    opened, _ = watched()
    made = loop(opened, "tokenizer", tmp_path / "run", budget="steps:40", log_every=100, checkpoint_every=100)
    spy = spied(made, poisoned=4)
    real = spy.inner.update

    def stopping(pending: dict[str, Tensor]) -> None:
        real(pending)
        opened.stop.asked = made.step == 4

    spy.inner.update = stopping  # type: ignore[method-assign]
    with pytest.raises(NonFiniteError, match="step 4"):
        made.run()
    assert load_newest(tmp_path / "run") is None


@pytest.mark.usefixtures("late")
def test_a_step_is_named_before_what_it_does_to_the_next(tmp_path: Path) -> None:
    """The quantizer of the next step meets NaN features, and raises before the loop has looked."""
    made = loop(session(), "tokenizer", tmp_path / "run", budget="steps:40", log_every=100, checkpoint_every=100)
    spied(made, poisoned=4)
    with pytest.raises(NonFiniteError, match="tokenizer, step 4: loss nan"):
        made.run()


def test_on_the_cpu_a_step_that_is_not_finite_is_not_applied(tmp_path: Path) -> None:
    made = loop(session(), "tokenizer", tmp_path / "run", log_every=100, checkpoint_every=100)
    spied(made, poisoned=3)
    with pytest.raises(NonFiniteError, match=r"step 3.*nothing of this step was applied"):
        made.run()
    assert all(tensor.isfinite().all() for tensor in state(made).values())
    assert isinstance(made.stage, Spy)


@pytest.mark.usefixtures("late")
def test_a_stopped_run_that_looks_late_resumes_bit_for_bit(tmp_path: Path) -> None:
    loop(session(), "tokenizer", tmp_path / "whole").run()
    with pytest.raises(Stopped):
        loop(watched(3)[0], "tokenizer", tmp_path / "cut").run()
    loop(session(), "tokenizer", tmp_path / "cut").run()
    assert same(saved(tmp_path / "cut"), saved(tmp_path / "whole"))


def test_data_order_is_asked_on_the_host() -> None:
    """What ON_THE_HOST says of it: it is told no device."""
    assert Order(10, 4, 0).batch(3).device == torch.device("cpu")
