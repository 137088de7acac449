"""The code model: a product over levels, each prior seeing exactly the levels before its own."""

import itertools

import pytest
import torch
from torch import Generator, Tensor
from toy_components import IndependentPrior

from dvgen.code_model import CodeModel, assemble_code_model, choose_priors
from dvgen.errors import ConfigError, ShapeError
from dvgen.experiment import PriorChoice, experiment_from
from dvgen.interfaces.codes import MASKED, Codes, Level
from dvgen.interfaces.context import Context, ContextShape
from dvgen.interfaces.prior import Prior
from dvgen.interfaces.sampling import Sampling
from dvgen.registry import Registry

TOP, BOTTOM = Level("top", (1, 2), 2), Level("bottom", (1, 2), 3)
LEVELS = (TOP, BOTTOM)


def model(num_classes: int = 0, seed: int = 0) -> CodeModel:
    """Two independent-codes priors, the second given the first level; float64."""
    torch.manual_seed(seed)
    priors = [
        IndependentPrior(
            IndependentPrior.Config(), levels=(level,), context=ContextShape(coarser=LEVELS[:i], num_classes=num_classes)
        )
        for i, level in enumerate(LEVELS)
    ]
    return CodeModel(priors).double().eval()


def all_codes() -> Codes:
    """Every pair of maps of the two levels: 4 x 9."""
    rows = itertools.product(*(range(level.num_codes) for level in LEVELS for _ in range(level.length)))
    table = torch.tensor(list(rows))
    return table[:, :2].unflatten(1, TOP.grid), table[:, 2:].unflatten(1, BOTTOM.grid)


def total(terms: tuple[Tensor, ...]) -> Tensor:
    return sum((term.flatten(1).sum(dim=1) for term in terms), torch.zeros(()))


@pytest.mark.parametrize("label", [None, 0, 1])
def test_probabilities_of_all_codes_sum_to_one(label: int | None) -> None:
    codes = all_codes()
    labels = None if label is None else torch.full((36,), label)
    log_probs = total(model(0 if label is None else 2)(codes, labels)).detach()
    assert float(log_probs.exp().sum()) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("name", ["gpt", "pixelsnail"])
def test_the_product_of_two_registered_priors_is_normalised(registry: Registry, name: str) -> None:
    torch.manual_seed(1)
    fields = {"gpt": {"layers": 1, "dim": 8, "heads": 2}, "pixelsnail": {}}[name]
    cls = registry.load("prior", name)
    config = cls.tiny() if name == "pixelsnail" else cls.Config(**fields)
    priors = [cls(config, levels=(level,), context=ContextShape(coarser=LEVELS[:i])) for i, level in enumerate(LEVELS)]
    product = CodeModel(priors).double().eval()
    with torch.no_grad():
        for parameter in product.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.3)
        assert float(total(product(all_codes())).exp().sum()) == pytest.approx(1, abs=1e-10)


def test_the_terms_are_those_of_each_prior_given_exactly_the_levels_before_it() -> None:
    product, codes = model(), all_codes()
    first, second = product.priors
    with torch.no_grad():
        found = product(codes)
        one = first(codes[:1], Context(36))
        two = second(codes[1:], Context(36, codes[:1]))
    assert torch.equal(found[0], one[0])
    assert torch.equal(found[1], two[0])
    torch.testing.assert_close(total(found), total(one) + total(two))
    # the second level does depend on the first
    changed = second(codes[1:], Context(36, (1 - codes[0],)))
    assert not torch.equal(changed[0], two[0])


class Witness(Prior):
    """Remembers the context it was shown."""

    def __init__(self, level: Level) -> None:
        super().__init__()
        self.levels = (level,)
        self.seen: list[Context] = []

    def forward(self, codes: Codes, context: Context) -> tuple[Tensor, ...]:
        self.seen.append(context)
        return (torch.zeros(codes[0].shape),)

    def sample(self, context: Context, *, sampling: Sampling, generators: object, given: Codes | None = None) -> Codes:
        self.seen.append(context)
        return (torch.ones(context.batch, *self.levels[0].grid, dtype=torch.int64),)


def test_every_prior_sees_the_coarser_codes_and_the_labels_and_nothing_else() -> None:
    third = Level("third", (2,), 2)
    product = CodeModel([Witness(level) for level in (*LEVELS, third)])
    codes = (
        torch.zeros(2, 1, 2, dtype=torch.int64),
        torch.ones(2, 1, 2, dtype=torch.int64),
        torch.ones(2, 2, dtype=torch.int64),
    )
    labels = torch.tensor([1, 0])
    product(codes, labels)
    product.sample([Generator(), Generator()], labels, sampling=Sampling())
    for number, prior in enumerate(product.priors):
        teacher_forced, drawn = prior.seen
        assert len(teacher_forced.coarser) == len(drawn.coarser) == number
        assert all(torch.equal(a, b) for a, b in zip(teacher_forced.coarser, codes[:number], strict=True))
        assert all(bool((code == 1).all()) for code in drawn.coarser)  # what was drawn, not the true codes
        assert teacher_forced.labels is labels
        assert drawn.labels is labels
        assert teacher_forced.batch == drawn.batch == 2


def test_loss_is_the_sum_of_the_priors_losses() -> None:
    product, codes = model(), all_codes()
    one, two = product(codes)
    torch.testing.assert_close(product.loss(codes), -one.mean() - two.mean())


def test_masked_codes_cost_nothing() -> None:
    product, codes = model(), all_codes()
    masked = (codes[0], torch.full_like(codes[1], MASKED))
    assert bool((product(masked)[1] == 0).all())
    assert torch.equal(product(masked)[0], product(codes)[0])


def test_sampling_completes_what_is_given_and_draws_the_finer_level_given_it() -> None:
    product, n = model(), 400
    top = torch.tensor([[[1, MASKED]]]).expand(n, 1, 2)
    bottom = torch.full((n, 1, 2), MASKED)
    generators = [Generator().manual_seed(i) for i in range(n)]
    drawn = product.sample(generators, sampling=Sampling(), given=(top, bottom))
    assert bool((drawn[0][:, 0, 0] == 1).all())
    assert set(drawn[0][:, 0, 1].tolist()) == {0, 1}
    logits = product.priors[1]._logits(0, Context(1, (torch.tensor([[[1, 0]]]),)))
    expected = logits[0, 0].softmax(dim=0).detach()
    seen = torch.bincount(drawn[1][:, 0, 0], minlength=3) / n
    assert (seen - expected).abs().max() < 0.1
    everything = product.sample(generators, sampling=Sampling(), given=drawn)
    assert all(torch.equal(a, b) for a, b in zip(everything, drawn, strict=True))


def test_samples_follow_the_probabilities() -> None:
    """Frequencies of all 36 outcomes against the enumerated probabilities, by the G-test's normal approximation."""
    product, n = model(seed=5), 4000
    drawn = product.sample([Generator().manual_seed(i) for i in range(n)], sampling=Sampling())
    codes = all_codes()
    expected = total(product(codes)).exp().detach()
    flat = torch.cat([code.flatten(1) for code in drawn], dim=1)
    places = torch.cat([code.flatten(1) for code in codes], dim=1)
    counts = (flat.unsqueeze(1) == places).all(dim=2).sum(dim=0)
    chi_square = float(((counts - n * expected) ** 2 / (n * expected)).sum())
    assert chi_square < 80  # 35 degrees of freedom: exceeded once in 30 000


def test_labels_change_the_distribution_and_the_unconditional_model_takes_none() -> None:
    product, codes = model(num_classes=2), all_codes()
    one, other = (product(codes, torch.full((36,), label)) for label in (0, 1))
    assert not torch.equal(one[0], other[0])


@pytest.mark.parametrize("damage", ["missing level", "out of range", "grid"])
def test_codes_of_another_shape_are_refused(damage: str) -> None:
    top, bottom = all_codes()
    damaged = {"missing level": (top,), "out of range": (top, bottom + 1), "grid": (top, bottom.flatten(1))}[damage]
    with pytest.raises(ShapeError):
        model()(damaged)


def _choice(use: str, level: str | None = None) -> PriorChoice:
    return PriorChoice(use=use, level=level)


def test_one_prior_without_a_level_serves_all_and_named_ones_go_to_their_level() -> None:
    one = _choice("gpt")
    assert choose_priors([one], LEVELS) == [one, one]
    top, bottom = _choice("pixelsnail", "top"), _choice("gpt", "bottom")
    assert choose_priors([bottom, top], LEVELS) == [top, bottom]


@pytest.mark.parametrize(
    "choices",
    [
        [_choice("gpt", "top")],
        [_choice("gpt", "top"), _choice("gpt", "top")],
        [_choice("gpt", "top"), _choice("gpt", "middle")],
        [_choice("gpt", "top"), _choice("gpt")],
        [_choice("gpt", "top"), _choice("gpt", "bottom"), _choice("gpt", "bottom")],
        [_choice("gpt"), _choice("gpt")],
    ],
    ids=["one missing", "twice", "unknown", "unnamed beside named", "too many", "two unnamed"],
)
def test_every_level_needs_exactly_one_prior(choices: list[PriorChoice]) -> None:
    with pytest.raises(ConfigError, match="one prior for each of the levels top, bottom"):
        choose_priors(choices, LEVELS)


def test_an_experiments_priors_know_their_level_and_the_coarser_ones(registry: Registry) -> None:
    table = {
        "prior": [
            {"use": "gpt", "level": "bottom", "dim": 8, "heads": 2, "layers": 1},
            {"use": "gpt", "level": "top", "dim": 16},
        ]
    }
    product = assemble_code_model(registry, experiment_from(table), LEVELS, num_classes=3)
    assert product.levels == LEVELS
    assert [prior.context for prior in product.priors] == [ContextShape((), 3), ContextShape((TOP,), 3)]
    assert [prior.config.dim for prior in product.priors] == [16, 8]
    assert product.exact
