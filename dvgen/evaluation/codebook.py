"""How much of a codebook is used, from counts over a whole split: never the mean of batches' perplexities, which a small
batch keeps low."""

import math
from typing import Self

import numpy as np
import torch
from attrs import frozen
from numpy.typing import NDArray
from torch import Tensor

from dvgen.errors import DataError, ShapeError
from dvgen.evaluation.measurement import Key, Measurement
from dvgen.interfaces.codes import MASKED


def counts(codes: Tensor, num_codes: int) -> NDArray[np.int64]:
    """How often each code occurs, (num_codes,); masked positions are left out. Counts of batches may be added."""
    known = codes[codes != MASKED].cpu()
    if known.numel() and (int(known.min()) < 0 or int(known.max()) >= num_codes):
        raise ShapeError(f"codes must be in 0..{num_codes - 1} or -1, got {int(known.min())}..{int(known.max())}")
    return torch.bincount(known, minlength=num_codes).numpy()


@frozen(kw_only=True)
class CodebookUse:
    """Use of one level's codebook over n codes.

    usage: share of codes that occur at least once. perplexity: exp of the entropy of their frequencies, from 1 (one code)
    to num_codes (all alike).
    """

    level: str
    num_codes: int
    n: int
    usage: float
    perplexity: float

    @classmethod
    def of(cls, level: str, counted: NDArray[np.int64]) -> Self:
        """From the counts (num_codes,) of the whole split. Raises DataError when nothing was counted."""
        n = int(counted.sum())
        if n == 0:
            raise DataError(f"level {level!r}: no codes were counted; the split is empty")
        share = counted[counted > 0] / n
        perplexity = math.exp(-float((share * np.log(share)).sum()))
        return cls(level=level, num_codes=len(counted), n=n, usage=len(share) / len(counted), perplexity=perplexity)

    def measurements(self, codes: str, split: str) -> tuple[Measurement, Measurement]:
        """Usage and perplexity with their protocol; codes: identity (a hash) of tokenizer, data and transform."""
        protocol = {"codes": codes, "split": split, "level": self.level, "num_codes": str(self.num_codes)}
        return (
            Measurement(self.usage, None, self.n, Key("codebook usage", "", protocol, higher_is_better=True)),
            Measurement(self.perplexity, None, self.n, Key("codebook perplexity", "", protocol, higher_is_better=True)),
        )
