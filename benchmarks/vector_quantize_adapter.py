"""Quantizers of vector-quantize-pytorch behind dvgen's interface, so that the same contract can be run over them.

What is translated: maps (b, d, *grid) to their rows (b, n, d) and back, the number of values returned, the dtype of indices,
names of losses, `mask`, and the way to decode. What only needs counting is counted here: `stats`, and in `pending` how many
features chose a code and their sums. Errors of theirs in `decode` are raised as one of dvgen's. Nothing else is added or
hidden: values, gradients, state and randomness are theirs.

State of theirs moves in forward. `update` therefore does nothing, or calls their `update_ema` where `manual_ema_update` is set.
`held` passes their `freeze_codebook=True`, by which a law that failed is told from one that asks only for another design.

Shapes: b batch, d width, *grid positions, n positions of a map, k codes.
"""

from collections.abc import Callable
from typing import Any, Self

import torch
import vector_quantize_pytorch
from attrs import Factory, frozen
from torch import Tensor, nn

from dvgen.blocks.code_statistics import code_statistics
from dvgen.blocks.rows import Rows
from dvgen.errors import ShapeError
from dvgen.interfaces.codes import Codes, Level
from dvgen.interfaces.quantizer import Quantized, Quantizer, Traits

CODES = 4
"""As in the tiny configs of dvgen."""

DIM = 3

NEAREST = Traits(estimator="straight-through", nearest=True, idempotent=True, table=True)


class NotOfferedError(Exception):
    """The library has no counterpart for what a law asks: neither kept nor broken."""


@frozen(kw_only=True)
class Theirs:
    """A class of theirs, how it is configured, and what its documentation says it is.

    weight: their argument for the weight of the commitment, if it has one, and `commitment` its value. masks: whether forward
    takes a mask. updates: whether the codebook follows the features, in forward unless `manual`.
    """

    name: str
    arguments: dict[str, Any] = Factory(dict)
    traits: Traits = NEAREST
    levels: tuple[int, ...] = (CODES,)
    dim: int = DIM
    weight: str | None = None
    commitment: float = 0.0
    masks: bool = True
    updates: bool = False
    manual: bool = False
    held: bool = False
    deterministic: bool = True


class Adapted(Quantizer):
    """One module of theirs. Its config is `Theirs`."""

    Config = Theirs

    def __init__(self, config: Theirs) -> None:
        super().__init__()
        self.config = config
        self.dim, self.deterministic = config.dim, config.deterministic
        weight = {config.weight: config.commitment} if config.weight else {}
        self.module = getattr(vector_quantize_pytorch, config.name)(**config.arguments, **weight)

    @property
    def traits(self) -> Traits:
        """What their documentation says."""
        return self.config.traits

    @property
    def codebook(self) -> Tensor:
        """Their table (k, d)."""
        return self.module.codebook

    def levels(self, grid: tuple[int, ...]) -> tuple[Level, ...]:
        """A level a quantizer of theirs."""
        return tuple(Level(f"codes_{i}", grid, size) for i, size in enumerate(self.config.levels))

    def forward(self, z: Tensor, mask: Tensor | None = None) -> Quantized:
        """Their forward pass."""
        flat = None if mask is None else mask.reshape(z.shape[0], -1)
        vectors, indices, losses, extra = self._called(_rows(z), flat)
        codes = tuple(self._codes(code, z, flat) for code in self._split(indices))
        stats, pending = self._counted(z, mask, codes, vectors)
        return Quantized(_map(vectors, z.shape[2:]), codes, losses, stats | extra, pending)

    @torch.no_grad()
    def encode(self, z: Tensor, mask: Tensor | None = None) -> Codes:
        """Their forward pass in evaluation: none has a method for it."""
        flat = None if mask is None else mask.reshape(z.shape[0], -1)
        if not self.config.updates:  # the mode changes no code
            return tuple(self._codes(code, z, flat) for code in self._split(self._called(_rows(z), flat)[1]))
        mode = self.module.training
        self.module.eval()
        indices = self._called(_rows(z), flat)[1]
        self.module.train(mode)
        return tuple(self._codes(code, z, flat) for code in self._split(indices))

    def decode(self, codes: Codes) -> Tensor:
        """Their decoding. Levels left out are -1, as their quantizer dropout has it."""
        flat = [code.flatten(1) for code in codes]
        try:
            if self.config.name == "ResidualVQ":
                left_out = [torch.full_like(flat[0], -1)] * (len(self.config.levels) - len(flat))
                vectors = self.module.get_output_from_indices(torch.stack([*flat, *left_out], dim=-1))
            elif self.config.name == "VectorQuantize":
                vectors = self.module.get_output_from_indices(flat[0])
            else:
                vectors = self.module.indices_to_codes(flat[0])
        except Exception as error:
            raise ShapeError(f"{type(error).__name__}: {error}") from error
        return _map(vectors, codes[0].shape[1:])

    def _called(self, rows: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor, dict[str, Tensor], dict[str, Tensor]]:
        """Vectors (b, n, d), indices (b, n) or (b, n, levels), losses, and what is worth telling beside them."""
        if mask is not None and not self.config.masks:
            raise NotOfferedError("forward takes no mask")
        options: dict[str, Any] = {} if mask is None else {"mask": mask}
        if self.config.held:
            options["freeze_codebook"] = True
        return CALLS[self.config.name](self.module, rows, options)

    def _split(self, indices: Tensor) -> tuple[Tensor, ...]:
        return indices.unbind(dim=-1) if self.config.name == "ResidualVQ" else (indices,)

    def _codes(self, indices: Tensor, z: Tensor, mask: Tensor | None) -> Tensor:
        code = indices.long()
        if mask is not None and self.config.name == "LFQ":  # its mask is one of the losses alone
            code = torch.where(mask, code, -1)
        return code.reshape(z.shape[0], *z.shape[2:])

    def _counted(
        self, z: Tensor, mask: Tensor | None, codes: Codes, vectors: Tensor
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        flat = None if mask is None else mask.reshape(-1)
        values = _rows(z.detach()).reshape(-1, self.dim).to(torch.promote_types(z.dtype, torch.float32))
        values = values if flat is None else torch.where(flat.unsqueeze(1), values, 0)
        rows = Rows(values, (z.shape[0], *z.shape[2:]), flat, z.dtype, values.new_ones(()))
        known = [code.reshape(-1).clamp(0, size - 1) for code, size in zip(codes, self.config.levels, strict=True)]
        own = vectors.detach().reshape(-1, self.dim).to(values.dtype)
        stats = code_statistics(rows, known, self.config.levels, own)
        if not self.config.updates or len(known) > 1:
            return stats, {}
        counts = rows.count_codes(known[0], CODES).to(values.dtype)
        return stats, {"counts": counts, "sums": rows.sum_by_code(known[0], CODES, values)}

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """What a module does: dvgen's own rule, which keeps float32, is not theirs."""
        return nn.Module._apply(self, fn, recurse)


class AdaptedFromData(Adapted):
    """One with `kmeans_init`, which the first forward pass uses; in evaluation, so that nothing else moves."""

    @torch.no_grad()
    def initialise(self, z: Tensor) -> None:
        """Their first forward pass."""
        mode = self.module.training
        self.module.eval()(z.unsqueeze(0))
        self.module.train(mode)


class AdaptedMoving(Adapted):
    """One whose codebook follows the features."""

    def update(self, pending: dict[str, Tensor]) -> None:
        """Nothing, since forward has done it, or their `update_ema`."""
        if self.config.manual:
            self.module._codebook.update_ema()


class AdaptedMovingFromData(AdaptedFromData, AdaptedMoving):
    """Both."""


def adapted(config: Theirs) -> Quantizer:
    """The adapter for this config."""
    kinds = {(False, False): Adapted, (True, False): AdaptedFromData, (False, True): AdaptedMoving}
    return kinds.get((bool(config.arguments.get("kmeans_init")), config.updates), AdaptedMovingFromData)(config)


def _vector_quantize(module: nn.Module, rows: Tensor, options: dict[str, Any]) -> Any:
    vectors, indices, loss = module(rows, **options)
    return vectors, indices, {"commitment": loss}, {}


def _residual(module: nn.Module, rows: Tensor, options: dict[str, Any]) -> Any:
    vectors, indices, losses = module(rows, **options)
    return vectors, indices, {f"{i}.commitment": loss for i, loss in enumerate(losses.unbind(dim=-1))}, {}


def _sim_vq(module: nn.Module, rows: Tensor, options: dict[str, Any]) -> Any:
    vectors, indices, loss = module(rows)
    return vectors, indices, {"sum": loss}, {}


def _fsq(module: nn.Module, rows: Tensor, options: dict[str, Any]) -> Any:
    vectors, indices = module(rows)
    return vectors, indices, {}, {}


def _lfq(module: Any, rows: Tensor, options: dict[str, Any]) -> Any:
    (vectors, indices, _), parts = module(rows, return_loss_breakdown=True, **options)
    weight = module.entropy_loss_weight
    losses = {
        "commitment": parts.commitment * module.commitment_loss_weight,
        "entropy_sample": parts.per_sample_entropy * weight,
        "entropy_batch": -module.diversity_gamma * parts.batch_entropy * weight,
    }
    stats = {"entropy_sample": parts.per_sample_entropy.detach(), "entropy_batch": parts.batch_entropy.detach()}
    if "mask" in options:  # as above: what is padding is not theirs to say
        vectors = torch.where(options["mask"].unsqueeze(-1), vectors, 0)
    return vectors, indices, losses, stats


CALLS: dict[str, Any] = {
    "VectorQuantize": _vector_quantize, "ResidualVQ": _residual, "SimVQ": _sim_vq, "FSQ": _fsq, "LFQ": _lfq,
}  # fmt: skip
"""How each class of theirs is called, and what it returns."""


def _rows(z: Tensor) -> Tensor:
    return z.flatten(2).transpose(1, 2)


def _map(rows: Tensor, grid: tuple[int, ...]) -> Tensor:
    return rows.transpose(1, 2).unflatten(2, tuple(grid))
