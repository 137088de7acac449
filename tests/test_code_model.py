"""The code model: a product over levels, each prior seeing exactly the levels before its own."""

import itertools

import pytest
import torch
from torch import Generator, Tensor
from toy_components import IndependentPrior

from dvgen.blocks.sliding_window import SlidingWindow
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


@pytest.mark.parametrize("count", [0, 1, 3])
def test_codes_of_more_or_fewer_levels_are_not_completed(count: int) -> None:
    """And codes of levels that the model lacks are not passed over in silence."""
    given = tuple(torch.zeros(1, 1, 2, dtype=torch.int64) for _ in range(count))
    with pytest.raises(ShapeError, match=f"expected codes of 2 levels, got {count}"):
        model().sample([Generator()], sampling=Sampling(), given=given)


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


def windowed(registry: Registry, name: str = "gpt") -> CodeModel:
    """Two tiny registered priors, with labels, in float64, and weights so large that every path matters."""
    torch.manual_seed(1)
    cls = registry.load("prior", name)
    priors = [
        cls(cls.tiny(), levels=(level,), context=ContextShape(coarser=LEVELS[:i], num_classes=2))
        for i, level in enumerate(LEVELS)
    ]
    product = CodeModel(priors).double().eval()
    with torch.no_grad():
        for parameter in product.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.3)
    return product


def larger_codes() -> Codes:
    """Every pair of maps of the two levels on grids of 1x3: 8 x 27."""
    table = torch.tensor(list(itertools.product(*([range(2)] * 3 + [range(3)] * 3))))
    return table[:, :3].unsqueeze(1), table[:, 3:].unsqueeze(1)


@pytest.mark.parametrize("name", ["gpt", "pixelcnn"])
def test_probabilities_over_larger_grids_sum_to_one_and_are_those_of_windows(registry: Registry, name: str) -> None:
    product = windowed(registry, name)
    larger = product.enlarged([(1, 3), (1, 3)], stride=1)
    assert [level.grid for level in larger.levels] == [(1, 3), (1, 3)]
    codes = larger_codes()
    labels = torch.ones(len(codes[0]), dtype=torch.int64)
    with torch.no_grad():
        found = larger(codes, labels)
        assert float(total(found).exp().sum()) == pytest.approx(1, abs=1e-10)
        windows = [SlidingWindow(prior, (1, 3), 1) for prior in product.priors]
        for i, window in enumerate(windows):
            assert torch.equal(found[i], window(codes[i : i + 1], Context(len(labels), codes[:i], labels))[0])


def test_the_finer_level_is_drawn_given_the_larger_coarser_one(registry: Registry) -> None:
    """And each sample is drawn as from the priors themselves, one after the other."""
    product = windowed(registry)
    larger, labels = product.enlarged([(2, 5), (2, 5)]), torch.tensor([0, 1, 1])
    generators = [Generator().manual_seed(i) for i in range(3)]
    drawn = larger.sample(generators, labels, sampling=Sampling(guidance=1.5))
    generators = [Generator().manual_seed(i) for i in range(3)]
    expected: Codes = ()
    for prior in product.priors:
        window = SlidingWindow(prior, (2, 5))
        context = Context(3, expected, labels)
        expected += window.sample(context, sampling=Sampling(guidance=1.5), generators=generators)
    assert all(torch.equal(one, other) for one, other in zip(drawn, expected, strict=True))


def test_a_level_of_its_trained_grid_keeps_its_prior_and_others_get_the_stride(registry: Registry) -> None:
    product = windowed(registry)
    same = product.enlarged([(1, 2), (1, 2)], stride=2)
    assert [one is other for one, other in zip(same.priors, product.priors, strict=True)] == [True, True]
    assert list(product.enlarged([(2, 2), (2, 2)]).parameters()) == list(product.parameters()), "parameters are shared"
    assert same.exact_levels == product.exact_levels == product.enlarged([(2, 2), (2, 2)]).exact_levels
    strides = [[prior.stride for prior in product.enlarged([(1, 6), (1, 6)], stride).priors] for stride in (None, 2)]
    assert strides == [[1, 1], [2, 2]]
    # a prior that cannot be windowed does not matter where nothing is larger
    independent = model()
    assert independent.enlarged([(1, 2), (1, 2)]).levels == LEVELS


@pytest.mark.parametrize(
    ("grids", "message"),
    [
        ([(1, 4)], "each of the levels 'top', 'bottom', got 1"),
        ([(1, 4), (1, 3)], "'top': a grid of .1, 4., but 'bottom' of .1, 3. needs one of .1, 3."),
        ([(1, 2), (1, 4)], "'top': a grid of .1, 2., but 'bottom' of .1, 4. needs one of .1, 4."),
        ([(1, 4), (1, 2)], "'top': a grid of .1, 4., but 'bottom' of .1, 2. needs one of .1, 2."),
        ([(1, 1), (1, 1)], "'top': windows of .1, 2. cannot fill a grid of .1, 1."),
        ([(4,), (4,)], "'top': windows of .1, 2. cannot fill a grid of .4,.; expected 2 sides"),
    ],
    ids=["too few", "another ratio", "only the finer", "only the coarser", "smaller", "axes"],
)
def test_grids_that_the_priors_cannot_be_moved_over_are_refused(
    registry: Registry, grids: list[tuple[int, ...]], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        windowed(registry).enlarged(grids)


def test_a_prior_that_fills_its_grid_at_once_is_not_moved(registry: Registry) -> None:
    with pytest.raises(ConfigError, match=r"'top': Masked predicts no code from those before it.*sample the trained size"):
        windowed(registry, "masked").enlarged([(1, 4), (1, 4)])


def test_levels_whose_grids_do_not_divide_each_other_are_not_enlarged(registry: Registry) -> None:
    cls = registry.load("prior", "gpt")
    levels = (Level("top", (2, 2), 2), Level("bottom", (3, 3), 2))
    priors = [cls(cls.tiny(), levels=(level,), context=ContextShape(levels[:i])) for i, level in enumerate(levels)]
    with pytest.raises(ConfigError, match=r"'bottom': its windows .* coarser level 'top'"):
        CodeModel(priors).enlarged([(4, 4), (6, 6)])
