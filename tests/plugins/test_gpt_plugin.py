"""What is particular to GPT: where context enters, its initial weights, its optimiser groups, its cache."""

import itertools

import pytest
import torch
from torch import Generator, Tensor, nn

from dvgen.errors import ConfigError
from dvgen.interfaces.codes import MASKED, Level
from dvgen.interfaces.context import Context, ContextShape
from dvgen_gpt.block import STEP, Attention
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


LINE = Level("line", (5,), 4)
LONG = Level("long", (3, 23), 5)


def test_steps_over_every_room_of_the_cache_equal_one_pass() -> None:
    """Codes before and after the cache was laid out anew, the prefix among them, stay what they were."""
    assert LONG.length > 2 * STEP
    prior, codes = build(GPT.tiny(), (LINE,), level=LONG), some_codes(2)
    context = Context(2, (torch.tensor([[3, 0, MASKED, 2, 1], [0, 0, 3, 1, 2]]),))
    with torch.no_grad():
        whole, state, previous = prior.logits(codes.unflatten(1, LONG.grid), context).flatten(1, 2), prior.start(context), None
        for position in range(LONG.length):
            torch.testing.assert_close(prior.step(state, previous), whole[:, position], rtol=0, atol=1e-10)
            previous = codes[:, position]


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("coarser", [(), (LINE,), (LINE, Level("top", (1, 2), 4))], ids=["alone", "prefix", "both"])
@pytest.mark.parametrize(("first", "count"), [(0, 1), (0, 7), (0, 68), (9, 1), (9, 2), (9, 45), (30, 2), (31, 1), (5, 0)])
def test_skipping_positions_is_stepping_over_them(first: int, count: int, coarser: tuple[Level, ...], batch: int) -> None:
    """What a step tells after n positions in one pass is what it tells after n steps, and the state goes on from there."""
    prior, codes = build(GPT.tiny(), coarser, 3, LONG), some_codes(batch)
    generator = Generator().manual_seed(1)
    above = tuple(torch.randint(0, 4, (batch, *level.grid), generator=generator) for level in coarser)
    context = Context(batch, above, torch.randint(-1, 3, (batch,), generator=generator))
    with torch.no_grad():
        stepped, skipped, previous = prior.start(context), prior.start(context), None
        for position in range(first + count):
            if position == first:
                prior.skip(skipped, previous, codes[:, first : first + count])
            if position < first:
                prior.step(skipped, previous)
            prior.step(stepped, previous)
            previous = codes[:, position]
        if count == 0:
            prior.skip(skipped, previous, codes[:, :0])
        for position in range(first + count, min(first + count + 3, LONG.length)):
            torch.testing.assert_close(prior.step(skipped, previous), prior.step(stepped, previous), rtol=0, atol=1e-10)
            previous = codes[:, position]


def some_codes(batch: int) -> Tensor:
    return torch.randint(0, LONG.num_codes, (batch, LONG.length), generator=Generator().manual_seed(0))


def test_the_cache_is_allocated_once_and_used_without_gaps() -> None:
    prior = build(GPT.tiny(), level=LONG)
    state = prior.start(Context(2))
    before = [cache.storage.data_ptr() for cache in state.caches]
    with torch.no_grad():
        prior.step(state, None)
        assert all(cache.pairs.shape[-2] == STEP for cache in state.caches)
        prior.skip(state, torch.zeros(2, dtype=torch.int64), some_codes(2)[:, : LONG.length - 1])
    assert [cache.pairs.data_ptr() for cache in state.caches] == before
    for cache in state.caches:
        assert cache.pairs.is_contiguous()
        assert cache.pairs.shape == (2, 2, 2, LONG.length, 4)
        assert cache.pairs.numel() == cache.storage.numel()


def test_dropout_acts_in_training_only() -> None:
    prior = build(GPT.Config(layers=1, dim=8, heads=2, dropout=0.5))
    codes = torch.zeros(1, 3, 4, dtype=torch.int64)
    assert torch.equal(prior.logits(codes, Context(1)), prior.logits(codes, Context(1)))
    prior.train()
    assert not torch.equal(prior.logits(codes, Context(1)), prior.logits(codes, Context(1)))
