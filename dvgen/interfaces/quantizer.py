"""The quantizer: features to vectors of a finite set, and the codes that name them."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import NamedTuple, Self

import torch
from attrs import field, frozen
from attrs.validators import in_, optional
from torch import Tensor

from dvgen.interfaces.codes import Codes, Level
from dvgen.interfaces.model import Model

MAX_COUNTED = 2**20
"""The largest number of codes of a level that `stats` counts one by one."""

ESTIMATORS = ("straight-through", "rotation", "softmax", "smooth")
"""How the gradient of the vectors reaches the features.

straight-through: as it is, bit for bit. rotation: turned and scaled as the code stands to the feature (rotation trick).
softmax: through a softmax over all codes. smooth: as it is to a differentiable function of the features (tanh, a
normalisation, a projection), and through that to the features.
"""


COMPOSITIONS = ("residual", "product")
"""residual: vectors of the levels are added, each quantizing what those before leave over. product: each level has channels
of its own."""


@frozen(kw_only=True)
class Traits:
    """What a quantizer is. The contract (`dvgen.contracts`) tests it for that, and for being no more than that.

    estimator: one of ESTIMATORS. nearest: a code names the vector nearest to the feature in the Euclidean norm, the lowest
    code where several are. idempotent: quantizing the vectors gives their codes again. table: the vectors are the rows of
    its attribute `codebook` (num_codes, dim), one level. composition: how the levels of a
    quantizer with several make one vector, one of COMPOSITIONS, or None.
    """

    estimator: str = field(validator=in_(ESTIMATORS))
    nearest: bool = False
    idempotent: bool = False
    table: bool = False
    composition: str | None = field(default=None, validator=optional(in_(COMPOSITIONS)))


class Quantized(NamedTuple):
    """What `Quantizer.forward` returns.

    vectors: (b, dim, *grid), the quantized features, in the dtype of the features; their gradient is what the estimator
        says. Masked positions hold zero.
    codes: this quantizer's levels, int64 (b, *grid) each; MASKED where masked.
    losses: named scalars, already weighted by the quantizer's own config; present in evaluation too.
    stats: detached tensors: `counts_<i>` (num_codes,) for a level i of at most MAX_COUNTED codes, `perplexity_<i>`,
        `quantization_error` (mean square of vector minus feature), `feature_variance`, `feature_spread` (the variance as a
        share of the mean square: 0 when all features are alike), `feature_norm` and `vector_norm` (root mean square lengths),
        `finite` (1, or 0 when a value was NaN or infinite), and whatever else is worth logging.
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
    traits: what it is, for wrappers that ask for something and for the contract that tests it.

    `forward` changes no state, in training as in evaluation. State moves in `update`, which the training loop calls
    after a finite optimiser step with the sum of `pending` over micro-batches and ranks. So a NaN step moves nothing,
    micro-batches equal one batch, recomputation under activation checkpointing is harmless, and
    `decode(codes) == vectors` holds bit for bit while training, in the dtype of the features (for non-deterministic
    quantizers: in evaluation).

    Its floating state is kept at float32 or wider whatever the model around it is cast to: half precision holds neither
    counts above 256 nor codes that lie close together.
    """

    dim: int
    deterministic: bool = True

    @property
    @abstractmethod
    def traits(self) -> Traits:
        """What this quantizer is; a class attribute will do."""

    @abstractmethod
    def levels(self, grid: tuple[int, ...]) -> tuple[Level, ...]:
        """The levels that one map of this grid becomes."""

    @abstractmethod
    def forward(self, z: Tensor, mask: Tensor | None = None) -> Quantized:
        """Quantize features z (b, dim, *grid). mask: bool (b, *grid), False where a position is padding.

        Raises ShapeError for a wrong width and NonFiniteError for a valid value that is NaN or infinite. Compiled code
        cannot raise without waiting for the device: it sets `stats["finite"]` to 0, and the training loop stops.
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

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """What `.to()`, `.half()` and `.bfloat16()` do, except that no tensor becomes narrower than float32."""

        def kept(tensor: Tensor) -> Tensor:
            moved = fn(tensor)
            narrow = moved.is_floating_point() and torch.finfo(moved.dtype).bits < 32 <= torch.finfo(tensor.dtype).bits
            return tensor.to(moved.device) if narrow else moved

        return super()._apply(kept, recurse)
