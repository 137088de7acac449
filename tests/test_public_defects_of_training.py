"""The defects of public trainers and samplers: none is here, and each, planted, is found. See test_public_defects.py.

The nine were found by reading the code named in each docstring. `planted` in a test's name: the same check on a version
of ours that has the defect.
"""

from pathlib import Path
from typing import Any

import attrs
import pytest
import torch
from public_defects import (
    Clocked,
    Unused,
    leaking,
    swapped,
    top_p_needs_top_k,
)
from test_adversarial import game
from torch import Tensor, nn
from toy_runs import TINY_GPT, dvgen, experiment, loop, session, settings
from unread_fields import configurable, fields_read, unread_fields, unread_settings

import dvgen.interfaces.sampling as sampling_interface
from dvgen import tokenizer as tokenizers
from dvgen.assembly import build
from dvgen.compare import evaluate_run
from dvgen.data.splits import SPLITS
from dvgen.data.token_cache import TokenCache
from dvgen.discovery import discover
from dvgen.errors import IntegrityError
from dvgen.evaluation import assessment
from dvgen.experiment import Choice
from dvgen.interfaces.loss import AdversarialLoss
from dvgen.interfaces.sampling import Sampling, draw
from dvgen.training import adversarial
from dvgen.training import loop as training_loop
from dvgen.training import player as training_player
from dvgen.training.adversarial import Game
from dvgen.training.loop import Loop, Plan
from dvgen.training.pipeline import read_run
from dvgen.training.prior import load_prior
from dvgen.training.tokenizer import new_tokenizer

REGISTRY = discover().registry


def decoders_gradient(*, learning: bool) -> Tensor:
    """Of a one-layer decoder, before the game has started; learning: the discriminator takes its part of the step too."""
    torch.manual_seed(0)
    layer = nn.Conv2d(3, 3, 1)
    own = game(layer.weight, start=9)
    real, fake = torch.randn(2, 3, 8, 8), layer(torch.randn(2, 3, 8, 8))
    critic = own.critic(own.judge, real, fake, step=0)
    assert critic is not None
    (fake.square().mean() + critic.loss * float(learning)).backward()
    assert layer.weight.grad is not None
    return layer.weight.grad


def test_defect_4_the_generator_gets_no_gradient_of_the_discriminators_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    """dome272/VQGAN-pytorch, Shubhamai/pytorch-vqgan: the discriminator's loss is taken of reconstructions with their graph."""
    assert torch.equal(decoders_gradient(learning=True), decoders_gradient(learning=False))
    monkeypatch.setattr(Game, "critic", leaking)
    assert not torch.allclose(decoders_gradient(learning=True), decoders_gradient(learning=False)), "planted"


def is_cross_entropy(loss: AdversarialLoss) -> bool:
    """Against -log of the probability that the discriminator gives to the truth, in float64; it may be scaled."""
    real, fake = 3 * torch.randn(2, 64, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    wanted = -real.sigmoid().log().mean() - (1 - fake.sigmoid()).log().mean()
    generator = torch.allclose(loss.generator(fake), -fake.sigmoid().log().mean())
    return generator and any(torch.allclose(loss.discriminator(real, fake), scale * wanted) for scale in (0.5, 1.0))


def test_defect_5_cross_entropy_has_logits_and_target_in_their_places() -> None:
    """LlamaGen, vq_loss.py: binary_cross_entropy_with_logits(ones, logits), which is linear in the logits and unbounded."""
    loss = build(REGISTRY, "adversarial-loss", Choice(use="nonsaturating"))
    assert is_cross_entropy(loss)
    assert not is_cross_entropy(swapped()), "planted"


@pytest.mark.parametrize(("kind", "name"), configurable())
def test_defect_5_every_option_of_a_component_is_read(kind: str, name: str) -> None:
    """LlamaGen: --codebook-weight, --codebook-l2-norm and others are parsed and used nowhere."""
    assert unread_fields(REGISTRY.load(kind, name)) == set()


def test_defect_5_every_option_of_an_experiment_is_read() -> None:
    """LlamaGen: --weight-decay and --gradient-accumulation-steps are parsed and used nowhere."""
    assert unread_settings() == set()


def test_defect_5_planted() -> None:
    assert unread_fields(Unused) == {"codebook_weight"}
    assert fields_read("config.one + self.config.two + other.three\nconfig.four = 1") == {"one", "two"}


def kept(top_p: float) -> int:
    """How many of four codes are ever drawn, with top_p and without top_k."""
    uniforms = (torch.arange(1000) + 0.5) / 1000
    logits = torch.tensor([0.125, 0.25, 0.5, 0.125]).log().expand(1000, -1)
    return len(draw(logits, uniforms, Sampling(top_p=top_p)).unique())


def test_defect_6_top_p_needs_no_top_k(monkeypatch: pytest.MonkeyPatch) -> None:
    """taming-transformers, sample_fast: top-p is ignored when top-k is None."""
    assert [kept(top_p) for top_p in (0.4, 0.7, 0.8, 1.0)] == [1, 2, 3, 4]
    monkeypatch.setattr(sampling_interface, "_truncate", top_p_needs_top_k)
    assert kept(0.4) == 4, "planted"


def test_defect_6_the_adaptive_weight_is_not_computed_before_the_game(monkeypatch: pytest.MonkeyPatch) -> None:
    """taming-transformers: two gradients at the last layer in every step, long before disc_start."""
    asked: list[int] = []
    monkeypatch.setattr(adversarial, "adaptive_weight", lambda *_: asked.append(1) or torch.ones(()))
    layer = nn.Conv2d(3, 3, 1)
    own, fake = game(layer.weight, start=10), layer(torch.randn(2, 3, 8, 8))
    for step, count in ((0, 0), (9, 0), (10, 1)):
        own.generator(fake.square().mean(), fake, step=step)
        assert len(asked) == count
    monkeypatch.setattr(Game, "factor", lambda _, step: max(1e-9, float(step >= 10)))
    own.generator(fake.square().mean(), fake, step=0)
    assert len(asked) == 2, "planted"


def share_taken(decay: float) -> float:
    """The part of a batch's counts that one update takes in, in a tokenizer built from an experiment."""
    opened = session()
    chosen = experiment(opened)
    choice = Choice(use="ema", fields={"num_codes": 4, "dim": 3, "decay": decay})
    quantizer: Any = new_tokenizer(opened.registry, attrs.evolve(chosen, quantizer=(choice,)), (3, 8, 8)).quantizers[0]
    quantizer.update(quantizer(torch.randn(100, 3, 1)).pending)
    return float(quantizer.counts.sum()) / 100


def test_defect_8_decay_reaches_the_quantizer(monkeypatch: pytest.MonkeyPatch) -> None:
    """rosinality/vq-vae-2-pytorch: VQVAE takes `decay` and does not hand it on."""
    assert [share_taken(decay) for decay in (0.5, 0.75)] == pytest.approx([0.5, 0.25])

    def forgetful(registry: Any, kind: str, choice: Choice, **sizes: Any) -> Any:
        fields = {name: value for name, value in choice.fields.items() if name != "decay"}
        return build(registry, kind, Choice(use=choice.use, fields=fields), **sizes)

    monkeypatch.setattr(tokenizers, "build", forgetful)
    assert share_taken(0.5) == pytest.approx(0.01), "planted"


def first_step(folder: Path) -> float:
    """How far the first of four warm-up steps to the rate 0.01 moves a weight: Adam's first step is as long as its rate."""
    made_loop = loop(session(), "tokenizer", folder, warmup=4, decay=0.0, weight_decay=0.0, budget="steps:1", lr=0.01)
    before = [weight.detach().clone() for weight in made_loop.stage.module.parameters()]
    made_loop.run()
    after = made_loop.stage.module.parameters()
    return max(float((new.detach() - old).abs().max()) for new, old in zip(after, before, strict=True))


def test_defect_8_the_first_step_has_the_rate_of_the_first_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """rosinality/vq-vae-2-pytorch: scheduler.step() before optimizer.step(), so no step has its own rate."""
    assert first_step(tmp_path / "run") == pytest.approx(0.0025, rel=1e-2)
    monkeypatch.setattr(training_player, "Player", Clocked)
    assert first_step(tmp_path / "planted") == pytest.approx(0.01, rel=1e-2), "planted"


def test_defect_8_options_are_not_replaced_by_those_of_a_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """rosinality/vq-vae-2-pytorch, train_pixelsnail.py: --ckpt replaces all options of the command line in silence."""
    Loop(session(), *plan_of(tmp_path, {"lr": 0.1})).run()
    with pytest.raises(IntegrityError, match="trained under another config"):
        Loop(session(), *plan_of(tmp_path, {"lr": 0.2})).run()
    monkeypatch.setattr(training_loop, "check_config", lambda *_: None)
    Loop(session(), *plan_of(tmp_path, {"lr": 0.2})).run()  # planted


def plan_of(folder: Path, config: dict[str, Any]) -> tuple[Any, Plan]:
    """The stage and plan of a run of these options."""
    small = loop(session(), "tokenizer", folder / "run", budget="steps:1")
    return small.stage, attrs.evolve(small.plan, config=config)


def reported(folder: Path) -> tuple[float, dict[str, float]]:
    """Nats a code that `evaluate` reports of a new run, and minus the mean log-probability of the codes of each split."""
    assert dvgen("train", "--out", str(folder), *settings(*TINY_GPT)) == 0
    opened = session()
    nll = evaluate_run(opened, folder, None, lambda _: None)["groups"][0]["rows"][0]["measurements"]["nll"]
    cache = TokenCache.open(folder / "tokenizer" / "codes")
    model = load_prior(opened, read_run(folder), cache, folder)
    with torch.no_grad():
        by_hand = {split: -float(model(cache.codes(split), None)[0].double().mean()) for split in SPLITS}
    return nll["value"], by_hand


def test_defect_8_the_likelihood_is_that_of_held_out_codes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """rosinality/vq-vae-2-pytorch: no likelihood of data that the prior was not trained on, anywhere."""
    value, by_hand = reported(tmp_path / "run")
    assert value == pytest.approx(by_hand["test"], rel=1e-6)
    assert abs(by_hand["train"] - by_hand["test"]) > 1e-4
    monkeypatch.setattr(assessment, "TEST", "train")
    value, by_hand = reported(tmp_path / "planted")
    assert value != pytest.approx(by_hand["test"], rel=1e-6), "planted"
