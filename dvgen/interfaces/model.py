"""What every trainable component offers beside its own interface."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Self

from torch import nn

from dvgen.interfaces.weights import WeightFile


class Model(nn.Module):
    """A component with parameters.

    Its nested `Config` (attrs, frozen, keyword only; ranges as validators) holds everything a user may set; sizes that
    are known only when the model is assembled are keyword arguments of `__init__`.

    weight_files: the published files that some config of the class looks for; `dvgen weights` lists and installs them.
    waived_laws: laws of the contract that do not apply to this class, by full name ("P23 revival"), each with the reason
        in a sentence; whoever uses the component is told.
    """

    Config: ClassVar[type[Any]]
    weight_files: ClassVar[tuple[WeightFile, ...]] = ()
    waived_laws: ClassVar[Mapping[str, str]] = MappingProxyType({})

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Groups for the optimiser; "weight_decay": 0.0 in a group exempts it. Every parameter stands in exactly one."""
        return [{"params": [p for p in self.parameters() if p.requires_grad]}]

    @classmethod
    def tiny(cls: type[Self]) -> Any:
        """A config of this class so small that a proof by enumeration takes seconds. The default config unless overridden."""
        return cls.Config()

    @classmethod
    def scaled(cls: type[Self], config: Any, width: float) -> Any:
        """The same config with its width multiplied, for matching the parameters of two models. Unchanged unless overridden."""
        return config
