"""The transformer block that priors share, and the coarser codes that stand before its sequence, by their formulas."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dvgen.blocks.sequence_context import embed_prefix, prefix_tables
from dvgen.blocks.transformer import WIDENED, Attention, Block, attend
from dvgen.interfaces.codes import MASKED, Level
from dvgen.interfaces.context import Context, ContextShape
from dvgen_gpt.prior import GPT
from dvgen_masked.prior import Masked

HEADS, WIDTH = 2, 3


def block(dropout: float = 0.0, *, causal: bool = False) -> Block:
    """A block in float64, weights of a size that makes every part matter."""
    torch.manual_seed(0)
    made = Block(Attention(HEADS * WIDTH, HEADS, causal=causal), dropout).double()
    for parameter in made.parameters():
        nn.init.normal_(parameter, std=0.5)
    return made


def some_input() -> Tensor:
    return torch.randn(2, 5, HEADS * WIDTH, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def normed(x: Tensor, norm: nn.LayerNorm) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt() * norm.weight + norm.bias


def attended(x: Tensor, attention: Attention, *, causal: bool) -> Tensor:
    """Head by head: softmax of q k^T / sqrt(width), over the places before and its own where causal."""
    query, keys, values = (x @ attention.qkv.weight.T + attention.qkv.bias).split(HEADS * WIDTH, dim=-1)
    hidden = torch.ones(5, 5).triu(1).bool() if causal else torch.zeros(5, 5).bool()
    heads = []
    for i in range(HEADS):
        q, k, v = (part[..., i * WIDTH : (i + 1) * WIDTH] for part in (query, keys, values))
        heads.append((q @ k.mT / WIDTH**0.5).masked_fill(hidden, -torch.inf).softmax(-1) @ v)
    return torch.cat(heads, dim=-1) @ attention.project.weight.T + attention.project.bias


def widened(x: Tensor, made: Block) -> Tensor:
    """Linear, x Phi(x) with the distribution function of the normal distribution, linear."""
    inner = normed(x, made.mlp_norm) @ made.expand.weight.T + made.expand.bias
    inner = inner * (1 + torch.erf(inner / 2**0.5)) / 2
    return inner @ made.contract.weight.T + made.contract.bias


@pytest.mark.parametrize("causal", [False, True])
def test_a_block_is_its_formula(causal: bool) -> None:
    """x + attention(norm(x)), then x + mlp(norm(x)), with GELU."""
    made, x = block(causal=causal), some_input()
    middle = x + attended(normed(x, made.attention_norm), made.attention, causal=causal)
    torch.testing.assert_close(made(x), middle + widened(middle, made), rtol=0, atol=1e-11)


@pytest.mark.parametrize("length", [7, WIDENED + 1])
@pytest.mark.parametrize("causal", [False, True])
def test_attention_in_bfloat16_is_the_formula_of_its_inputs_and_so_is_its_gradient(causal: bool, length: int) -> None:
    """To the rounding of bfloat16, whichever precision it is computed in; autocast, where it is trained, changes neither."""
    torch.manual_seed(0)
    parts = [torch.randn(1, 2, length, 8).bfloat16().requires_grad_() for _ in range(3)]
    with torch.autocast("cpu", torch.bfloat16):
        found = attend(*parts, causal=causal)
    query, keys, values = exact = [part.detach().double().requires_grad_() for part in parts]
    hidden = torch.ones(length, length).triu(1).bool() & causal
    expected = (query @ keys.mT / 8**0.5).masked_fill(hidden, -torch.inf).softmax(-1) @ values
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=0.02)
    weights = torch.randn(expected.shape)
    gradients = (torch.autograd.grad(out, own, weights.to(out)) for out, own in ((found, parts), (expected, exact)))
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=0, atol=0.1)


@pytest.mark.parametrize("half", ["attention", "mlp"])
def test_what_a_half_adds_is_dropped_out_or_enlarged(half: str) -> None:
    """In training each number is 0 or its value over 1 - p, for each half by itself; in evaluation it is its value."""
    made, x = block(0.25), some_input()
    silent = made.contract if half == "attention" else made.attention.project
    with torch.no_grad():
        silent.weight.zero_()
        silent.bias.zero_()
        added = made.eval()(x) - x
        found = made.train()(x) - x
    dropped = found.abs() < 1e-12
    assert 0 < int(dropped.sum()) < dropped.numel()
    torch.testing.assert_close(found[~dropped], added[~dropped] / 0.75)


def test_a_prefix_is_the_embedding_of_each_code_and_of_its_place() -> None:
    """One level after the other, MASKED with a row of its own; so the order of codes can be told."""
    torch.manual_seed(0)
    codes, positions = prefix_tables([Level("top", (3,), 4), Level("line", (1, 2), 5)], 6)
    top, line = torch.tensor([[2, MASKED, 0], [0, MASKED, 2]]), torch.tensor([[[4, 1]], [[4, 1]]])
    prefix = embed_prefix((codes, positions), (top, line), torch.zeros(2, 0, 6))
    assert prefix.shape == (2, 5, 6)
    for place, code in enumerate([3, 0, 1]):
        torch.testing.assert_close(prefix[0, place], codes[0].weight[code] + positions[0].weight[place])
    for place, code in enumerate([5, 2]):
        torch.testing.assert_close(prefix[0, 3 + place], codes[1].weight[code] + positions[1].weight[place])
    assert (prefix[0, :3].sum(0) - prefix[1, :3].sum(0)).abs().max() < 1e-6  # the same rows
    assert not torch.equal(prefix[0, :3].sort(0).values, prefix[1, :3].sort(0).values)


def prior(cls: Any, coarser: tuple[Level, ...] = (), dropout: float = 0.0) -> Any:
    """A prior of one block over 2x2 codes of 3, in float64."""
    torch.manual_seed(0)
    config = cls.Config(layers=1, dim=8, heads=2, dropout=dropout)
    made = cls(config, levels=(Level("level", (2, 2), 3),), context=ContextShape(coarser)).double().eval()
    for parameter in made.parameters():
        nn.init.normal_(parameter, std=0.5)
    return made


@pytest.mark.parametrize("where", ["input", "blocks"])
@pytest.mark.parametrize("cls", [GPT, Masked])
def test_a_prior_drops_out_its_input_and_in_its_blocks_in_training_only(cls: Any, where: str) -> None:
    made, codes = prior(cls, dropout=0.5), torch.zeros(1, 2, 2, dtype=torch.int64)
    if where == "input":
        made.blocks = nn.ModuleList()
    else:
        made.dropout = nn.Identity()
    assert torch.equal(made.logits(codes, Context(1)), made.logits(codes, Context(1)))
    made.train()
    assert not torch.equal(made.logits(codes, Context(1)), made.logits(codes, Context(1)))


@pytest.mark.parametrize("cls", [GPT, Masked])
def test_the_order_of_the_codes_before_the_sequence_matters(cls: Any) -> None:
    """One block: without positions it would see the same set of vectors, in whatever order."""
    made, codes = prior(cls, (Level("line", (5,), 4),)), torch.zeros(1, 2, 2, dtype=torch.int64)
    line = torch.tensor([[3, 0, 1, 2, 0]])
    with torch.no_grad():
        one, other = (made.logits(codes, Context(1, (order,))) for order in (line, line[:, [2, 1, 0, 3, 4]]))
    assert (one - other).abs().max() > 1e-3
