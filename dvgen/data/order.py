"""The order in which training sees its data: a pure function of (seed, epoch, step), on every machine."""

import numpy as np
import torch
from torch import Tensor

from dvgen.errors import ConfigError
from dvgen.seeding import fold


def permutation(n: int, seed: int) -> Tensor:
    """A random permutation of 0..n-1, (n,) int64.

    It sorts the raw output of Philox, which numpy promises never to change (NEP 19); it makes no such promise for its own
    permutations, nor does torch.
    """
    return torch.from_numpy(np.argsort(np.random.Philox(key=seed).random_raw(n), kind="stable"))


class Order:
    """Batches of indices 0..n-1: one permutation an epoch, one after the other, cut into global batches of `batch`.

    A batch may lie across epochs, or hold several; nothing is dropped. Raises ConfigError when there is nothing to order.
    """

    def __init__(self, n: int, batch: int, seed: int) -> None:
        if n < 1 or batch < 1:
            raise ConfigError(f"an order needs at least one item and one item a batch, got {n} and {batch}")
        self.n = n
        self.size = batch
        self.seed = seed
        self._latest: tuple[int, Tensor] | None = None

    def batch(self, step: int, rank: int = 0, world: int = 1) -> Tensor:
        """What rank `rank` of `world` sees at a step (from 0): every world-th index of the global batch, from rank on, int64.

        A function of the arguments alone: steps may be asked for in any order.
        """
        positions = torch.arange(step * self.size, (step + 1) * self.size)[rank::world]
        epochs = positions // self.n
        shown = [self._epoch(epoch)[positions[epochs == epoch] % self.n] for epoch in epochs.unique().tolist()]
        return torch.cat(shown) if shown else positions

    def _epoch(self, epoch: int) -> Tensor:
        """The permutation of an epoch; the latest is kept, since the next step mostly needs it again."""
        if self._latest is None or self._latest[0] != epoch:
            self._latest = (epoch, permutation(self.n, fold(self.seed, "order", epoch)))
        return self._latest[1]
