"""Components with one bug each, planted in toys that keep the contract: in what is asked of every model (M1 to M10)."""

from collections.abc import Callable
from typing import Any

import attrs
import torch
from attrs import frozen
from contract_toys import (
    ToyDecoder,
    ToyDiscriminator,
    ToyEncoder,
    ToyLoss,
)
from torch import Tensor, nn
from torch.nn import functional as F

from dvgen.contracts.components import (
    AdversarialLossSubject,
    AutoencoderSubject,
    DiscriminatorSubject,
    LossSubject,
    PriorSubject,
)
from dvgen.contracts.model_subject import ModelSubject
from dvgen.interfaces.autoencoder import Decoder, Encoder
from dvgen.interfaces.discriminator import Discriminator
from dvgen.interfaces.loss import AdversarialLoss, Loss


@frozen
class Bug:
    """A component with a bug, the one without, and the law that is there to find it, as `broken_laws` calls it.

    raises: names of exceptions, by one of which it is found. Broken: the law saw it; others: torch or Python refused.
    """

    law: str
    broken: type[Any]
    sound: type[Any]
    raises: tuple[str, ...]


def planted(law: str, *raises: str) -> Callable[[Any], Any]:
    """Class decorator: the bug is what the class does otherwise than its base."""

    def plant(broken: Any) -> Any:
        broken.bug = Bug(law, broken, broken.__base__, raises or ("Broken",))
        return broken

    return plant


def subject_of(kind: type[Any]) -> ModelSubject:
    """What a toy or a mutant of it is checked on; the other half of a pair is sound."""
    if issubclass(kind, Encoder):
        return AutoencoderSubject(kind, ToyDecoder)
    if issubclass(kind, Decoder):
        return AutoencoderSubject(ToyEncoder, kind)
    subjects: dict[type[Any], Callable[[Any], ModelSubject]] = {
        Discriminator: DiscriminatorSubject,
        Loss: LossSubject,
        AdversarialLoss: AdversarialLossSubject,
    }
    return next((make(kind) for base, make in subjects.items() if issubclass(kind, base)), None) or PriorSubject(kind)


@planted("M1 pure_in_evaluation")
class EvaluationMovesState(ToyEncoder):
    def forward(self, signals: Tensor) -> tuple[Tensor, ...]:
        self.norm.running_mean.mul_(0.9)  # type: ignore[union-attr, operator]
        return super().forward(signals)


@planted("M1 pure_in_evaluation")
class DropsOutInEvaluation(ToyDiscriminator):
    def forward(self, signals: Tensor) -> Tensor:
        return super().forward(F.dropout(signals, 0.2))


@planted("M1 pure_in_evaluation")
class WritesToItsInput(ToyDecoder):
    def forward(self, vectors: tuple[Tensor, ...]) -> Tensor:
        return super().forward((vectors[0].detach().clamp_(min=0) * vectors[0], vectors[1]))


@planted("M2 training_keeps")
class CountsSteps(ToyDiscriminator):
    steps = 0

    def forward(self, signals: Tensor) -> Tensor:
        self.steps += self.training
        return super().forward(signals)


@planted("M2 training_keeps")
class MovesItsWeights(ToyEncoder):  # as spectral normalisation written by hand does
    def forward(self, signals: Tensor) -> tuple[Tensor, ...]:
        if self.training:
            self.coarse.weight.data.div_(self.coarse.weight.data.norm())
        return super().forward(signals)


@planted("M3 round_trips")
class StatisticsNotSaved(ToyEncoder):
    def __init__(self, config: Any, *, channels: int, dims: tuple[int, ...]) -> None:
        super().__init__(config, channels=channels, dims=dims)
        self.norm._non_persistent_buffers_set.add("running_mean")


@planted("M3 round_trips", "PicklingError", "AttributeError")
class CannotBePickled(ToyLoss):
    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.error = lambda a, b: F.mse_loss(a, b)


@planted("M4 precision")
class AlwaysSingle(ToyLoss):
    def forward(self, reconstructed: Tensor, signals: Tensor) -> Tensor:
        return super().forward(reconstructed, signals).float()


@planted("M5 moves_whole", "RuntimeError")
class ConstantStaysBehind(ToyEncoder):
    def __init__(self, config: Any, *, channels: int, dims: tuple[int, ...]) -> None:
        super().__init__(config, channels=channels, dims=dims)
        self.scale = torch.full((channels, 1, 1), 2.0)

    def forward(self, signals: Tensor) -> tuple[Tensor, ...]:
        return super().forward(signals * self.scale)


@planted("M5 built_on_meta", "RuntimeError", "NotImplementedError")
class ReadsANumberWhenBuilt(ToyDiscriminator):
    def __init__(self, config: Any, *, channels: int) -> None:
        super().__init__(config, channels=channels)
        self.gain = float(self.first.weight.detach().norm())


@planted("M6 neighbours")
class BatchStatisticsInEvaluation(ToyEncoder):
    def forward(self, signals: Tensor) -> tuple[Tensor, ...]:
        return super().forward(signals - signals.mean(dim=0, keepdim=True))


@planted("M7 empty_batch", "RuntimeError")
class GuessesAShape(ToyDiscriminator):
    def forward(self, signals: Tensor) -> Tensor:
        return super().forward(signals).reshape(len(signals), 1, signals.shape[2] // 2, -1)


@planted("M8 groups")
class ForgetsBiases(ToyDecoder):
    def parameter_groups(self) -> list[dict[str, Any]]:
        return [{"params": [p for p in self.parameters() if p.ndim > 1]}]


@planted("M8 groups")
class GroupsTwice(ToyDiscriminator):
    def parameter_groups(self) -> list[dict[str, Any]]:
        return [*super().parameter_groups(), {"params": [self.last.bias], "weight_decay": 0.0}]


@planted("M9 gradient_reach")
class UnusedLayer(ToyDiscriminator):
    def __init__(self, config: Any, *, channels: int) -> None:
        super().__init__(config, channels=channels)
        self.spare = nn.Linear(2, 2)


@planted("M9 gradient_reach")
class DetachesFeatures(ToyDecoder):
    def forward(self, vectors: tuple[Tensor, ...]) -> Tensor:
        both = torch.cat([F.interpolate(vectors[0], scale_factor=2), vectors[1]], dim=1)
        return self.last(self.first(both).tanh().detach())


@planted("M10 tiny")
class TinyIsHuge(ToyDiscriminator):
    @classmethod
    def tiny(cls) -> Any:
        return cls.Config(width=2**14)


@planted("M10 scaled")
class ScalesWhatIsNotAsked(ToyEncoder):
    @classmethod
    def scaled(cls, config: Any, width: float) -> Any:
        return attrs.evolve(config, width=config.width + 1)


@planted("M10 scaled")
class ScalesBackwards(ToyDecoder):
    @classmethod
    def scaled(cls, config: Any, width: float) -> Any:
        return attrs.evolve(config, width=max(1, round(config.width / width)))
