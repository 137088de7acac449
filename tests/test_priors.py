"""The likelihood of every registered prior: by enumeration, by edit, by brute force, on shrunken models in float64."""

import itertools
import math
from collections.abc import Iterator

import pytest
import torch
from tiny_priors import (
    CLASSES,
    COARSE_CODES,
    COARSER,
    CODES,
    GRIDS,
    LARGER,
    PRIORS,
    autoregressive,
    build,
    contexts,
    every_code,
    generators,
    log_probability,
    repeated,
    some_codes,
)
from torch import Generator, Tensor

from dvgen.discovery import discover
from dvgen.errors import ConfigError
from dvgen.interfaces.codes import MASKED, Level
from dvgen.interfaces.context import UNCONDITIONAL, Context, ContextShape
from dvgen.interfaces.sampling import Sampling


@pytest.fixture(params=PRIORS)
def name(request: pytest.FixtureRequest) -> str:
    """The name of a registered prior."""
    return str(request.param)


@pytest.mark.parametrize("grid", GRIDS, ids=str)
@pytest.mark.parametrize("conditional", [False, True], ids=["alone", "conditional"])
def test_probabilities_of_all_maps_sum_to_one(name: str, grid: tuple[int, ...], conditional: bool) -> None:
    prior = build(name, grid, conditional=conditional)
    codes = every_code(prior.levels[0])
    total = log_probability(prior, codes, repeated(contexts(prior, 1), len(codes))).exp().sum()
    assert total.dtype == torch.float64
    assert float(total) == pytest.approx(1.0, abs=1e-12) if prior.exact else float(total) <= 1 + 1e-12


def test_maps_sum_to_one_without_a_label(name: str) -> None:
    prior = build(name, (2, 2), conditional=True)
    codes = every_code(prior.levels[0])
    context = repeated(contexts(prior, 1), len(codes)).unconditional()
    assert float(log_probability(prior, codes, context).exp().sum()) <= 1 + 1e-12


@pytest.mark.parametrize("grid", LARGER, ids=str)
def test_a_code_changes_nothing_up_to_itself_and_something_after(name: str, grid: tuple[int, ...]) -> None:
    """Causality by edit, bit for bit; and no dead input: every code but the last is seen by the very next position."""
    prior = autoregressive(build(name, grid, conditional=True))
    codes, context = some_codes(prior, 4), contexts(prior, 4)
    with torch.no_grad():
        before = prior.logits(codes, context).flatten(1, -2)
        for j in range(prior.level.length):
            edited = codes.flatten(1).clone()
            edited[:, j] = (edited[:, j] + 1) % CODES
            after = prior.logits(edited.unflatten(1, grid), context).flatten(1, -2)
            assert torch.equal(after[:, : j + 1], before[:, : j + 1])
            moved = (after != before).any(dim=-1)
            assert moved[:, j + 1 :].all()


@pytest.mark.parametrize("grid", LARGER, ids=str)
@pytest.mark.parametrize("conditional", [False, True], ids=["alone", "conditional"])
def test_one_position_at_a_time_equals_all_at_once(name: str, grid: tuple[int, ...], conditional: bool) -> None:
    prior = autoregressive(build(name, grid, conditional=conditional))
    codes, context = some_codes(prior, 5), contexts(prior, 5)
    with torch.no_grad():
        whole = prior.logits(codes, context).flatten(1, -2)
        state, previous = prior.start(context), None
        for position in range(prior.level.length):
            stepped = prior.step(state, previous)
            torch.testing.assert_close(stepped, whole[:, position], rtol=0, atol=1e-10)
            previous = codes.flatten(1)[:, position]
    assert float(whole.std()) > 0.05


def test_one_position_at_a_time_equals_all_at_once_in_single_precision(name: str) -> None:
    prior = autoregressive(build(name, (4, 4), conditional=True)).float()
    codes, context = some_codes(prior, 5), contexts(prior, 5)
    with torch.no_grad():
        whole = prior.logits(codes, context).flatten(1, -2)
        state, previous = prior.start(context), None
        for position in range(prior.level.length):
            # relative to the largest logit: the weights here are ten times those of a trained model
            error = (prior.step(state, previous) - whole[:, position]).abs().max()
            assert float(error) <= 1e-5 * max(1.0, float(whole.abs().max()))
            previous = codes.flatten(1)[:, position]


def test_a_masked_code_costs_nothing(name: str) -> None:
    prior = build(name, (4, 4), conditional=True)
    codes, context = some_codes(prior, 4), contexts(prior, 4)
    masked = torch.rand(4, 4, 4, generator=Generator().manual_seed(1)) < 0.4
    with torch.no_grad():
        (terms,) = prior((codes.masked_fill(masked, MASKED),), context)
    assert (terms[masked] == 0).all()
    assert (terms[~masked] < 0).all()


def test_a_batch_without_a_code_costs_nothing_and_teaches_nothing(name: str) -> None:
    """0 and no gradient, where a mean over no codes would be NaN and end the training."""
    prior = build(name, (4, 4), conditional=True)
    loss = prior.loss((torch.full((2, 4, 4), MASKED),), contexts(prior, 2), Generator().manual_seed(0))
    loss.backward()
    assert float(loss.detach()) == 0
    assert all(not p.grad.any() for p in prior.parameters() if p.grad is not None)


def test_a_sample_costs_the_same_in_any_batch(name: str) -> None:
    prior = build(name, (4, 4), conditional=True)
    codes, context = some_codes(prior, 5), contexts(prior, 5)
    with torch.no_grad():
        (together,) = prior((codes,), context)
        for i in range(5):
            alone = Context(1, tuple(c[i : i + 1] for c in context.coarser), context.labels[i : i + 1])  # type: ignore[index]
            torch.testing.assert_close(prior((codes[i : i + 1],), alone)[0][0], together[i], rtol=0, atol=1e-11)


@pytest.mark.parametrize("grid", LARGER, ids=str)
def test_labels_and_coarser_codes_are_looked_at(name: str, grid: tuple[int, ...]) -> None:
    """No dead context: every label, no label, and every coarser code, a masked one too, change the probability."""
    prior = build(name, grid, conditional=True)
    codes, context = some_codes(prior, 1), contexts(prior, 1)
    labelled = [context._replace(labels=torch.tensor([label])) for label in (UNCONDITIONAL, *range(CLASSES))]
    coarse = context.coarser[0].flatten()
    changed = []
    for place, value in itertools.product(range(len(coarse)), (MASKED, *range(COARSE_CODES))):
        edited = coarse.clone()
        edited[place] = value
        if value != coarse[place]:
            changed.append(context._replace(coarser=(edited.unflatten(0, (1, *COARSER[grid])),)))
    for family in (labelled, [context, *changed]):
        values = [float(log_probability(prior, codes, c)) for c in family]
        assert len({round(v, 9) for v in values}) == len(values)


def test_a_state_dict_is_all_there_is(name: str) -> None:
    prior, other = (build(name, (4, 4), conditional=True, seed=seed) for seed in (0, 1))
    codes, context = some_codes(prior, 3), contexts(prior, 3)
    assert not torch.equal(log_probability(prior, codes, context), log_probability(other, codes, context))
    other.load_state_dict(prior.state_dict())
    assert torch.equal(log_probability(prior, codes, context), log_probability(other, codes, context))


def test_loss_is_minus_the_mean_of_forward_over_codes_that_are_not_masked(name: str) -> None:
    prior = autoregressive(build(name, (4, 4), conditional=True))
    codes, context = some_codes(prior, 4), contexts(prior, 4)
    codes[:, 1] = MASKED
    with torch.no_grad():
        loss, (terms,) = prior.loss((codes,), context), prior((codes,), context)
    assert float(loss) == pytest.approx(-float(terms[codes != MASKED].mean()), abs=1e-12)


def test_label_dropout_happens_with_noise_and_only_with_noise(name: str) -> None:
    """Noise hides some labels of a batch, the same ones for the same noise; without noise there is no randomness at all."""
    prior = build(name, (2, 2), conditional=True)
    codes, context = some_codes(prior, 64), contexts(prior, 64)
    with torch.no_grad():
        noisy = [float(prior.loss((codes,), context, Generator().manual_seed(seed))) for seed in (0, 0, 1)]
        plain = []
        for _ in range(2):
            if not prior.exact:
                torch.manual_seed(0)  # a prior that trains on random masks takes them from torch's global state
            plain.append(float(prior.loss((codes,), context)))
    assert noisy[0] == noisy[1] != noisy[2]
    assert plain[0] == plain[1] not in noisy


@pytest.mark.parametrize("conditional", [False, True], ids=["alone", "conditional"])
def test_every_parameter_is_optimised_once_and_receives_a_gradient(name: str, conditional: bool) -> None:
    prior = build(name, (4, 4), conditional=conditional)
    prior.loss((some_codes(prior, 16),), contexts(prior, 16)).backward()
    dead = [key for key, p in prior.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert dead == []
    grouped = [id(parameter) for group in prior.parameter_groups() for parameter in group["params"]]
    assert sorted(grouped) == sorted(id(parameter) for parameter in prior.parameters())


def _copies() -> Iterator[Tensor]:
    generator = Generator().manual_seed(0)
    while True:
        row = torch.randint(0, 4, (32, 1, 4), generator=generator)
        yield torch.cat([row, row], dim=1)


def test_training_learns_to_copy(name: str) -> None:
    """The lower row repeats the upper: log 4 nats a code by frequencies alone, half of that for who copies."""
    cls = discover().registry.load("prior", name)
    torch.manual_seed(0)
    prior = cls(cls.tiny(), levels=(Level("level", (2, 4), 4),), context=ContextShape())
    if not prior.exact:
        pytest.skip(
            "learns from one random mask a step: too slowly for its tiny form, so its plugin's tests train a larger one"
        )
    optimiser = torch.optim.Adam(prior.parameter_groups(), lr=2e-2)
    for codes in itertools.islice(_copies(), 120):
        optimiser.zero_grad()
        prior.loss((codes,), Context(32), Generator().manual_seed(0)).backward()
        optimiser.step()
    prior.eval()
    nats = -float(log_probability(prior, next(_copies()), Context(32)).mean()) / 8
    assert math.log(4) / 2 - 0.05 < nats < 0.85 * math.log(4)


def test_likelihood_is_at_least_single_precision_under_autocast(name: str) -> None:
    prior = build(name, (4, 4), conditional=True).float()
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.no_grad():
        (terms,) = prior((some_codes(prior, 2),), contexts(prior, 2))
        (samples,) = prior.sample(contexts(prior, 2), sampling=Sampling(), generators=generators(2))
    assert terms.dtype == torch.float32
    assert samples.shape == (2, 4, 4)


def test_a_wider_config_has_more_parameters(name: str) -> None:
    cls = discover().registry.load("prior", name)
    counts = []
    for width in (0.5, 1.0, 1.7):
        prior = cls(cls.scaled(cls.Config(), width), levels=(Level("level", (4, 4), 8),), context=ContextShape())
        counts.append(sum(parameter.numel() for parameter in prior.parameters()))
    assert counts == sorted(set(counts))


def test_several_levels_at_once_are_refused(name: str) -> None:
    autoregressive(build(name, (2, 2), conditional=False))
    cls = discover().registry.load("prior", name)
    with pytest.raises(ConfigError, match="one level, got 2"):
        cls(cls.tiny(), levels=(Level("a", (2, 2), 3), Level("b", (2, 2), 3)), context=ContextShape())
