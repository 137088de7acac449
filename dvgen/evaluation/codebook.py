"""How much of a codebook is used, from counts over a whole split: never the mean of batches' perplexities, which a small
batch keeps low."""

import math
from typing import Self

from attrs import frozen
from torch import Tensor

from dvgen.errors import DataError
from dvgen.evaluation.measurement import Key, Measurement
from dvgen.interfaces.codes import MASKED, Level, check_range


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
    def of(cls, level: Level, codes: Tensor) -> Self:
        """From the codes of the whole split, of any shape; masked positions are left out.

        Counts only codes that occur, so a codebook may have 2^62 codes. Raises ShapeError for a code out of range and
        DataError when there is none.
        """
        check_range(codes, level.num_codes, f"level {level.name!r}")
        counted = codes[codes != MASKED].unique(return_counts=True)[1].double()
        n = int(counted.sum())
        if n == 0:
            raise DataError(f"level {level.name!r}: no codes were counted; the split is empty")
        share = counted / n
        perplexity = math.exp(-float((share * share.log()).sum()))
        usage = len(counted) / level.num_codes
        return cls(level=level.name, num_codes=level.num_codes, n=n, usage=usage, perplexity=perplexity)

    def measurements(self, codes: str, split: str) -> tuple[Measurement, Measurement]:
        """Usage and perplexity with their protocol; codes: identity (a hash) of tokenizer, data and transform."""
        protocol = {"codes": codes, "split": split, "level": self.level, "num_codes": str(self.num_codes)}
        return (
            Measurement(self.usage, None, self.n, Key("codebook usage", "", protocol, higher_is_better=True)),
            Measurement(self.perplexity, None, self.n, Key("codebook perplexity", "", protocol, higher_is_better=True)),
        )
