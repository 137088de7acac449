"""Signals are loaded while others are computed on, and nothing depends on it but time. The optimiser that takes the step."""

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from test_training_loop import Killed, spied
from torch import Tensor, nn
from toy_components import NoiseDataset
from toy_runs import STAGES, loop, same, saved, session, watched

from dvgen.data.order import Order
from dvgen.errors import DataError, Stopped
from dvgen.training.checkpoint import load_newest
from dvgen.training.player import Player, Rates
from dvgen.training.tokenizer import TokenizerStage


def loading() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("dvgen-ahead")]


class Noted(NoiseDataset):
    """Notes what is asked for and by whom; one request can fail."""

    def __init__(self, failing: int = -1) -> None:
        super().__init__()
        self.asked: list[list[int]] = []
        self.threads: list[str] = []
        self.failing = failing

    def signals(self, indices: Sequence[int]) -> Tensor:
        if len(self.asked) == self.failing:
            raise DataError("picture 7: cannot be read")
        self.asked.append(list(indices))
        self.threads.append(threading.current_thread().name)
        return super().signals(indices)


def noted(made: Any, **options: Any) -> Noted:
    assert isinstance(made.stage, TokenizerStage)
    made.stage.dataset = dataset = Noted(**options)
    return dataset


@pytest.mark.parametrize("micro_batches", [1, 2])
def test_every_batch_is_asked_for_once_in_the_order_of_the_seed(tmp_path: Path, micro_batches: int) -> None:
    """By the order itself; those after the first in the background, and one more than is trained on, which nobody takes."""
    made = loop(session(), "tokenizer", tmp_path / "run", micro_batches=micro_batches)
    dataset = noted(made)
    made.run()
    order = Order(24, 8, 0)
    parts = [part.tolist() for step in range(7) for part in order.batch(step).chunk(micro_batches)]
    _, *asked = dataset.asked  # the first is what codebooks begin with
    assert asked[: 6 * micro_batches] == parts[: 6 * micro_batches]
    assert len(asked) <= 6 * micro_batches + 1
    assert not dataset.threads[1].startswith("dvgen-ahead")
    assert all(name.startswith("dvgen-ahead") for name in dataset.threads[2:])
    assert loading() == []


def test_a_run_without_loading_ahead_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loop(session(), "tokenizer", tmp_path / "ahead").run()
    monkeypatch.setattr(TokenizerStage, "announce", lambda *_: None)
    loop(session(), "tokenizer", tmp_path / "in turn").run()
    assert same(saved(tmp_path / "ahead"), saved(tmp_path / "in turn"))


def test_a_batch_that_cannot_be_read_ends_the_run_and_the_thread(tmp_path: Path) -> None:
    """In the step that needs it: those before are taken and kept."""
    made = loop(session(), "tokenizer", tmp_path / "run", checkpoint_every=1)
    noted(made, failing=4)
    with pytest.raises(DataError, match="picture 7"):
        made.run()
    newest = load_newest(tmp_path / "run")
    assert newest is not None
    assert newest.step == 3
    assert loading() == []


@pytest.mark.parametrize("how", ["stop", "interrupt", "kill"])
def test_the_thread_ends_however_training_ends(tmp_path: Path, how: str) -> None:
    opened, watch = watched(3 if how == "stop" else -1)
    made = loop(opened, "tokenizer", tmp_path / "run")
    dataset = noted(made)
    if how == "kill":
        inner = made.stage
        spy = spied(made, killed=3)
        spy.announce, spy.close = inner.announce, inner.close  # type: ignore[method-assign]
    if how == "interrupt":
        watch.at, watch.act = 3, lambda: (_ for _ in ()).throw(KeyboardInterrupt)
    with pytest.raises({"stop": Stopped, "interrupt": KeyboardInterrupt, "kill": Killed}[how]):
        made.run()
    assert len(dataset.asked) >= 3
    assert loading() == []


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_is_told_what_comes_after_the_coming_batch_and_closed_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    made = loop(session(), name, tmp_path / "run", micro_batches=2, budget="steps:3")
    calls: list[Any] = []
    compute = made.stage.compute

    def computing(modules: Any, indices: Tensor, step: int) -> Any:
        calls.append(("compute", indices.tolist()))
        return compute(modules, indices, step)

    monkeypatch.setattr(made.stage, "compute", computing)
    monkeypatch.setattr(made.stage, "announce", lambda indices: calls.append(("announce", indices.tolist())))
    monkeypatch.setattr(made.stage, "close", lambda: calls.append("close"))
    made.run()
    *steps, last = calls
    assert last == "close"
    announced = [indices for event, indices in steps if event == "announce"]
    computed = [indices for event, indices in steps if event == "compute"]
    assert [event for event, _ in steps] == ["announce", "compute"] * 6
    assert announced[:-1] == computed[1:]


def test_weight_decay_is_that_of_the_parameters_group() -> None:
    """Against decoupled weight decay by hand: a gradient of nothing leaves w * (1 - lr * decay), and spared weights alone."""
    module = nn.Linear(2, 2)
    nn.init.ones_(module.weight)
    nn.init.ones_(module.bias)
    groups = [{"params": [module.weight]}, {"params": [module.bias], "weight_decay": 0.0}]
    player = Player.set_up(session().fabric, module, groups, Rates(lr=0.1, betas=(0.9, 0.99), weight_decay=0.5))
    for weight in module.parameters():
        weight.grad = torch.zeros_like(weight)
    player.step(1)
    assert torch.equal(module.weight, torch.full((2, 2), 0.95))
    assert torch.equal(module.bias, torch.ones(2))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_step_of_the_optimiser_is_adams(dtype: torch.dtype) -> None:
    """Against Kingma & Ba (2015), algorithm 1, in float64, for three steps; all tensors are updated in one pass."""
    torch.manual_seed(0)
    module = nn.Linear(3, 2).to(dtype)
    w, m, v = module.weight.detach().double().clone(), torch.zeros(2, 3).double(), torch.zeros(2, 3).double()
    rates = Rates(lr=0.01, betas=(0.9, 0.99), weight_decay=0.1)
    player = Player.set_up(session().fabric, module, [{"params": list(module.parameters())}], rates)
    assert [group["fused"] for group in player.optimizer.param_groups] == [True]
    for step in (1, 2, 3):
        gradient = torch.randn(2, 3, dtype=torch.float64)
        module.weight.grad, module.bias.grad = gradient.to(dtype), torch.zeros(2, dtype=dtype)
        player.step(step)
        w *= 1 - 0.01 * 0.1
        m, v = 0.9 * m + 0.1 * gradient, 0.99 * v + 0.01 * gradient.square()
        w -= 0.01 * (m / (1 - 0.9**step)) / ((v / (1 - 0.99**step)).sqrt() + 1e-8)
    torch.testing.assert_close(module.weight.detach().double(), w, rtol=1e-5, atol=1e-6)


def test_moments_of_an_optimiser_that_took_tensors_one_by_one_are_taken_over(tmp_path: Path) -> None:
    """As older checkpoints have them."""
    torch.manual_seed(0)
    first, second = nn.Linear(3, 2), nn.Linear(3, 2)
    second.load_state_dict(first.state_dict())
    rates = Rates(lr=0.01, betas=(0.9, 0.99), weight_decay=0.0)
    older = torch.optim.AdamW(first.parameters(), lr=0.01, betas=(0.9, 0.99), weight_decay=0.0, fused=False, foreach=False)
    player = Player.set_up(session().fabric, second, [{"params": list(second.parameters())}], rates)
    for step in (1, 2):
        gradients = [torch.randn_like(weight) for weight in first.parameters()]
        if step == 2:
            state = older.state_dict()["state"]
            moments = {f"{i}.{name}": value.clone() for i, own in state.items() for name, value in own.items()}
            player.load(first.state_dict(), moments, tmp_path)
        for module in (first, second):
            for weight, gradient in zip(module.parameters(), gradients, strict=True):
                weight.grad = gradient.clone()
        older.step()
        if step == 2:
            player.step(step)
    for one, other in zip(first.parameters(), second.parameters(), strict=True):
        torch.testing.assert_close(other, one)
