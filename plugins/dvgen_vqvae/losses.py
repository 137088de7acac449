"""Reconstruction losses that compare signals element by element."""

from typing import final

from attrs import frozen
from torch import Tensor
from torch.nn import functional as F

from dvgen.errors import ShapeError
from dvgen.interfaces.loss import Loss


def _check_shapes(reconstructed: Tensor, signals: Tensor) -> None:
    if reconstructed.shape != signals.shape:  # broadcasting would give a number all the same, and a wrong one
        raise ShapeError(f"loss: signals have shape {tuple(signals.shape)}, their reconstructions {tuple(reconstructed.shape)}")


@final
class MSELoss(Loss):
    """The mean of squared differences: minus the log-likelihood of a Gaussian of fixed variance, up to a constant and a factor.

    VQ-VAE (van den Oord et al., 2017), equation 3, term 1.
    """

    @frozen(kw_only=True)
    class Config:
        """Nothing to set."""

    def __init__(self, config: Config) -> None:
        super().__init__()

    def forward(self, reconstructed: Tensor, signals: Tensor) -> Tensor:
        """A scalar from (b, c, *size). Raises ShapeError when the shapes differ."""
        _check_shapes(reconstructed, signals)
        return F.mse_loss(reconstructed, signals)


@final
class L1Loss(Loss):
    """The mean of absolute differences: the Laplace likelihood; the pixel loss of VQGAN (Esser et al., 2021)."""

    @frozen(kw_only=True)
    class Config:
        """Nothing to set."""

    def __init__(self, config: Config) -> None:
        super().__init__()

    def forward(self, reconstructed: Tensor, signals: Tensor) -> Tensor:
        """A scalar from (b, c, *size). Raises ShapeError when the shapes differ."""
        _check_shapes(reconstructed, signals)
        return F.l1_loss(reconstructed, signals)
