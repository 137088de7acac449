"""Rule: the oracle is its source and nothing else: no training changes it, and no source of other codes is taken for it."""

import itertools
from collections.abc import Callable
from typing import Any, ClassVar

import pytest
import torch
from torch import Generator

from dvgen.assembly import build
from dvgen.code_model import CodeModel
from dvgen.contracts.components import PriorSubject, broken_laws, laws_of
from dvgen.contracts.model_subject import Example
from dvgen.contracts.prior_subject import Situation
from dvgen.contracts.pytest_components import prior_contract
from dvgen.discovery import discover
from dvgen.errors import ConfigError, ShapeError
from dvgen.experiment import Choice
from dvgen.interfaces.codes import MASKED, Codes, Level
from dvgen.interfaces.context import Context, ContextShape
from dvgen.interfaces.data import CodeSource
from dvgen.interfaces.sampling import Sampling
from dvgen.verify.short_training import Trained, verify_excess
from dvgen_truth.markov import MarkovRaster
from dvgen_truth.noisy_copy import NoisyCopy
from dvgen_truth.oracle import Oracle
from dvgen_truth.potts import Potts
from dvgen_truth.quadtree import QuadTree
from dvgen_truth.sequential import Sequential
from dvgen_truth.top_bottom import TopBottom


def small_potts() -> Potts:
    return Potts(Potts.Config(rows=2, columns=3, coupling=0.6, field=0.3))


def small_tree() -> QuadTree:
    return QuadTree(QuadTree.Config(depth=1, num_codes=2, noise=0.4))


def small_pair() -> TopBottom:
    config = TopBottom.Config(scale=1, num_codes=3, concentration=1.0)
    return TopBottom(config, top=lambda: Potts(Potts.Config(rows=1, columns=2, num_codes=3, field=0.5)))


def small_copy() -> NoisyCopy:
    return NoisyCopy(NoisyCopy.Config(grid=(4,), num_codes=2, noise=0.4))


SOURCES: dict[str, Callable[[], Sequential]] = {
    "markov": lambda: MarkovRaster(MarkovRaster.Config()),
    "noisy copy": lambda: NoisyCopy(NoisyCopy.Config()),
    "potts": lambda: Potts(Potts.Config()),
    "quadtree": lambda: QuadTree(QuadTree.Config()),
    "top and bottom": lambda: TopBottom(TopBottom.Config(), top=lambda: MarkovRaster(MarkovRaster.Config(grid=(4, 4)))),
    "small pair": small_pair,
}

sources = pytest.mark.parametrize("make", SOURCES.values(), ids=SOURCES.keys())


def oracles(source: Sequential) -> list[Oracle]:
    """One a level."""
    levels = source.levels
    return [
        Oracle(Oracle.Config(), levels=(level,), context=ContextShape(levels[:i]), source=lambda: source)
        for i, level in enumerate(levels)
    ]


class Made(Oracle):
    """The oracle of one source, made without being told it, as contracts make priors."""

    make: ClassVar[Callable[[], Sequential]]

    def __init__(self, config: Any, *, levels: tuple[Level, ...], context: ContextShape) -> None:
        super().__init__(config, levels=levels, context=context, source=type(self).make)


class OfPotts(Made):
    make = staticmethod(small_potts)


class OfTree(Made):
    make = staticmethod(small_tree)


class OfPair(Made):
    make = staticmethod(small_pair)


class OfCopy(Made):
    make = staticmethod(small_copy)


def situations(source: Sequential) -> tuple[Situation, ...]:
    return tuple(Situation((level,), ContextShape(source.levels[:i])) for i, level in enumerate(source.levels))


@prior_contract(OfPotts, situations=situations(small_potts()))
class TestPotts: ...


@prior_contract(OfTree, situations=situations(small_tree()))
class TestQuadTree: ...


R7 = {"R7 causal_by_edit"}


@pytest.mark.parametrize(("kind", "broken"), [(OfPair, [set(), R7]), (OfCopy, [R7])])
def test_laws_of_sources_that_end_in_independent_codes(kind: type[Made], broken: list[set[str]]) -> None:
    """All but R7's second half: the codes of a bottom level, and of the copy, change nothing that comes after them."""
    for situation, expected in zip(situations(kind.make()), broken, strict=True):
        subject = PriorSubject(kind, situations=(situation,))
        found = broken_laws(subject, [Example(batch=2), Example(batch=3, seed=1)], laws_of(subject))
        assert set(found) == expected
        assert all("changes no logits after it" in fault for fault in found.values())


@sources
def test_log_probabilities_are_the_sources(make: Callable[[], Sequential]) -> None:
    source = make()
    codes = source.sample(20, 1)
    total = torch.zeros(20, dtype=torch.float64)
    for i, prior in enumerate(oracles(source)):
        total += prior.double()((codes[i],), Context(20, codes[:i]))[0].flatten(1).sum(dim=1)
    torch.testing.assert_close(total, source.log_prob(codes), rtol=0, atol=1e-10)


@sources
def test_in_single_precision_they_are_rounded_sources(make: Callable[[], Sequential]) -> None:
    """Whoever alarms at a likelihood above the truth must allow for it: some 1e-7 of each term."""
    source = make()
    codes = source.sample(20, 1)
    total = torch.zeros(20, dtype=torch.float64)
    for i, prior in enumerate(oracles(source)):
        terms = prior((codes[i],), Context(20, codes[:i]))[0]
        assert terms.dtype == torch.float32
        total += terms.double().flatten(1).sum(dim=1)
    torch.testing.assert_close(total, source.log_prob(codes), rtol=1e-6, atol=1e-6)


@sources
def test_samples_cost_what_draws_of_the_source_cost(make: Callable[[], Sequential]) -> None:
    source = make()
    count = 300
    generators = [Generator().manual_seed(i) for i in range(count)]
    drawn: Codes = ()
    for prior in oracles(source):
        drawn += prior.sample(Context(count, drawn), sampling=Sampling(), generators=generators)
    own, theirs = source.log_prob(drawn), source.log_prob(source.sample(4000, 2))
    deviation = float((own.var() / count + theirs.var() / 4000).sqrt())
    assert abs(float(own.mean() - theirs.mean())) < 4 * deviation


def test_training_changes_nothing() -> None:
    source = small_tree()
    (prior,) = oracles(source)
    codes = source.sample(10, 0)
    before = prior(codes, Context(10))[0]
    optimiser = torch.optim.AdamW(prior.parameter_groups(), lr=0.1)
    for _ in range(3):
        optimiser.zero_grad()
        loss = prior.loss(codes, Context(10))
        loss.backward()
        optimiser.step()
        assert float(loss.detach()) == pytest.approx(-float(before.mean()))
    assert float(prior.idle.detach()) != 0
    assert torch.equal(prior(codes, Context(10))[0], before)


def test_codes_of_a_masked_top_are_of_the_mean_distribution() -> None:
    source = small_pair()
    context = Context(1, (torch.tensor([[[MASKED, 2]]]),))
    logits = oracles(source)[1].double().logits(torch.zeros(1, 1, 2, dtype=torch.int64), context)
    channel = source.channel.exp()
    torch.testing.assert_close(logits[0, 0].exp(), torch.stack([channel[:3].mean(dim=0), channel[2]]))


WRONG = [
    (Level("level", (3, 2), 2), (), "draws 2x3 of 2, but the codes are 3x2 of 2; .*prior.source.use=NAME"),
    (Level("level", (2, 3), 3), (), "draws 2x3 of 2, but the codes are 2x3 of 3"),
    (Level("level", (2, 3), 2), (Level("top", (2, 3), 2),), "draws 2x3 of 2, but the codes are 2x3 of 2 and 2x3 of 2"),
]


@pytest.mark.parametrize(("level", "coarser", "told"), WRONG)
def test_the_source_of_other_codes_is_refused(level: Level, coarser: tuple[Level, ...], told: str) -> None:
    with pytest.raises(ConfigError, match=f"oracle: the source 'markov' {told}") as caught:
        Oracle(Oracle.Config(), levels=(level,), context=ContextShape(coarser), source=small_potts)
    assert "\n" not in str(caught.value)


def test_labels_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"oracle: .*without class labels"):
        Oracle(Oracle.Config(), levels=small_potts().levels, context=ContextShape((), 2), source=small_potts)


def test_a_source_without_conditional_probabilities_is_refused() -> None:
    class Coin(CodeSource):
        levels = (Level("codes", (1,), 2),)

        def sample(self, n: int, seed: int) -> Codes:
            raise NotImplementedError

        def log_prob(self, codes: Codes) -> torch.Tensor:
            raise NotImplementedError

    with pytest.raises(ConfigError, match="Coin tells no conditional probabilities"):
        Oracle(Oracle.Config(), levels=Coin.levels, context=ContextShape(), source=Coin)


def test_a_context_of_another_batch_is_refused() -> None:
    (prior,) = oracles(small_potts())
    with pytest.raises(ShapeError, match="context of 2"):
        prior.logits(torch.zeros(1, 2, 3, dtype=torch.int64), Context(2))


def test_steps_of_all_draws_at_once_are_the_sources() -> None:
    """One state, every map of the space: the code of a place is that of the last step."""
    source = small_potts()
    (prior,) = oracles(source)
    prior.double()
    codes = torch.tensor(list(itertools.product(range(2), repeat=6)))
    state, previous, total = prior.start(Context(64)), None, torch.zeros(64, dtype=torch.float64)
    for place in range(6):
        total += prior.step(state, previous).gather(1, codes[:, place : place + 1])[:, 0]
        previous = codes[:, place]
    torch.testing.assert_close(total, source.log_prob((codes.unflatten(1, (2, 3)),)), rtol=0, atol=1e-12)


def test_it_is_chosen_by_name() -> None:
    """As `--prior oracle --set prior.source.use=NAME` does; and every source is there by its name."""
    registry = discover().registry
    assert {"markov", "noisy-copy", "potts-8x8", "quadtree", "top-bottom"} <= set(registry.names("code-source"))
    for name in registry.names("code-source"):
        source = build(registry, "code-source", Choice(use=name))
        codes = source.sample(2, 0)
        for i, level in enumerate(source.levels):
            choice, context = Choice(use="oracle", fields={"source": {"use": name}}), ContextShape(source.levels[:i])
            prior = build(registry, "prior", choice, levels=(level,), context=context)
            assert prior((codes[i],), Context(2, codes[:i]))[0].shape == codes[i].shape


def test_faults_of_its_source_are_told_by_line() -> None:
    choice = Choice(use="oracle", fields={"source": {"use": "potts-8x8", "coupling": 9.0, "rows": 0}})
    with pytest.raises(ConfigError) as caught:
        build(discover().registry, "prior", choice, levels=small_potts().levels, context=ContextShape())
    told = [line.split(":")[0] for line in str(caught.value).splitlines()]
    assert sorted(told) == ["prior.source.coupling", "prior.source.rows"]


@sources
def test_in_float32_it_is_not_taken_for_better_than_its_source(make: Callable[[], Sequential]) -> None:
    """Its excess is a rounding error, as often below 0 as above, and its interval has no width to speak of."""
    source = make()
    model = CodeModel(oracles(source)).eval()
    for seed in range(2):
        found = verify_excess(Trained(model, source, source.sample(200, seed), None))
        assert found.passed, found.detail
