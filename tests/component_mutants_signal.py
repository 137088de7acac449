"""Discriminators and losses with one bug each (G1 to G3, L1 to L6, A1 to A3)."""

from typing import Any

import torch
from component_mutants import planted
from contract_toys import (
    ToyAdversarialLoss,
    ToyDiscriminator,
    ToyLoss,
)
from torch import Tensor, nn
from torch.nn import functional as F


@planted("G1 shapes")
class OneLogitWithoutAPlace(ToyDiscriminator):
    def forward(self, signals: Tensor) -> Tensor:
        return super().forward(signals).mean(dim=(2, 3))


@planted("G2 signals_reach_logits")
class IgnoresABorder(ToyDiscriminator):
    def forward(self, signals: Tensor) -> Tensor:
        return super().forward(signals[..., 2:])


@planted("G2 signals_reach_logits")
class ComparesWithTheBatch(ToyDiscriminator):
    def forward(self, signals: Tensor) -> Tensor:
        logits = super().forward(signals)
        return logits - logits.mean(dim=0, keepdim=True)


@planted("G3 constant_signals")
class DividesByTheDeviation(ToyDiscriminator):
    def forward(self, signals: Tensor) -> Tensor:
        return super().forward(signals / signals.std(dim=tuple(range(1, signals.ndim)), keepdim=True))


@planted("L1 values")
class NotZeroWhenEqual(ToyLoss):
    def forward(self, reconstructed: Tensor, signals: Tensor) -> Tensor:
        return super().forward(reconstructed, signals) + 1e-3


@planted("L1 values")
class NotAScalar(ToyLoss):
    def forward(self, reconstructed: Tensor, signals: Tensor) -> Tensor:
        return super().forward(reconstructed, signals).reshape(1)


@planted("L2 gradients")
class RootOfTheError(ToyLoss):
    def forward(self, reconstructed: Tensor, signals: Tensor) -> Tensor:
        return super().forward(reconstructed, signals).sqrt()


@planted("L2 gradients")
class FirstSampleOnly(ToyLoss):
    def forward(self, reconstructed: Tensor, signals: Tensor) -> Tensor:
        return super().forward(reconstructed, torch.cat([signals[:1], reconstructed[1:].detach()]))


@planted("L3 mean_over_batch")
class SumsOverTheBatch(ToyLoss):
    def forward(self, reconstructed: Tensor, signals: Tensor) -> Tensor:
        return super().forward(reconstructed, signals) * len(signals)


@planted("L4 wrong_shapes", "Broken", "RuntimeError")
class Broadcasts(ToyLoss):
    def forward(self, reconstructed: Tensor, signals: Tensor) -> Tensor:
        return self.weight * (reconstructed - signals).square().mean()


@planted("L5 same_in_training")  # the lpips package: dropout before its linear layers
class DropsOutInTraining(ToyLoss):
    def forward(self, reconstructed: Tensor, signals: Tensor) -> Tensor:
        return super().forward(reconstructed, signals) * F.dropout(signals.new_ones(()), 0.5, self.training)


@planted("L6 nothing_to_train")
class TrainsItself(ToyLoss):
    def __init__(self, config: Any) -> None:
        super().__init__(config)
        del self.weight
        self.weight = nn.Parameter(torch.ones(()))


@planted("A1 finite")
class LogarithmOfSigmoid(ToyAdversarialLoss):
    def generator(self, fake: Tensor) -> Tensor:
        return -fake.sigmoid().log().mean()


@planted("A2 discriminator_gradients")
class SwappedSides(ToyAdversarialLoss):
    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        return super().discriminator(fake, real)


@planted("A2 generator_gradients")
class GeneratorFlattersTheDiscriminator(ToyAdversarialLoss):
    def generator(self, fake: Tensor) -> Tensor:
        return super().generator(-fake)


@planted("A3 mean_over_batch")
class SumsOverLogits(ToyAdversarialLoss):
    def generator(self, fake: Tensor) -> Tensor:
        return F.softplus(-fake).sum()
