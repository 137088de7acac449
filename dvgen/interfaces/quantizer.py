"""The quantizer: features to vectors of a finite set, and the codes that name them."""

from abc import ABC, abstractmethod
from typing import NamedTuple

from torch import Tensor

from dvgen.interfaces.codes import Codes, Level
from dvgen.interfaces.model import Model


class Quantized(NamedTuple):
    """What `Quantizer.forward` returns.

    vectors: (b, dim, *grid), the quantized features; their gradient is what the estimator says (straight-through: the
        identity). Masked positions hold zero.
    codes: this quantizer's levels, int64 (b, *grid) each; MASKED where masked.
    losses: named scalars, already weighted by the quantizer's own config; present in evaluation too.
    stats: detached tensors: `counts_<i>` (num_codes,) a level i, and whatever else is worth logging (scalars).
    pending: detached float statistics for `update`, of the same shapes on every call, additive over micro-batches and ranks.
    """

    vectors: Tensor
    codes: Codes
    losses: dict[str, Tensor]
    stats: dict[str, Tensor]
    pending: dict[str, Tensor]


class Quantizer(Model, ABC):
    """Turns one map of features (b, dim, *grid) into codes and back; `__init__(config)`.

    dim: width of the features it takes, declared by the quantizer and known before encoder and decoder are built.
    deterministic: False when training samples codes (Gumbel); `encode` is deterministic for all.

    `forward` changes no state, in training as in evaluation. State moves in `update`, which the training loop calls
    after a finite optimiser step with the sum of `pending` over micro-batches and ranks. So a NaN step moves nothing,
    micro-batches equal one batch, recomputation under activation checkpointing is harmless, and
    `decode(codes) == vectors` holds bit for bit while training (for non-deterministic quantizers: in evaluation).
    """

    dim: int
    deterministic: bool = True

    @abstractmethod
    def levels(self, grid: tuple[int, ...]) -> tuple[Level, ...]:
        """The levels that one map of this grid becomes."""

    @abstractmethod
    def forward(self, z: Tensor, mask: Tensor | None = None) -> Quantized:
        """Quantize features z (b, dim, *grid). mask: bool (b, *grid), False where a position is padding.

        Raises ShapeError for a wrong width and NonFiniteError for a valid value that is NaN or infinite.
        """

    @abstractmethod
    def encode(self, z: Tensor, mask: Tensor | None = None) -> Codes:
        """The codes of features z (b, dim, *grid): pure and deterministic."""

    @abstractmethod
    def decode(self, codes: Codes) -> Tensor:
        """The vectors (b, dim, *grid) that codes name; accepts a prefix of the levels. Pure."""

    def update(self, pending: dict[str, Tensor]) -> None:
        """The codebook's own step (moving averages, revival), from summed `pending`. Default: nothing."""

    def initialise(self, z: Tensor) -> None:
        """Set the codebook from features z (n, dim) of real data, once, before step 0. Default: nothing.

        Deterministic given z and torch's global random state, which the training loop has seeded.
        """

    def schedule(self, step: int) -> None:
        """Set temperatures and the like, into buffers, for the step about to be taken. Default: nothing."""
