"""What is particular to the masked prior: its bound by enumeration over orders, its decoding."""

import itertools
import math

import attrs
import numpy as np
import pytest
import torch
from scipy.stats import chisquare
from torch import Generator, Tensor, nn

from dvgen.errors import ConfigError
from dvgen.interfaces.codes import MASKED, Level
from dvgen.interfaces.context import Context, ContextShape
from dvgen.interfaces.sampling import Sampling, draw
from dvgen_masked.masks import masked_after, training_masks
from dvgen_masked.prior import Masked

LEVEL = Level("level", (2, 2), 3)
MAPS = torch.tensor(list(itertools.product(range(3), repeat=4))).unflatten(1, (2, 2))
RANDOM_ORDER = {"steps": 4, "choice_temperature": 1e9}


def build(level: Level = LEVEL, coarser: tuple[Level, ...] = (), num_classes: int = 0, **changes: object) -> Masked:
    """A masked prior in float64, weights enlarged so that every path matters."""
    torch.manual_seed(0)
    config = attrs.evolve(Masked.tiny(), **changes)
    prior = Masked(config, levels=(level,), context=ContextShape(coarser, num_classes)).double().eval()
    with torch.no_grad():
        for parameter in prior.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.4)
    return prior


def generators(count: int) -> list[Generator]:
    """One generator a sample."""
    return [Generator().manual_seed(seed) for seed in range(count)]


def by_order(prior: Masked, codes: Tensor, context: Context) -> Tensor:
    """log p(code at i | codes before it), (orders, b, length), for every order of the codes: by definition."""
    known = codes.flatten(1)
    found = []
    for order in itertools.permutations(range(known.shape[1])):
        shown, terms = torch.full_like(known, MASKED), torch.zeros(known.shape, dtype=torch.float64)
        for place in order:
            with torch.no_grad():
                log_probs = prior.logits(shown.view_as(codes), context).flatten(1, -2)[:, place].log_softmax(-1)
            terms[:, place] = log_probs.gather(1, known[:, place : place + 1].clamp(min=0)).squeeze(1)
            shown[:, place] = known[:, place]
        found.append(terms)
    return torch.stack(found).masked_fill(known == MASKED, 0.0)


def bound(prior: Masked, codes: Tensor, context: Context) -> Tensor:
    """The terms of `forward`, (b, length)."""
    with torch.no_grad():
        return prior((codes,), context)[0].flatten(1)


def test_with_all_sets_the_bound_is_the_expectation_over_all_orders() -> None:
    """Term for term, with missing codes too; so it is below the log-probability of the mixture of orders, a distribution."""
    prior = build(num_classes=2)
    context = Context(81, (), torch.ones(81, dtype=torch.int64))
    orders, terms = by_order(prior, MAPS, context), bound(prior, MAPS, context)
    torch.testing.assert_close(terms, orders.mean(dim=0), rtol=0, atol=1e-12)
    mixture = orders.sum(dim=2).exp().mean(dim=0)
    assert float(mixture.sum()) == pytest.approx(1, abs=1e-12)
    assert (terms.sum(dim=1) < mixture.log()).all()
    assert float(terms.sum(dim=1).exp().sum()) < 0.999
    missing = MAPS.masked_fill(torch.rand(81, 2, 2, generator=Generator().manual_seed(0)) < 0.4, MASKED)
    torch.testing.assert_close(
        bound(prior, missing, context), by_order(prior, missing, context).mean(dim=0), rtol=0, atol=1e-12
    )


@pytest.mark.parametrize("masks", range(1, 15))
def test_whatever_orders_are_drawn_the_bound_holds(masks: int) -> None:
    """One order, in groups or not, is a distribution of its own; several are below their mixture; also with a code missing."""
    prior = build(bound_masks=masks)
    assert len(prior.conditionals.hidden) <= masks
    torch.testing.assert_close(prior.conditionals.weights.sum(dim=0), torch.ones(4, dtype=torch.float64))
    total = float(bound(prior, MAPS, Context(81)).sum(dim=1).exp().sum())
    assert total == pytest.approx(1, abs=1e-12) if masks < 8 else total < 1
    missing = MAPS[MAPS[:, 0, 1] == 0].clone()
    missing[:, 0, 1] = MASKED
    assert float(bound(prior, missing, Context(27)).sum(dim=1).exp().sum()) <= 1 + 1e-12


def test_the_uniform_schedule_trains_the_bound() -> None:
    """The mean of the loss over masks is minus the mean of the bound a code, where codes are missing too."""
    prior = build(schedule="uniform")
    code = torch.tensor([[[0, 2], [1, 1]], [[2, MASKED], [0, 1]]])
    expected = -float(bound(prior, code, Context(2)).sum()) / 7
    with torch.no_grad():
        losses = [prior.loss((code.repeat(400, 1, 1),), Context(800), Generator().manual_seed(i)) for i in range(25)]
    mean, error = float(torch.stack(losses).mean()), float(torch.stack(losses).std()) / 5
    assert error < 0.01
    assert mean == pytest.approx(expected, abs=5 * error)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_cosine_schedule_trains_the_mean_over_all_hidden_codes(smoothing: float) -> None:
    """Cross-entropy with (1 - s) of the target on the code and s spread over all three, at hidden codes alone."""
    prior = build(label_smoothing=smoothing)
    codes = MAPS[::5]
    hidden = training_masks(torch.ones(17, 4, dtype=torch.bool), "cosine", Generator().manual_seed(3)).view_as(codes)
    with torch.no_grad():
        loss = float(prior.loss((codes,), Context(17), Generator().manual_seed(3)))
        log_probs = prior.logits(codes.masked_fill(hidden, MASKED), Context(17)).log_softmax(-1)
    target = (1 - smoothing) * nn.functional.one_hot(codes, 3).double() + smoothing / 3
    assert loss == pytest.approx(-float((target * log_probs).sum(-1)[hidden].mean()), abs=1e-12)


def test_dropped_labels_are_no_labels() -> None:
    prior = build(num_classes=2, label_dropout=1.0)
    context = Context(81, (), torch.ones(81, dtype=torch.int64))
    with torch.no_grad():
        dropped, without = (prior.loss((MAPS,), c, Generator().manual_seed(0)) for c in (context, context.unconditional()))
        torch.manual_seed(0)
        kept = prior.loss((MAPS,), context)
    assert dropped == without != kept


@pytest.mark.parametrize("coarser", [(Level("line", (5,), 4),), (Level("line", (2,), 4), Level("top", (1, 2), 4))], ids=str)
def test_every_code_that_is_shown_is_seen_everywhere(coarser: tuple[Level, ...]) -> None:
    """No order: a code before or after, of this level or a prefixed one, changes the logits of every hidden code."""
    prior = build(Level("level", (2, 3), 3), coarser)
    codes = torch.tensor([[[0, 1, MASKED], [2, 0, 1]]])
    context = Context(1, tuple(torch.ones(1, *level.grid, dtype=torch.int64) for level in coarser))
    with torch.no_grad():
        before = prior.logits(codes, context).flatten(1, 2)[:, 2]
        for place in (0, 1, 3, 4, 5):
            edited = codes.flatten(1).clone()
            edited[:, place] = (edited[:, place] + 1) % 3
            assert (prior.logits(edited.view_as(codes), context).flatten(1, 2)[:, 2] != before).any()
        for place, value in itertools.product(range(coarser[0].length), (MASKED, 0, 2)):
            first = context.coarser[0].clone()
            first[:, place] = value
            other = Context(1, (first, *context.coarser[1:]))
            assert (prior.logits(codes, other).flatten(1, 2)[:, 2] != before).any()


@pytest.mark.parametrize("guidance", [1.0, 1 + 1e-13])
def test_one_code_a_step_in_random_order_samples_the_mixture_of_orders(guidance: float) -> None:
    prior = build(num_classes=2, **RANDOM_ORDER)
    context = Context(6000, (), torch.ones(6000, dtype=torch.int64))
    (samples,) = prior.sample(context, sampling=Sampling(guidance=guidance), generators=generators(6000))
    labels = torch.ones(81, dtype=torch.int64)
    expected = by_order(prior, MAPS, Context(81, (), labels)).sum(dim=2).exp().mean(dim=0).numpy() * 6000
    found = torch.bincount((samples.flatten(1) * 3 ** torch.arange(3, -1, -1)).sum(dim=1), minlength=81).numpy()
    rare = expected < 5
    bins = [np.append(values[~rare], values[rare].sum() if rare.any() else []) for values in (found, expected)]
    assert len(bins[0]) > 10
    assert chisquare(bins[0], bins[1] * (6000 / bins[1].sum())).pvalue > 1e-6


@pytest.mark.parametrize("temperature", [0.0, 4.5])
@pytest.mark.parametrize("guidance", [1.0, 2.5])
def test_the_surest_codes_are_kept_but_for_noise_that_falls_to_nothing(guidance: float, temperature: float) -> None:
    """Decoding by definition, one sample at a time; what is given stays, and is not counted by the schedule."""
    level = Level("level", (3, 4), 5)
    prior = build(level, num_classes=2, steps=4, choice_temperature=temperature)
    context, sampling = Context(6, (), torch.tensor([0, 1, 0, 1, 0, 1])), Sampling(guidance=guidance, temperature=2.0)
    given = torch.randint(0, 5, (6, 3, 4), generator=Generator().manual_seed(0))
    for i, few in enumerate((0, 1, 2, 7, 11, 12)):
        given[i].view(-1)[few:] = MASKED
    (samples,) = prior.sample(context, sampling=sampling, generators=generators(6), given=(given,))
    for i in range(6):
        alone, codes = Context(1, (), context.labels[i : i + 1]), given[i : i + 1].flatten()  # type: ignore[index]
        noise = Generator().manual_seed(i)
        for step, left in enumerate(masked_after(int((codes == MASKED).sum()), 4)):
            with torch.no_grad():
                labelled, blind = (prior.logits(codes.view(1, 3, 4), c).view(12, 5) for c in (alone, alone.unconditional()))
            guided = blind + guidance * (labelled - blind)
            uniforms = torch.rand(2, 12, generator=noise, dtype=torch.float64)
            drawn = draw(guided, uniforms[0], sampling)
            surest = guided.softmax(-1)[torch.arange(12), drawn].log()
            surest -= temperature * (3 - step) / 4 * torch.log(-torch.log(uniforms[1]))
            hidden = [place for place in range(12) if codes[place] == MASKED]
            for place in sorted(hidden, key=lambda place: -float(surest[place]))[: len(hidden) - left]:
                codes[place] = drawn[place]
        assert torch.equal(samples[i].flatten(), codes)


def test_a_sample_takes_its_numbers_whatever_is_given() -> None:
    """A generator goes on to the next level: how far it is must not depend on what was given, to whom."""
    prior = build()
    given = torch.stack([MAPS[5], torch.full((2, 2), MASKED)])
    states = []
    for known in (None, given, given.flip(0), MAPS[:2]):
        mine = generators(2)
        (samples,) = prior.sample(Context(2), sampling=Sampling(), generators=mine, given=None if known is None else (known,))
        assert samples.min() >= 0
        states.append([generator.get_state() for generator in mine])
    assert all(torch.equal(a, b) for other in states[1:] for a, b in zip(states[0], other, strict=True))


def test_training_reaches_a_known_distribution_from_above() -> None:
    """The lower row repeats the upper: the bound cannot be below the entropy, and comes close; so do the samples."""
    torch.manual_seed(0)
    level = Level("level", (2, 2), 3)
    config = Masked.Config(layers=1, dim=32, heads=4, schedule="uniform", **RANDOM_ORDER)
    prior = Masked(config, levels=(level,), context=ContextShape())
    for table in (prior.positions, prior.codes):
        nn.init.normal_(table.weight)  # from 0.02 so small a model takes thousands of steps to tell places apart
    optimiser = torch.optim.Adam(prior.parameter_groups(), lr=1e-2)
    noise, upper = Generator().manual_seed(0), torch.tensor([4.0, 1, 1, 1, 4, 1, 1, 1, 4]) / 18
    truth = torch.zeros(81, dtype=torch.float64)
    truth[torch.arange(9) * 10] = upper.double()
    for step in range(200):
        optimiser.param_groups[0]["lr"] = optimiser.param_groups[1]["lr"] = 1e-2 * (1 - step / 200)
        codes = MAPS[torch.multinomial(truth, 128, replacement=True, generator=noise)]
        optimiser.zero_grad()
        prior.loss((codes,), Context(128), noise).backward()
        optimiser.step()
    prior.double().eval()
    entropy = -float((upper * upper.log()).sum())
    nats = -float((truth * bound(prior, MAPS, Context(81)).sum(dim=1)).sum())
    assert entropy <= nats < 1.03 * entropy
    (samples,) = prior.sample(Context(3000), sampling=Sampling(), generators=generators(3000))
    found = torch.bincount((samples.flatten(1) * 3 ** torch.arange(3, -1, -1)).sum(dim=1), minlength=81) / 3000
    # 3000 draws from the truth itself have a total variation of about 0.02 from it
    assert float((found - truth).abs().sum()) / 2 < 0.08


def test_weight_decay_and_initial_weights() -> None:
    prior = Masked(Masked.Config(), levels=(Level("level", (8, 8), 512),), context=ContextShape((Level("l", (9,), 40),), 10))
    decayed, rest = prior.parameter_groups()
    linear = {id(module.weight) for module in prior.modules() if isinstance(module, nn.Linear)}
    assert {id(parameter) for parameter in decayed["params"]} == linear
    assert rest["weight_decay"] == 0.0
    assert "weight_decay" not in decayed
    assert len(decayed["params"]) + len(rest["params"]) == len(list(prior.parameters()))
    for name, parameter in prior.named_parameters():
        if parameter.dim() == 2:
            assert float(parameter.detach().std()) == pytest.approx(0.02, rel=0.1), name
    assert all(not module.bias.any() for module in prior.modules() if isinstance(module, nn.Linear))


def test_what_cannot_be_built_is_refused() -> None:
    with pytest.raises(ConfigError, match="dim = 10 and heads = 4"):
        Masked(Masked.Config(dim=10, heads=4), levels=(LEVEL,), context=ContextShape())
    with pytest.raises(ConfigError, match="one level, got 2"):
        Masked(Masked.tiny(), levels=(LEVEL, LEVEL), context=ContextShape())
    with pytest.raises(ValueError, match="choice_temperature"):  # infinity times the last step's 0
        Masked.Config(choice_temperature=math.inf)
