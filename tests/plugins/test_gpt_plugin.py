"""What is particular to GPT: where context enters, its initial weights, its optimiser groups, its cache."""

import itertools

import pytest
import torch
from torch import Generator, nn

from dvgen.errors import ConfigError
from dvgen.interfaces.codes import MASKED, Level
from dvgen.interfaces.context import Context, ContextShape
from dvgen_gpt.block import Attention
from dvgen_gpt.prior import GPT

FINE = Level("fine", (3, 4), 5)


def build(config: GPT.Config, coarser: tuple[Level, ...] = (), num_classes: int = 0, level: Level = FINE) -> GPT:
    """A GPT in float64, weights enlarged so that every path matters."""
    torch.manual_seed(0)
    prior = GPT(config, levels=(level,), context=ContextShape(coarser, num_classes)).double().eval()
    with torch.no_grad():
        for parameter in prior.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.4)
    return prior


def test_heads_must_divide_dim() -> None:
    with pytest.raises(ConfigError, match="dim = 10 and heads = 4"):
        GPT(GPT.Config(dim=10, heads=4), levels=(FINE,), context=ContextShape())


def test_a_coarser_code_enters_where_its_own_place_is_predicted() -> None:
    """On an equal grid, without convolutions: code j of the coarser level changes the logits at j, and none before."""
    prior = build(GPT.Config(layers=2, dim=8, heads=2, conditioning_blocks=0), (Level("coarse", (3, 4), 5),))
    codes = torch.randint(0, 5, (1, 3, 4), generator=Generator().manual_seed(0))
    coarse = torch.randint(0, 5, (1, 3, 4), generator=Generator().manual_seed(1))
    before = prior.logits(codes, Context(1, (coarse,))).flatten(1, 2)
    for place in range(12):
        edited = coarse.flatten(1).clone()
        edited[:, place] = (edited[:, place] + 1) % 5
        moved = (prior.logits(codes, Context(1, (edited.unflatten(1, (3, 4)),))).flatten(1, 2) != before).any(-1)[0]
        assert moved.tolist() == [False] * place + [True] * (12 - place)


PREFIXES = [(Level("line", (5,), 4),), (Level("larger", (3, 5), 4),), (Level("line", (2,), 4), Level("top", (1, 2), 4))]


@pytest.mark.parametrize("coarser", PREFIXES, ids=["other axes", "longer", "prefix and aligned"])
def test_a_coarser_level_that_cannot_be_aligned_is_a_prefix_that_every_place_sees(coarser: tuple[Level, ...]) -> None:
    level = Level("fine", (2, 2), 3)
    prior = build(GPT.tiny(), coarser, level=level)
    codes = torch.tensor(list(itertools.product(range(3), repeat=4))).unflatten(1, (2, 2))
    coarse = tuple(torch.randint(0, 4, (1, *c.grid), generator=Generator().manual_seed(0)) for c in coarser)
    context = Context(81, tuple(c.expand(81, *c.shape[1:]) for c in coarse))
    with torch.no_grad():
        assert float(prior((codes,), context)[0].flatten(1).sum(1).exp().sum()) == pytest.approx(1, abs=1e-12)
        whole = prior.logits(codes, context).flatten(1, 2)
        state, previous = prior.start(context), None
        for position in range(4):
            torch.testing.assert_close(prior.step(state, previous), whole[:, position], rtol=0, atol=1e-10)
            previous = codes.flatten(1)[:, position]
        for place, value in itertools.product(range(coarser[0].length), (MASKED, 0, 1, 2, 3)):
            edited = coarse[0].flatten().clone()
            if edited[place] != value:
                edited[place] = value
                other = (edited.unflatten(0, (1, *coarser[0].grid)).expand(81, *coarse[0].shape[1:]), *context.coarser[1:])
                assert (prior.logits(codes, Context(81, other)).flatten(1, 2) != whole).any(-1).all()


def test_weight_decay_is_on_the_weights_of_linear_layers_alone() -> None:
    prior = build(GPT.Config(layers=1, dim=8, heads=2), (Level("top", (1, 2), 4), Level("line", (3,), 4)), 2)
    decayed, rest = prior.parameter_groups()
    names = {id(parameter): name for name, parameter in prior.named_parameters()}
    assert {names[id(parameter)] for parameter in decayed["params"]} == {
        "blocks.0.attention.qkv.weight",
        "blocks.0.attention.project.weight",
        "blocks.0.expand.weight",
        "blocks.0.contract.weight",
        "head.weight",
    }
    assert rest["weight_decay"] == 0.0
    assert "weight_decay" not in decayed
    assert len(decayed["params"]) + len(rest["params"]) == len(names)


def test_initial_weights_have_the_published_spread() -> None:
    torch.manual_seed(0)
    prior = GPT(GPT.Config(layers=8), levels=(Level("level", (8, 8), 512),), context=ContextShape((), 10))
    spreads = {name: float(parameter.detach().std()) for name, parameter in prior.named_parameters() if parameter.dim() == 2}
    for name, spread in spreads.items():
        residual = name.endswith(("project.weight", "contract.weight"))
        assert spread == pytest.approx(0.02 / 4 if residual else 0.02, rel=0.1), name
    assert all(not module.bias.any() for module in prior.modules() if isinstance(module, nn.Linear))


def test_attention_equals_its_definition() -> None:
    torch.manual_seed(0)
    attention = Attention(6, 2).double()
    x = torch.randn(2, 5, 6, dtype=torch.float64)
    query, keys, values = attention.qkv(x).split(6, dim=-1)
    expected = torch.zeros(2, 5, 6, dtype=torch.float64)
    for i, head in itertools.product(range(5), range(2)):
        own = slice(3 * head, 3 * head + 3)
        scores = torch.einsum("be,bje->bj", query[:, i, own], keys[:, : i + 1, own]) / 3**0.5
        expected[:, i, own] = torch.einsum("bj,bje->be", scores.softmax(-1), values[:, : i + 1, own])
    torch.testing.assert_close(attention(x), attention.project(expected), rtol=0, atol=1e-12)


def test_the_cache_is_allocated_once() -> None:
    prior = build(GPT.tiny())
    state = prior.start(Context(2))
    before = [cache.keys.data_ptr() for cache in state.caches]
    with torch.no_grad():
        prior.step(state, None)
        prior.step(state, torch.zeros(2, dtype=torch.int64))
    assert [cache.keys.data_ptr() for cache in state.caches] == before
    assert all(cache.keys.shape[2] == FINE.length for cache in state.caches)


def test_dropout_acts_in_training_only() -> None:
    prior = build(GPT.Config(layers=1, dim=8, heads=2, dropout=0.5))
    codes = torch.zeros(1, 3, 4, dtype=torch.int64)
    assert torch.equal(prior.logits(codes, Context(1)), prior.logits(codes, Context(1)))
    prior.train()
    assert not torch.equal(prior.logits(codes, Context(1)), prior.logits(codes, Context(1)))
