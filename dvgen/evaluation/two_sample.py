"""The classifier two-sample test on code maps: can a small network tell samples from held-out maps?"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from attrs import evolve
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, relu

from dvgen.interfaces.codes import Level
from dvgen.seeding import fold

CRITIC = "conv 2 x 32:v1"
"""Names the recipe below."""
STEPS = 300
BATCH = 64
POSITIONS = 2**13
"""In one batch at most: larger maps come in smaller batches, so that a step costs the same."""
WIDTH = 32
LARGE = 2**13
"""Codes of a level from which on those that no training map holds share one: a row of their own they would never learn, and
2^20 rows would take the optimiser minutes."""
LEARNING_RATE = 3e-3
WEIGHT_DECAY = 0.1


def recipe(level: Level) -> str:
    """The name of the network and its training for maps of a level, in a measurement's key."""
    return CRITIC if level.num_codes <= LARGE else f"{CRITIC}, one row for codes of no training map"


class TwoSample(NamedTuple):
    """How many of n maps, half of them samples, the classifier told right."""

    right: int
    n: int


def two_sample_test(level: Level, samples: Tensor, held_out: Tensor, pause: Callable[[], None]) -> TwoSample:
    """A network trained on the first half of each set (n, *grid) of code maps, and counted on the second.

    Lopez-Paz and Oquab 2017 (arXiv 1610.06545), section 3: for one distribution the share it tells right is 1/2 in
    expectation. Of the longer set the first rows are used. A function of the maps alone; torch's global random state is
    neither read nor moved. `pause` is called before every step, and may raise to stop.
    """
    n = min(len(samples), len(held_out))
    half = n // 2
    train, test = (torch.cat([samples[part], held_out[part]]).cpu() for part in (slice(half), slice(half, n)))
    if level.num_codes > LARGE:
        level, train, test = _renumbered(level, train, test)
    generator = torch.Generator().manual_seed(fold(0, "two-sample test"))
    critic = _trained(level, train, _truth(train), generator, pause)
    with torch.no_grad():
        logits = torch.cat([critic(maps) for maps in test.split(_batch(level))])
    return TwoSample(int(((logits > 0) == _truth(test).bool()).sum()), len(test))


class Critic(nn.Module):
    """Code maps (b, *grid) to a logit (b,), above 0 for a sample: embedded codes and places, two convolutions, a mean."""

    def __init__(self, level: Level) -> None:
        super().__init__()
        convolution = nn.Conv1d if len(level.grid) == 1 else nn.Conv2d
        self.codes = nn.Embedding(level.num_codes, WIDTH)
        self.places = nn.Parameter(torch.zeros(WIDTH, *level.grid))
        self.first = convolution(WIDTH, WIDTH, 3, padding=1)
        self.second = convolution(WIDTH, WIDTH, 3, padding=1)
        self.last = nn.Linear(WIDTH, 1)

    def forward(self, maps: Tensor) -> Tensor:
        x = self.codes(maps).movedim(-1, 1) + self.places
        x = relu(self.second(relu(self.first(x))))
        return self.last(x.flatten(2).mean(dim=2)).squeeze(1)


@torch.enable_grad()
def _trained(level: Level, maps: Tensor, truth: Tensor, generator: torch.Generator, pause: Callable[[], None]) -> Critic:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(generator.initial_seed())
        critic = Critic(level)
    optimiser = torch.optim.AdamW(critic.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    for _ in range(STEPS):
        pause()
        batch = torch.randint(len(maps), (_batch(level),), generator=generator)
        optimiser.zero_grad()
        binary_cross_entropy_with_logits(critic(maps[batch]), truth[batch]).backward()
        optimiser.step()
    return critic


def _renumbered(level: Level, train: Tensor, test: Tensor) -> tuple[Level, Tensor, Tensor]:
    """The codes of the training maps numbered from 0, and one number more for all others."""
    known = train.unique()

    def numbers(maps: Tensor) -> Tensor:
        place = torch.searchsorted(known, maps).clamp(max=len(known) - 1)
        return torch.where(known[place] == maps, place, len(known))

    return evolve(level, num_codes=len(known) + 1), numbers(train), numbers(test)


def _truth(maps: Tensor) -> Tensor:
    """1 for the first half, the samples, and 0 for the others."""
    return (torch.arange(len(maps)) < len(maps) // 2).float()


def _batch(level: Level) -> int:
    return max(1, min(BATCH, POSITIONS // level.length))
