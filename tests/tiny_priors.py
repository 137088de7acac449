"""Tiny priors of every registered kind, and codes and contexts for them."""

import itertools

import pytest
import torch
from torch import Generator, Tensor

from dvgen.discovery import discover
from dvgen.errors import ConfigError
from dvgen.interfaces.codes import Level
from dvgen.interfaces.context import Context, ContextShape
from dvgen.interfaces.prior import AutoregressivePrior, Prior

CODES, COARSE_CODES, CLASSES = 3, 4, 3
GRIDS = [(2, 2), (1, 4), (5,)]
LARGER = [(4, 4), (3, 5), (6,), (1, 1)]
COARSER = {(2, 2): (1, 2), (1, 4): (1, 4), (5,): (2,), (4, 4): (2, 2), (3, 5): (2, 2), (6,): (3,), (1, 1): (1, 1)}


def build(name: str, grid: tuple[int, ...], *, conditional: bool, seed: int = 0, num_codes: int = CODES) -> Prior:
    """A tiny prior in float64 with weights so large that every path matters; conditional: with labels and a coarser level."""
    cls = discover().registry.load("prior", name)
    coarser = (Level("coarser", COARSER[grid], COARSE_CODES),) if conditional else ()
    torch.manual_seed(seed)
    shape = ContextShape(coarser, CLASSES if conditional else 0)
    prior: Prior = cls(cls.tiny(), levels=(Level("level", grid, num_codes),), context=shape).double().eval()
    with torch.no_grad():
        for parameter in prior.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.4)
    return prior


def _conditional(name: str) -> bool:
    """Whether a prior can be conditioned; those that cannot, such as one that is a known source, have the contract's tests."""
    try:
        build(name, GRIDS[0], conditional=True)
    except ConfigError:
        return False
    return True


PRIORS = list(filter(_conditional, discover().registry.names("prior")))


def contexts(prior: Prior, batch: int, seed: int = 0) -> Context:
    """A random context for each of `batch` samples."""
    generator = Generator().manual_seed(seed)
    shape: ContextShape = prior.context  # type: ignore[assignment]
    coarser = tuple(torch.randint(0, c.num_codes, (batch, *c.grid), generator=generator) for c in shape.coarser)
    labels = torch.randint(0, shape.num_classes, (batch,), generator=generator) if shape.num_classes else None
    return Context(batch, coarser, labels)


def repeated(context: Context, batch: int) -> Context:
    """The first sample's context, `batch` times."""
    coarser = tuple(code[:1].expand(batch, *code.shape[1:]) for code in context.coarser)
    return Context(batch, coarser, None if context.labels is None else context.labels[:1].expand(batch))


def some_codes(prior: Prior, batch: int, seed: int = 0) -> Tensor:
    """Random codes of the prior's level."""
    level = prior.levels[0]
    return torch.randint(0, level.num_codes, (batch, *level.grid), generator=Generator().manual_seed(seed))


def every_code(level: Level) -> Tensor:
    """All code maps of a level."""
    return torch.tensor(list(itertools.product(range(level.num_codes), repeat=level.length))).unflatten(1, level.grid)


def generators(count: int, first: int = 0) -> list[Generator]:
    """One generator a sample."""
    return [Generator().manual_seed(seed) for seed in range(first, first + count)]


def log_probability(prior: Prior, codes: Tensor, context: Context) -> Tensor:
    """Log-probability of each map, (b,)."""
    with torch.no_grad():
        return prior((codes,), context)[0].flatten(1).sum(dim=1)


def autoregressive(prior: Prior) -> AutoregressivePrior:
    """The prior, or skip: the test is about the order of codes."""
    if not isinstance(prior, AutoregressivePrior):
        pytest.skip("not autoregressive")
    return prior
