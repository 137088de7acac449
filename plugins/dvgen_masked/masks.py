"""Which positions a masked prior hides: in training, while it samples, and for its likelihood."""

import math
from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Generator, Tensor

CPU = torch.device("cpu")
SCHEDULES: dict[str, Callable[[Tensor], Tensor]] = {
    "cosine": lambda ratio: torch.cos(math.pi / 2 * ratio),
    "uniform": lambda ratio: 1 - ratio,
}
"""The share that is masked, in (0, 1], of a number that is uniform in [0, 1)."""


class Conditionals(NamedTuple):
    """The mean over fixed orders of ln p(x drawn in that order) is the sum over m masks and their positions of
    weight * ln p(code there | codes that are shown). So it is at most ln of the mean of those probabilities.

    hidden: (m, length) bool. weights: (m, length) float64, 0 at what is shown; at each position they sum to 1 over the masks.
    Both are on the CPU, whatever the default device: they are read while a model is built, also on the meta device.
    """

    hidden: Tensor
    weights: Tensor


def training_masks(observed: Tensor, schedule: str, noise: Generator | None) -> Tensor:
    """A random set of the observed positions (b, length) of each sample to hide, (b, length) bool on the CPU.

    Of n observed positions ceil(schedule(r) * n) are hidden, r uniform in [0, 1): at least one (Chang et al., 2022,
    section 3.1). noise: a generator on the CPU; None uses torch's global state.
    """
    batch, length = observed.shape
    ratio = torch.rand(batch, 1, generator=noise, dtype=torch.float64, device=CPU)
    count = torch.ceil(SCHEDULES[schedule](ratio) * observed.sum(dim=1, keepdim=True))
    order = torch.rand(batch, length, generator=noise, dtype=torch.float64, device=CPU).masked_fill(~observed, 2.0)
    return _ranks(order) < count


def masked_after(length: int, steps: int) -> list[int]:
    """How many of `length` positions are still masked after each step: floor(length * cos(pi / 2 * step / steps)).

    Steps beyond `length` are left out, and every step reveals one position at least, so that `length` steps reveal one each.
    Chang et al. (2022), section 3.2, but for the rounding: down as in their code release, where the paper rounds up.
    """
    steps = min(steps, length)
    left = [length]
    for step in range(1, steps + 1):
        cosine = math.floor(length * math.cos(math.pi / 2 * step / steps))
        left.append(max(steps - step, min(left[-1] - 1, cosine)))
    return left[1:]


def bound_conditionals(length: int, masks: int) -> Conditionals:
    """The conditionals of some orders in at most `masks` evaluations; a pure function: the orders are always the same.

    All orders when the sets of positions are few enough to be all taken; otherwise as many random ones as there are masks for.
    """
    return _all_sets(length) if 2**length - 1 <= masks else _random_orders(length, masks)


def _all_sets(length: int) -> Conditionals:
    """Position i is drawn when exactly the set M (it is in M) is left with probability 1 / (k * C(length, k)), k = |M|."""
    sets, places = torch.arange(1, 2**length, device=CPU), torch.arange(length, device=CPU)
    hidden = (sets.unsqueeze(1) >> places) % 2 == 1
    chances = [1 / (count * math.comb(length, count)) for count in hidden.sum(dim=1).tolist()]
    return Conditionals(hidden, hidden * torch.tensor(chances, dtype=torch.float64, device=CPU).unsqueeze(1))


def _random_orders(length: int, masks: int) -> Conditionals:
    """As many whole orders as there are masks for; with fewer masks than positions, one order revealed in groups.

    The groups grow as those of sampling do: the first codes, drawn from the least knowledge, lose most by independence.
    """
    noise = Generator(device=CPU).manual_seed(0)
    repeats = max(1, masks // length)
    hidden, revealed = [], []
    for _ in range(repeats):
        rank = torch.randperm(length, generator=noise, device=CPU)
        for before, after in pairwise([length, *masked_after(length, masks)]):
            hidden.append(rank >= length - before)
            revealed.append(hidden[-1] & (rank < length - after))
    return Conditionals(torch.stack(hidden), torch.stack(revealed).double() / repeats)


def _ranks(order: Tensor) -> Tensor:
    """The place of each entry among those of its row, the least first."""
    return order.argsort(dim=1).argsort(dim=1)
