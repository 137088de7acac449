"""The smallest components that keep the contract of their kind: what bugs are planted in."""

from collections.abc import Sequence
from typing import Any

import attrs
import torch
from attrs import field, frozen
from attrs.validators import ge
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from dvgen.blocks.conditioning import ClassEmbedding, check_context, drop_labels
from dvgen.errors import ConfigError, ShapeError
from dvgen.interfaces.autoencoder import Decoder, Encoder
from dvgen.interfaces.codes import MASKED, Codes, Level
from dvgen.interfaces.context import Context, ContextShape
from dvgen.interfaces.discriminator import Discriminator
from dvgen.interfaces.loss import AdversarialLoss, Loss
from dvgen.interfaces.prior import AutoregressivePrior, Prior, check_batch, evaluating
from dvgen.interfaces.sampling import Sampling, draw


class Wide:
    """A component whose one field is its width."""

    @frozen(kw_only=True)
    class Config:
        """width: of what is hidden."""

        width: int = field(default=5, validator=ge(1))

    @classmethod
    def scaled(cls, config: Any, width: float) -> Any:
        return attrs.evolve(config, width=round(config.width * width))


class ToyEncoder(Wide, Encoder):
    """Images to a quarter and a half of their size; the finer map is conditioned on the coarser vectors."""

    def __init__(self, config: Any, *, channels: int, dims: tuple[int, ...]) -> None:
        super().__init__()
        if len(dims) != 2:
            raise ConfigError(f"encoder: makes 2 maps and takes 2 quantizers, not {len(dims)}")
        self.fine = nn.Conv2d(channels, config.width, kernel_size=2, stride=2)
        self.norm = nn.BatchNorm2d(config.width)
        self.coarse = nn.Conv2d(config.width, dims[0], kernel_size=2, stride=2)
        self.merge = nn.Conv2d(config.width + dims[0], dims[1], kernel_size=1)

    @classmethod
    def maps(cls, config: Any) -> int:
        return 2

    def grids(self, size: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
        if len(size) != 2 or any(side < 4 or side % 4 for side in size):
            raise ConfigError(f"encoder: images of size {size} cannot be divided by 4")
        return tuple(side // 4 for side in size), tuple(side // 2 for side in size)

    def forward(self, signals: Tensor) -> tuple[Tensor, ...]:
        fine = self.norm(self.fine(signals)).tanh()
        return self.coarse(fine), fine

    def condition(self, map: int, features: tuple[Tensor, ...], coarser: tuple[Tensor, ...]) -> Tensor:
        if map == 0:
            return features[0]
        return self.merge(torch.cat([features[1], F.interpolate(coarser[0], scale_factor=2)], dim=1))


class ToyDecoder(Wide, Decoder):
    """Both maps at the size of the finer one, then transposed convolution."""

    def __init__(self, config: Any, *, channels: int, dims: tuple[int, ...]) -> None:
        super().__init__()
        self.first = nn.Conv2d(sum(dims), config.width, kernel_size=1)
        self.last = nn.ConvTranspose2d(config.width, channels, kernel_size=2, stride=2)

    @property
    def last_layer(self) -> nn.Parameter:
        return self.last.weight

    def forward(self, vectors: tuple[Tensor, ...]) -> Tensor:
        both = torch.cat([F.interpolate(vectors[0], scale_factor=2), vectors[1]], dim=1)
        return self.last(self.first(both).tanh())


class ToyDiscriminator(Wide, Discriminator):
    """Images to a logit for every four pixels."""

    def __init__(self, config: Any, *, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, config.width, kernel_size=2, stride=2, bias=False)
        self.norm = nn.BatchNorm2d(config.width)
        self.last = nn.Conv2d(config.width, 1, kernel_size=1)

    def forward(self, signals: Tensor) -> Tensor:
        if signals.ndim != 4:
            raise ShapeError(f"judges images, got {tuple(signals.shape)}")
        return self.last(self.norm(self.first(signals)).tanh())


class ToyLoss(Wide, Loss):
    """Squared error, as a constant of its own weighs it."""

    weight: Tensor

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.register_buffer("weight", torch.ones(()))

    def forward(self, reconstructed: Tensor, signals: Tensor) -> Tensor:
        if reconstructed.shape != signals.shape:
            raise ShapeError(f"loss: {tuple(reconstructed.shape)} for signals {tuple(signals.shape)}")
        return self.weight * F.mse_loss(reconstructed, signals)


class ToyAdversarialLoss(Wide, AdversarialLoss):
    """The non-saturating pair."""

    def __init__(self, config: Any) -> None:
        super().__init__()

    def generator(self, fake: Tensor) -> Tensor:
        return F.softplus(-fake).mean()

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        return F.softplus(-real).mean() + F.softplus(fake).mean()


class ToyPrior(Wide, AutoregressivePrior):
    """Logits from a running sum of the codes so far, of the place, the label, and a sum over each coarser level."""

    def __init__(self, config: Any, *, levels: tuple[Level, ...], context: ContextShape) -> None:
        super().__init__(levels=levels, context=context)
        width = config.width
        self.codes = nn.Embedding(self.level.num_codes, width)
        self.places = nn.Parameter(torch.randn(self.level.length, width))
        self.classes = ClassEmbedding(context.num_classes, width) if context.num_classes else None
        self.coarser = nn.ModuleList(nn.Embedding(level.num_codes + 1, width) for level in context.coarser)
        self.dropout = nn.Dropout(0.1)
        self.head = nn.Linear(width, self.level.num_codes)

    def loss(self, codes: Codes, context: Context, noise: Generator | None = None) -> Tensor:
        return super().loss(codes, drop_labels(context, 0.1, noise), noise)

    def logits(self, codes: Tensor, context: Context) -> Tensor:
        check_context(context, self.context, len(codes))
        shown = self.codes(codes.flatten(1)) * self.places
        before = F.pad(shown, (0, 0, 1, -1)).cumsum(dim=1)
        return self._head(before + self.places + self.surroundings(context).unsqueeze(1)).unflatten(1, self.level.grid)

    def start(self, context: Context) -> dict[str, Any]:
        check_context(context, self.context, context.batch)
        around = self.surroundings(context)
        return {"around": around, "sum": torch.zeros_like(around), "place": 0}

    def step(self, state: dict[str, Any], previous: Tensor | None) -> Tensor:
        place = state["place"]
        if previous is not None:
            state["sum"] = state["sum"] + self.codes(previous) * self.places[place - 1]
        state["place"] = place + 1
        return self._head(state["sum"] + self.places[place] + state["around"])

    def surroundings(self, context: Context) -> Tensor:
        """What the context adds everywhere, (b, width)."""
        total = self.places.new_zeros(context.batch, self.places.shape[1])
        if self.classes is not None:
            total = total + self.classes(context.labels)
        for embedding, codes in zip(self.coarser, context.coarser, strict=True):
            total = total + embedding(codes.flatten(1) + 1).sum(dim=1)
        return total

    def _head(self, x: Tensor) -> Tensor:
        return self.head(self.dropout(x.tanh()))


class ToyTable(Prior):
    """Codes of any number of levels, independent of each other given the label: a table of logits a level."""

    @frozen(kw_only=True)
    class Config:
        """Nothing to set."""

    def __init__(self, config: Any, *, levels: tuple[Level, ...], context: ContextShape) -> None:
        super().__init__()
        if context.coarser:
            raise ConfigError("looks at no coarser levels")
        self.levels, self.context = levels, context
        rows = context.num_classes + 1
        self.tables = nn.ParameterList(torch.randn(rows, level.length, level.num_codes) for level in levels)
        self.hidden = nn.Dropout(0.1)

    def log_probs(self, i: int, context: Context) -> Tensor:
        """Of every code at every place of level i, (b, length, num_codes)."""
        rows = torch.zeros(context.batch, dtype=torch.int64) if context.labels is None else context.labels + 1
        return self.tables[i][rows].log_softmax(dim=-1)

    def forward(self, codes: Codes, context: Context) -> tuple[Tensor, ...]:
        check_context(context, self.context, len(codes[0]))
        found = []
        for i, code in enumerate(codes):
            known = code.flatten(1).clamp(min=0).unsqueeze(-1)
            terms = self.log_probs(i, context).float() if self.tables[i].dtype == torch.bfloat16 else self.log_probs(i, context)
            terms = terms.gather(-1, known).squeeze(-1).unflatten(1, code.shape[1:])
            found.append(torch.where(code == MASKED, 0.0, terms))
        return tuple(found)

    @torch.no_grad()
    def sample(
        self, context: Context, *, sampling: Sampling, generators: Sequence[Generator], given: Codes | None = None
    ) -> Codes:
        check_batch(self.levels, context, generators, given)
        check_context(context, self.context, context.batch)
        drawn = []
        with evaluating(self):
            for i, level in enumerate(self.levels):
                uniforms = torch.stack([torch.rand(level.length, generator=g, dtype=torch.float64) for g in generators])
                plain, free = (self.log_probs(i, one) for one in (context, context.unconditional()))
                logits = plain if sampling.guidance == 1 else free + sampling.guidance * (plain - free)
                own = draw(logits.flatten(0, 1), uniforms.flatten(), sampling).unflatten(0, uniforms.shape)
                own = own.unflatten(1, level.grid)
                drawn.append(own if given is None else torch.where(given[i] == MASKED, own, given[i]))
        return tuple(drawn)
