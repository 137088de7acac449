"""The adversarial game: its terms against closed forms, when they act, and that no gradient crosses between the players."""

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import pytest
import torch
from attrs import frozen
from lightning_fabric import Fabric
from test_training_loop import Killed, Spy
from torch import Tensor, nn
from toy_components import NoiseDataset
from toy_runs import TRAINING, experiment, same, saved, session, watched

from dvgen.discovery import discover
from dvgen.errors import NonFiniteError, Stopped
from dvgen.experiment import Adversarial, Training
from dvgen.interfaces.discriminator import Discriminator
from dvgen.interfaces.loss import AdversarialLoss
from dvgen.training.adversarial import DELTA, LARGEST, Game, Move, adaptive_weight
from dvgen.training.checkpoint import Checkpoint, load_newest
from dvgen.training.finiteness import Finiteness
from dvgen.training.game_doctor import GRACE, GameDoctor
from dvgen.training.interrupt import StopRequest
from dvgen.training.loop import Loop, Plan, StepResult
from dvgen.training.player import WeightAverage
from dvgen.training.session import Hardware, open_session
from dvgen.training.tokenizer import Objective, TokenizerStage, make_objective, new_tokenizer


class Critic(Discriminator):
    """One convolution, a ReLU and another."""

    @frozen(kw_only=True)
    class Config:
        """Nothing to set."""

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(channels, 4, 3, padding=1), nn.LeakyReLU(0.2), nn.Conv2d(4, 1, 4, stride=2))

    def forward(self, signals: Tensor) -> Tensor:
        return self.layers(signals)


class Linear(AdversarialLoss):
    """Both sides are linear in the logits (Wasserstein), so that gradients are easy to follow."""

    @frozen(kw_only=True)
    class Config:
        """Nothing to set."""

    def generator(self, fake: Tensor) -> Tensor:
        return -fake.mean()

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        return fake.mean() - real.mean()


def game(last_layer: nn.Parameter | None = None, *, critic: Discriminator | None = None, **settings: Any) -> Game:
    torch.manual_seed(1)
    return Game(
        Adversarial(**({"start": 0, "ramp": 0} | settings)),
        critic or Critic(),
        Linear(),
        last_layer=nn.Parameter(torch.zeros(1)) if last_layer is None else last_layer,
        autocast=contextlib.nullcontext,
    )


def made(folder: Path, opened: Any = None, *, training: dict[str, Any] | None = None, **settings: Any) -> Loop:
    """A loop over a tiny tokenizer that plays against a Critic."""
    opened = opened or session()
    chosen = experiment(opened)
    torch.manual_seed(3)
    tokenizer = new_tokenizer(opened.registry, chosen, NoiseDataset().shape)
    plain = make_objective(opened, chosen, tokenizer)
    own = game(tokenizer.decoder.last_layer, **settings)
    stage = TokenizerStage(tokenizer, Objective(plain.reconstruction, own), NoiseDataset(), torch.arange(8), seed=0)
    return Loop(opened, stage, Plan(folder, Training(**(TRAINING | (training or {}))), 0, {}))


def test_the_adaptive_weight_is_the_ratio_of_gradient_norms_at_the_last_layer() -> None:
    """VQGAN, equation 7, against gradients written by hand in float64 for a linear last layer and quadratic losses."""
    torch.manual_seed(0)
    weight = nn.Parameter(torch.randn(3, 2, dtype=torch.float64))
    x, target, direction = (torch.randn(5, n, dtype=torch.float64) for n in (2, 3, 3))
    made_signals = x @ weight.T
    reconstruction, generator = (made_signals - target).square().mean(), -(made_signals * direction).mean()
    by_hand = (2 * (made_signals - target).T @ x / 15).norm() / ((direction.T @ x / 15).norm() + DELTA)
    found = adaptive_weight(reconstruction, generator, weight)
    assert not found.requires_grad
    assert float(found) == pytest.approx(float(by_hand.detach()), rel=1e-6)


@pytest.mark.parametrize(("scale", "expected"), [(0.0, LARGEST), (1e9, 0.0)])
def test_the_adaptive_weight_is_clamped(scale: float, expected: float) -> None:
    weight = nn.Parameter(torch.ones(1))
    reconstruction, generator = (weight * 1e3).sum(), (weight * scale).sum()
    assert float(adaptive_weight(reconstruction, generator, weight)) == pytest.approx(expected, abs=1e-5)


def test_at_full_strength_both_terms_pull_equally_on_the_last_layer() -> None:
    """What equation 7 is for: with weight 1, the two gradients have one norm there."""
    torch.manual_seed(0)
    layer = nn.Conv2d(2, 3, 3, padding=1)
    own = game(layer.weight, weight=1.0)
    signals = torch.randn(4, 3, 8, 8)
    fake = layer(torch.randn(4, 2, 8, 8))
    reconstruction = (fake - signals).square().mean()
    move = own.generator(reconstruction, fake, step=0)
    assert move is not None
    norms = [torch.autograd.grad(loss, layer.weight, retain_graph=True)[0].norm() for loss in (reconstruction, move.loss)]
    assert float(norms[0]) == pytest.approx(float(norms[1]), rel=2e-2)  # DELTA is in the denominator
    assert float(move.values["adversarial_weight"]) > 0


def test_the_factor_is_nothing_before_the_start_and_rises_in_a_straight_line() -> None:
    own = game(start=10, ramp=4)
    assert [own.factor(step) for step in (0, 9, 10, 11, 12, 13, 14, 500)] == [0, 0, 0.25, 0.5, 0.75, 1, 1, 1]
    assert [game(start=10).factor(step) for step in (9, 10)] == [0, 1]


def test_before_the_start_the_generator_is_not_asked_and_before_begin_nobody_is() -> None:
    """A public defect: the double gradient of the adaptive weight was computed long before the game began."""
    own = game(begin=5, start=10)
    calls: list[int] = []
    own.discriminator.register_forward_hook(lambda *_: calls.append(1))
    x = torch.randn(2, 3, 8, 8, requires_grad=True)
    assert own.generator(x.sum(), x, step=9) is None
    assert own.critic(own.judge, x, x, step=4) is None
    assert calls == []
    assert own.critic(own.judge, x, x, step=5) is not None
    assert len(calls) == 2


def test_the_generators_term_reaches_the_signals_and_no_weight_of_the_discriminator() -> None:
    layer = nn.Conv2d(3, 3, 1)
    own = game(layer.weight)
    fake = layer(torch.randn(2, 3, 8, 8))
    move = own.generator(fake.square().mean(), fake, step=0)
    assert move is not None
    move.loss.backward()
    assert layer.weight.grad is not None
    assert float(layer.weight.grad.abs().sum()) > 0
    assert all(weight.grad is None and weight.requires_grad for weight in own.discriminator.parameters())


def test_the_discriminators_loss_reaches_its_weights_and_nothing_else() -> None:
    layer = nn.Conv2d(3, 3, 1)
    own = game(layer.weight)
    critic = own.critic(own.judge, torch.randn(2, 3, 8, 8), layer(torch.randn(2, 3, 8, 8)), step=0)
    assert critic is not None
    critic.loss.backward()
    assert layer.weight.grad is None
    assert all(weight.grad is not None for weight in own.discriminator.parameters())


def leaking(self: Game, judge: nn.Module, real: Tensor, fake: Tensor, step: int) -> Move:
    """A planted bug: the discriminator is trained on reconstructions that still have their graph (two public trainers do)."""
    logits_real, logits_fake = judge(real, fake)
    return Move(self.loss.discriminator(logits_real, logits_fake), {})


def first_gradients(folder: Path, monkeypatch: pytest.MonkeyPatch, *, leak: bool = False, **settings: Any) -> list[Tensor]:
    """The tokenizer's gradients in the first step, and the discriminator's behind them."""
    loop = made(folder, training={"budget": "steps:1", "clip": 1e9}, **settings)
    if leak:
        monkeypatch.setattr(Game, "critic", leaking)
        monkeypatch.setattr(Fabric, "backward", lambda _, loss: loss.backward(retain_graph=True))
    seen: list[Tensor] = []

    def look(_: Any, step: int, numbers: Any) -> None:
        seen.extend(p.grad.clone() for player in loop.players for p in player.module.parameters() if p.grad is not None)

    monkeypatch.setattr(Finiteness, "check", look)
    loop.run()
    monkeypatch.undo()
    return seen


def test_a_leak_between_the_players_would_be_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether the discriminator trains makes no difference to the tokenizer's gradient; with a planted leak it does."""
    count = sum(1 for _ in made(tmp_path / "n").stage.module.parameters())
    alone = first_gradients(tmp_path / "a", monkeypatch, begin=9, start=9)
    beside = first_gradients(tmp_path / "b", monkeypatch, begin=0, start=9)
    leaking = first_gradients(tmp_path / "c", monkeypatch, leak=True, begin=0, start=9)
    assert len(alone) <= count < len(beside)
    used = len(alone)
    assert all(torch.equal(one, other) for one, other in zip(alone, beside[:used], strict=True))
    assert not all(torch.equal(one, other) for one, other in zip(alone, leaking[:used], strict=True))


def test_the_discriminator_learns_as_if_it_were_alone(tmp_path: Path) -> None:
    """Its weights after a step are those of Adam on its own loss, from a copy of it and the same reconstructions."""
    loop = made(tmp_path / "run", training={"budget": "steps:1", "warmup": 0, "decay": 0.0, "clip": 1e9}, lr=0.05)
    critic, seen = Critic(), []
    critic.load_state_dict(loop.stage.objective.game.discriminator.state_dict())
    spy = Listening(loop.stage, seen)
    loop.stage = spy
    loop.run()
    real, fake = seen[0]
    optimizer = torch.optim.AdamW(critic.parameters(), lr=0.05, betas=(0.5, 0.9), weight_decay=0.0)
    (critic(fake).mean() - critic(real).mean()).backward()
    optimizer.step()
    for name, weight in spy.inner.objective.game.discriminator.state_dict().items():
        torch.testing.assert_close(weight, critic.state_dict()[name], rtol=1e-5, atol=1e-7)


class Listening(Spy):
    """Keeps what the discriminator was shown."""

    def __init__(self, inner: Any, seen: list[tuple[Tensor, Tensor]]) -> None:
        super().__init__(inner)
        self.rival = inner.rival
        inner.rival.module.register_forward_pre_hook(lambda _, given: seen.append(tuple(x.detach().clone() for x in given)))


def test_without_a_game_training_is_what_it_was(tmp_path: Path) -> None:
    """A weight of zero gives the tokenizer that no game gives, bit for bit; the codebook too."""
    loop = made(tmp_path / "zero", weight=0.0)
    loop.run()
    plain = made(tmp_path / "none")
    plain.stage.objective, plain.stage.rival, plain.stage.game_doctor = (
        attrs.evolve(plain.stage.objective, game=None), None, None,
    )  # fmt: skip
    plain.run()
    assert same(loop.stage.module.state_dict(), plain.stage.module.state_dict())


@pytest.mark.parametrize("cut", [1, 2, 3, 5])
def test_a_game_stopped_anywhere_and_resumed_equals_one_that_was_not(tmp_path: Path, cut: int) -> None:
    """Both players, both optimisers and the averaged weights, bit for bit: before, at and after the start of the game."""
    settings = {"begin": 1, "start": 3, "ramp": 2, "training": {"ema": 0.9}}
    made(tmp_path / "whole", **settings).run()
    with pytest.raises(Stopped):
        made(tmp_path / "cut", watched(cut)[0], **settings).run()
    found = load_newest(tmp_path / "cut")
    assert found is not None
    assert set(found.more) == {"average", "discriminator", "discriminator-optimizer"}
    made(tmp_path / "cut", **settings).run()
    assert same(saved(tmp_path / "cut"), saved(tmp_path / "whole"))


class PoisonedRival(Spy):
    """The discriminator's loss is NaN at one step, the tokenizer's is not."""

    def __init__(self, inner: Any, step: int) -> None:
        super().__init__(inner)
        self.rival, self.at = inner.rival, step

    def compute(self, modules: Sequence[nn.Module], indices: Tensor, step: int) -> StepResult:
        result = super().compute(modules, indices, step)
        assert result.rival_loss is not None
        return result._replace(rival_loss=result.rival_loss * float("nan")) if step == self.at else result


def test_a_step_that_is_not_finite_for_the_discriminator_moves_nobody(tmp_path: Path) -> None:
    loop = made(tmp_path / "run")
    loop.stage = PoisonedRival(loop.stage, step=2)
    with pytest.raises(NonFiniteError, match=r"rival gradient norm nan, rival loss nan; nothing of this step was applied"):
        loop.run()
    newest = load_newest(tmp_path / "run")
    assert newest is not None
    assert newest.step == 2
    assert all(torch.equal(tensor, newest.model[name]) for name, tensor in loop.stage.module.state_dict().items())
    own = loop.players[1].module.state_dict()
    assert all(torch.equal(tensor, newest.more["discriminator"][name]) for name, tensor in own.items())


def test_micro_batches_equal_one_batch_without_the_adaptive_weight(tmp_path: Path) -> None:
    """The adaptive weight is measured for each micro-batch; everything else adds up."""
    runs = [made(tmp_path / str(n), adaptive=False, weight=0.1, training={"micro_batches": n, "batch": 8}) for n in (1, 2)]
    for loop in runs:
        loop.run()
    for one, other in zip(*(player.module.state_dict().values() for loop in runs for player in [loop.players[1]]), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


def test_values_of_the_game_are_logged(tmp_path: Path) -> None:
    opened, watch = watched()
    made(tmp_path / "run", opened, begin=1, start=2, ramp=2).run()
    names = {"adversarial_weight", "adversarial_factor", "generator"}
    critic = {"discriminator", "logits_real", "logits_fake", "discriminator_accuracy", "rival_gradient_norm"}
    assert [critic <= values.keys() for values in watch.values] == [False, *[True] * 5]
    assert [names <= values.keys() for values in watch.values] == [False, False, *[True] * 4]
    assert [values["adversarial_factor"] for values in watch.values[2:]] == [0.5, 1.0, 1.0, 1.0]


def test_averaged_weights_are_the_debiased_average_of_all_steps_and_are_what_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against the definition: (1 - d) sum_i d^(t-i) w_i / (1 - d^t), over the weights after each step, in float64."""
    decay, weights = 0.7, []
    follow = WeightAverage.follow

    def noting(self: WeightAverage, module: nn.Module, number: int) -> None:
        weights.append({name: p.detach().double().clone() for name, p in module.named_parameters()})
        follow(self, module, number)

    monkeypatch.setattr(WeightAverage, "follow", noting)
    loop = made(tmp_path / "run", training={"ema": decay})
    done = loop.run()
    t = len(weights)
    assert t == 6
    for name, raw in done.model.items():
        if name not in weights[0]:
            continue
        wanted = sum((1 - decay) * decay ** (t - i) * weights[i - 1][name] for i in range(1, t + 1)) / (1 - decay**t)
        torch.testing.assert_close(done.more["average"][name].double(), wanted, rtol=1e-5, atol=1e-6)
        assert torch.equal(loop.stage.module.state_dict()[name], done.evaluated[name])
        assert torch.equal(raw.double(), weights[-1][name])


EVEN = {"discriminator_accuracy": 0.7, "adversarial_weight": 1.0, "reconstruction": 1.1}


def seen_by(doctor: GameDoctor, step: int, *, finished: bool = False, **means: float) -> list[str]:
    """What the doctor tells at a step of these means."""
    doctor.observe({name: torch.tensor(value) for name, value in means.items()})
    return doctor.report(step, lambda x: x, finished=finished)


def doctor_of(**means: float) -> list[str]:
    """What the doctor tells of these means, seen three times after its grace, and at the end, when nothing new was seen."""
    doctor = GameDoctor(10)
    told = seen_by(doctor, 10, reconstruction=1.0)
    for i in range(3):
        told += seen_by(doctor, 10 + GRACE + i, **(EVEN | means))
    return [*told, *doctor.report(10 + GRACE + 2, lambda x: x, finished=True)]


@pytest.mark.parametrize(
    ("means", "words"),
    [
        ({"discriminator_accuracy": 0.995}, "far ahead of the generator"),
        ({"discriminator_accuracy": 0.5}, "hardly tells real from reconstructed"),
        ({"adversarial_weight": 5e3}, "adaptive weight is 5e+03"),
        ({"reconstruction": 1.5}, "reconstruction has become worse: its loss was 1, and is 1.5"),
    ],
)
def test_a_game_that_is_lost_is_told_once_and_at_the_end_with_advice(means: dict[str, float], words: str) -> None:
    told = doctor_of(**means)
    assert len(told) == 2
    assert all(words in line and "adversarial." in line for line in told), "it says which setting to change"


def test_an_even_game_is_not_remarked_on() -> None:
    assert doctor_of() == []


def test_what_is_over_is_said_to_be() -> None:
    doctor = GameDoctor(0)
    told = [line for i, a in enumerate([0.999] * 3 + [0.7] * 3)
            for line in seen_by(doctor, GRACE + i, **(EVEN | {"discriminator_accuracy": a}))]  # fmt: skip
    assert len(told) == 2
    assert "no longer far ahead" in told[1]


@pytest.mark.parametrize("first", [0, 100])
def test_reconstruction_is_compared_with_its_best_also_after_a_resume_and_without_a_time_before_the_game(first: int) -> None:
    doctor = GameDoctor(0)
    losses = [3.0, 1.0, 1.0, 1.0, 1.6, 1.7]
    told = [
        line for i, loss in enumerate(losses) for line in seen_by(doctor, first + 50 + i, **(EVEN | {"reconstruction": loss}))
    ]
    assert len(told) == 1
    assert "its loss was 1, and is 1.7" in told[0]


@pytest.mark.parametrize(("step", "lines"), [(9, 1), (10, 1), (11, 0)])
def test_a_game_that_never_began_is_told(step: int, lines: int) -> None:
    told = seen_by(GameDoctor(10), step, finished=True, reconstruction=1.0)
    assert len(told) == lines
    assert all("never began" in line and "adversarial.start" in line for line in told)


def test_a_game_is_played_in_bfloat16(tmp_path: Path) -> None:
    """The adaptive weight takes gradients by itself, which Fabric forbids where a precision has a backward of its own."""
    opened = open_session(discover(), StopRequest(), Hardware(accelerator="cpu", precision="bf16-mixed"))
    loop = made(tmp_path / "run", opened)
    loop.run()
    loop.stage.objective.game.autocast = opened.fabric.autocast
    full = made(tmp_path / "full")
    full.run()
    one, other = (dict(run.stage.module.named_parameters()) for run in (loop, full))
    assert any(not torch.equal(one[name], other[name]) for name in one), "the precision must matter"
    assert all(torch.allclose(one[name], other[name], atol=0.1) for name in one)


def test_averaged_weights_of_tied_parameters_are_used() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False)
            self.b.weight = self.a.weight

    module = Tied()
    average = WeightAverage.of(module, 0.5)
    for number, value in enumerate((1.0, 4.0), start=1):
        nn.init.constant_(module.a.weight, value)
        average.follow(module, number)
    raw = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    module.load_state_dict(Checkpoint(2, 0.0, True, "", raw, {}, {"average": average.weights}).evaluated)
    assert module.a.weight is module.b.weight
    assert torch.allclose(module.a.weight, torch.tensor((0.5 * 1 + 4) * 0.5 / 0.75))


def test_a_killed_game_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    made(tmp_path / "whole").run()
    loop = made(tmp_path / "cut")
    loop.stage = (spy := Spy(loop.stage, killed=4))
    spy.rival = spy.inner.rival
    with pytest.raises(Killed):
        loop.run()
    made(tmp_path / "cut").run()
    assert same(saved(tmp_path / "cut"), saved(tmp_path / "whole"))
