"""Data: sets of signals with labels, and sources of codes whose probability is known."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar

from torch import Tensor

from dvgen.interfaces.codes import Codes, Level


class Dataset(ABC):
    """A finite set of signals, each with a class label; `__init__(config, *, location)`.

    location: what stands after the colon of `--data NAME:LOCATION`; without one, NAME under $DVGEN_DATA (default: ./data).
        None for a set that is not `located`.
    Raises DataError when the data are not there, naming the place, what was expected and what to do.

    shape: (channels, *size) of every signal.
    classes: names of the classes; at least one.
    labels: (n,) int64, 0 <= label < len(classes).
    parts: the data set's own division, such as {"train": (0, 60000), "test": (60000, 70000)}: names to half-open index
        ranges. Known names are "train", "validation" and "test"; a set with only "train" is divided by dvgen.
    located: False for a set that is made rather than read, and takes no location.
    exhaustive: True when the set holds every signal of a uniform distribution exactly once, so that entropies are exact.
    skipped: names of the files that were left out because they could not be read.
    rate: samples a second of sound, whose size is (t,); None for images.
    waived_laws: laws of the contract that do not apply to this class, by full name, each with the reason: see `Model`.
    """

    Config: ClassVar[type[Any]]
    located: ClassVar[bool] = True
    waived_laws: ClassVar[Mapping[str, str]] = MappingProxyType({})

    shape: tuple[int, ...]
    classes: tuple[str, ...]
    labels: Tensor
    parts: dict[str, tuple[int, int]]
    exhaustive: bool = False
    skipped: tuple[str, ...] = ()
    rate: int | None = None

    def __len__(self) -> int:
        return int(self.labels.shape[0])

    @abstractmethod
    def signals(self, indices: Sequence[int]) -> Tensor:
        """The signals of these indices: float32 (b, channels, *size) in [-1, 1]. A pure function of the indices."""

    @abstractmethod
    def digest(self) -> str:
        """SHA-256 (hex) of the contents and of the transform, equal on every machine."""


class CodeSource(ABC):
    """A source of codes with a known log-probability, for proving priors; `__init__(config)`.

    levels: what it draws. sizes: how many draws the splits "train", "validation" and "test" have.
    version: raised whenever the same config would draw other codes, so that results of both are never compared.
    entropy: of one draw (all levels together) in nats, where it has a closed form; otherwise None.
    waived_laws: laws of the contract that do not apply to this class, by full name, each with the reason: see `Model`.
    """

    Config: ClassVar[type[Any]]
    waived_laws: ClassVar[Mapping[str, str]] = MappingProxyType({})

    levels: tuple[Level, ...]
    sizes: Mapping[str, int]
    version: int = 1
    entropy: float | None = None

    @abstractmethod
    def sample(self, n: int, seed: int) -> Codes:
        """n independent draws, (n, *grid) int64 a level; a pure function of (n, seed)."""

    @abstractmethod
    def log_prob(self, codes: Codes) -> Tensor:
        """Exact log-probability in nats, (n,) float64."""
