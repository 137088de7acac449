"""The defects of tests/test_public_defects.py, each planted in what is otherwise ours."""

from types import SimpleNamespace
from typing import Any

import torch
from attrs import define, frozen
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits as cross_entropy

from dvgen.interfaces.codes import Codes
from dvgen.interfaces.quantizer import Quantized
from dvgen.interfaces.sampling import Sampling
from dvgen.training.adversarial import Game, Move
from dvgen.training.player import Player
from dvgen_ema.quantizer import EMAQuantizer
from dvgen_gumbel.quantizer import GumbelQuantizer
from dvgen_vqvae.quantizer import VQQuantizer


class Legacy(VQQuantizer):
    """Beta on the term that moves the codebook."""

    def forward(self, z: Tensor, mask: Tensor | None = None) -> Quantized:
        quantized, beta = super().forward(z, mask), self.config.commitment
        error = (quantized.vectors.detach() - z).square().mean()
        return quantized._replace(losses={"codebook": beta * quantized.losses["codebook"], "commitment": error})


class Unused(VQQuantizer):
    """An option that is parsed, and nothing more."""

    @frozen(kw_only=True)
    class Config(VQQuantizer.Config):
        codebook_weight: float = 1.0


class ZeroStart(EMAQuantizer):
    """Counts begin at 0, sums at the codebook, and every code is divided by its smoothed count."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.sums.copy_(self.codebook)

    @torch.no_grad()
    def update(self, pending: dict[str, Tensor]) -> None:
        self.counts.lerp_(pending["counts"], 0.01)
        self.sums.lerp_(pending["sums"], 0.01)
        n = self.counts.sum()
        smoothed = (self.counts + 1e-5) / (n + self.num_codes * 1e-5) * n
        self.codebook.copy_(self.sums / smoothed.unsqueeze(1))


class Overwritten(EMAQuantizer):
    """A code that was revived goes back to where its averages are."""

    def _revive(self, counts: Tensor, errors: Tensor, share: Tensor) -> None:
        kept = self.counts.clone(), self.sums.clone()
        super()._revive(counts, errors, share)
        self.counts.copy_(kept[0])
        self.sums.copy_(kept[1])
        self.codebook.copy_(self.sums / self.counts.unsqueeze(1))


class Smoothed(EMAQuantizer):
    """The smoothed counts take the place of the counts."""

    def update(self, pending: dict[str, Tensor]) -> None:
        super().update(pending)
        n = self.counts.sum()
        self.counts.add_(1e-5).mul_(n / (n + self.num_codes * 1e-5))


class Noisy(GumbelQuantizer):
    """Noise in evaluation as in training."""

    def forward(self, z: Tensor, mask: Tensor | None = None) -> Quantized:
        was, self.training = self.training, True
        try:
            return super().forward(z, mask)
        finally:
            self.training = was


class NoDecode(GumbelQuantizer):
    """Decoding calls what nobody wrote."""

    def decode(self, codes: Codes) -> Tensor:
        return self.embed_code(codes)  # type: ignore[operator, return-value]


@define
class Clocked(Player):
    """The schedule steps before the optimiser has: the rate of a step is set when the step is over."""

    share: float = 1.0

    def set_rate(self, share: float) -> None:
        self.share = share

    def step(self, number: int) -> None:
        super().step(number)
        super().set_rate(self.share)


def leaking(self: Game, judge: nn.Module, real: Tensor, fake: Tensor, step: int) -> Move:
    """The discriminator learns from reconstructions with their graph."""
    logits_real, logits_fake = judge(real, fake)
    return Move(self.loss.discriminator(logits_real, logits_fake), {})


def swapped() -> Any:
    """Cross-entropy that takes the target for the logits."""
    ones, zeros = torch.ones_like, torch.zeros_like
    return SimpleNamespace(
        generator=lambda fake: cross_entropy(ones(fake), fake),
        discriminator=lambda real, fake: cross_entropy(ones(real), real) + cross_entropy(zeros(fake), fake),
    )


def top_p_needs_top_k(probabilities: Tensor, sampling: Sampling) -> Tensor:
    """Nothing is left out unless top_k is given."""
    if sampling.top_k is None:
        return probabilities
    raise NotImplementedError
