"""A prior that is the source of its codes: what every other can only come near to."""

from collections.abc import Callable, Sequence
from typing import final

import torch
from attrs import define, frozen
from torch import Generator, Tensor, nn

from dvgen import Part, part
from dvgen.blocks.conditioning import check_context
from dvgen.errors import ConfigError
from dvgen.interfaces.codes import Codes, Level
from dvgen.interfaces.context import Context, ContextShape
from dvgen.interfaces.data import CodeSource
from dvgen.interfaces.prior import AutoregressivePrior
from dvgen_truth.markov import MarkovRaster
from dvgen_truth.sequential import Sequential


@define
class _Drawn:
    """codes: (b, t), those before `place` drawn."""

    codes: Tensor
    coarser: Codes
    place: int = 0


@final
class Oracle(AutoregressivePrior):
    """The source's own conditional probabilities, computed in float64: its nats a code are the entropy's, its excess is 0.

    Of a source of several levels it is that of the level which comes after those of the context. Training changes nothing:
    its one parameter is there because optimisers want one, and takes a gradient but reaches no probability.
    Raises ConfigError for a source that draws other levels or tells no conditional probabilities, and for class labels.
    """

    @frozen(kw_only=True)
    class Config:
        """source: the source of the codes, with the same settings: `--set prior.source.use=NAME`."""

        source: Part = part("code-source", use="markov")

    def __init__(
        self,
        config: Config,
        *,
        levels: tuple[Level, ...],
        context: ContextShape,
        source: Callable[[], CodeSource] | None = None,
    ) -> None:
        """source: makes the source; None, where nobody reads the config's part: a Markov chain of the level's own size."""
        super().__init__(levels=levels, context=context)
        if context.num_classes:
            raise ConfigError("oracle: a source draws codes without class labels; leave out --labels")
        made = source() if source else MarkovRaster(MarkovRaster.Config(grid=self.level.grid, num_codes=self.level.num_codes))
        if not isinstance(made, Sequential):
            raise ConfigError(f"oracle: {type(made).__name__} tells no conditional probabilities; take a source of dvgen_truth")
        self.source, self.number = made, len(context.coarser)
        wanted, drawn = [*context.coarser, self.level], made.levels[: self.number + 1]
        if [_size(level) for level in wanted] != [_size(level) for level in drawn]:
            raise ConfigError(
                f"oracle: the source {config.source.use!r} draws {_told(drawn)}, but the codes are {_told(wanted)}; "
                "name the source that the codes are from: --set prior.source.use=NAME"
            )
        self.idle = nn.Parameter(torch.zeros(()))

    @classmethod
    def tiny(cls) -> Config:
        """Of 2x2 codes, two of them."""
        return cls.Config(source=Part(use="markov", fields={"grid": [2, 2], "num_codes": 2}))

    def logits(self, codes: Tensor, context: Context) -> Tensor:
        """Log-probabilities (b, *grid, num_codes), in the parameter's dtype or float32, whichever is wider."""
        check_context(context, self.context, len(codes))
        return self._narrowed(self.source.conditionals(self.number, codes, context.coarser))

    def start(self, context: Context) -> _Drawn:
        check_context(context, self.context, context.batch)
        codes = torch.zeros(context.batch, self.level.length, dtype=torch.int64, device=self.idle.device)
        return _Drawn(codes, context.coarser)

    def step(self, state: _Drawn, previous: Tensor | None) -> Tensor:
        if previous is not None:
            state.codes[:, state.place - 1] = previous
        state.place += 1
        return self._narrowed(self.source.conditional(self.number, state.place - 1, state.codes, state.coarser))

    def loss(self, codes: Codes, context: Context, noise: Generator | None = None) -> Tensor:
        """Minus the mean log-probability; of its gradient the idle parameter gets 1, whatever the codes are."""
        return super().loss(codes, context, noise) + (self.idle - self.idle.detach())

    def _narrowed(self, log_probs: Tensor) -> Tensor:
        return log_probs.to(torch.promote_types(self.idle.dtype, torch.float32))


def _size(level: Level) -> tuple[tuple[int, ...], int]:
    return level.grid, level.num_codes


def _told(levels: Sequence[Level]) -> str:
    return " and ".join(f"{'x'.join(map(str, level.grid))} of {level.num_codes}" for level in levels)
