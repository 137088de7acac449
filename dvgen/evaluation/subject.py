"""What is assessed, and with what: codes of every split, and the signals behind them where there are any."""

from collections.abc import Callable, Iterator, Mapping
from functools import cached_property

import torch
from attrs import frozen
from torch import Tensor

from dvgen.data.loading import data_hash
from dvgen.data.order import permutation
from dvgen.data.token_cache import TokenCache
from dvgen.evaluation.nll import Floats
from dvgen.evaluation.sampling import decode_codes
from dvgen.evaluation.sounds import sampling_rate
from dvgen.experiment import Evaluation
from dvgen.interfaces.codes import Codes
from dvgen.interfaces.data import CodeSource, Dataset
from dvgen.interfaces.features import Features
from dvgen.seeding import fold
from dvgen.tokenizer import Tokenizer

TEST, VALIDATION, TRAIN = "test", "validation", "train"


@frozen
class Signals:
    """The signals behind codes: a tokenizer in evaluation mode, its data and their splits, and spaces of features by name."""

    tokenizer: Tokenizer
    dataset: Dataset
    splits: Mapping[str, Tensor]
    spaces: Mapping[str, Features]

    @property
    def bits(self) -> int:
        """What signals are rounded to before they are measured."""
        return 8 if sampling_rate(self.dataset) is None else 16

    @cached_property
    def reference(self) -> str:
        """Identity of the test split, to which all distances are measured; the hash of some sets takes a second."""
        return f"{data_hash(self.dataset)[:16]}/{TEST}"

    def of(self, split: str, positions: Tensor) -> Tensor:
        """The signals at these positions (b,) of a split."""
        return self.dataset.signals(self.splits[split][positions].tolist())


@frozen
class Subject:
    """Codes to be predicted, and how results are measured.

    source: what drew the codes, where their probabilities are known; otherwise `signals` is what they were made of.
    `pause` is called before each batch of work, and may raise to stop.
    """

    cache: TokenCache
    settings: Evaluation
    device: torch.device
    pause: Callable[[], None]
    source: CodeSource | None = None
    signals: Signals | None = None

    @property
    def n(self) -> int:
        """How many samples, reference signals and held-out codes are compared: equally many of each, or no two compare."""
        return min(self.settings.samples, self.cache.size(TEST), self.cache.size(VALIDATION))

    @property
    def values(self) -> int | None:
        """Values of one signal, None without signals."""
        return None if self.signals is None else torch.Size(self.signals.dataset.shape).numel()

    @property
    def length(self) -> int:
        """Codes of an image, over all levels."""
        return sum(level.length for level in self.cache.levels)

    @cached_property
    def truth(self) -> Floats | None:
        """The exact log-probability of the codes of every test image in nats, (n,), where a source knows it."""
        return None if self.source is None else self.source.log_prob(self.cache.codes(TEST)).double().cpu().numpy()

    @property
    def exhaustive(self) -> bool:
        """Whether all splits together are every signal there is."""
        return self.signals is not None and self.signals.dataset.exhaustive

    def positions(self, split: str) -> Tensor:
        """All positions of a split in one fixed shuffled order, so that any first part is a fair sample."""
        return permutation(self.cache.size(split), fold(0, "assessment"))

    def first(self, split: str) -> Tensor:
        """The first `n` of `positions`."""
        return self.positions(split)[: self.n]

    def codes(self, split: str) -> Codes:
        """The codes of `first`."""
        return self.cache.codes(split, self.first(split))

    def batches(self, items: Tensor) -> Iterator[Tensor]:
        """Items a batch at a time."""
        for part in items.split(self.settings.batch):
            self.pause()
            yield part


def decoded(subject: Subject, codes: Codes) -> Tensor:
    """The signals of codes, clamped to [-1, 1], on the CPU. The subject must have signals."""
    assert subject.signals is not None
    return decode_codes(subject.signals.tokenizer, codes, subject.settings.batch, subject.pause)
