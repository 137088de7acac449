"""Between the stages: every signal's codes, extracted once, in a cache that carries the tokenizer's fingerprint."""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path

from torch import Tensor

from dvgen.data.loading import data_hash, signal_batches
from dvgen.data.token_cache import TokenBatch, TokenCache, TokenIdentity, write_tokens
from dvgen.errors import IntegrityError
from dvgen.interfaces.data import Dataset
from dvgen.sealed import MANIFEST
from dvgen.tokenizer import VALUES_AT_ONCE, Tokenizer, fingerprint
from dvgen.training.session import Session


def extract(
    session: Session, tokenizer: Tokenizer, config: object, dataset: Dataset, splits: Mapping[str, Tensor], folder: Path
) -> TokenCache:
    """The codes of every split, from the cache at `folder` when it is there and whole, else extracted into it.

    `config` is the tokenizer's part of the experiment. Raises IntegrityError when a cache is damaged or of another
    tokenizer or other data.
    """
    identity = TokenIdentity(
        tokenizer=fingerprint(tokenizer, config),
        data=data_hash(dataset),
        levels=tokenizer.levels,
        num_classes=len(dataset.classes),
        splits={split: len(indices) for split, indices in splits.items()},
    )
    if session.fabric.is_global_zero and not (folder / MANIFEST).exists():
        tables = {split: _encoded(session, tokenizer, dataset, indices) for split, indices in splits.items()}
        write_tokens(folder, tables, identity)
    session.fabric.barrier()
    try:
        return TokenCache.open(folder, identity)
    except IntegrityError as error:
        raise IntegrityError(f"{error}; delete {folder}, and the codes are extracted again") from None


def _encoded(session: Session, tokenizer: Tokenizer, dataset: Dataset, indices: Tensor) -> Iterator[TokenBatch]:
    # the same number on every machine, because the last bits of a matrix product may depend on it
    batch = max(1, VALUES_AT_ONCE // math.prod(dataset.shape))
    for (signals, labels), part in zip(signal_batches(dataset, indices, batch), indices.split(batch), strict=True):
        session.stop.check("extracting codes; `dvgen train --resume` or the same `dvgen compare` goes on")
        codes = tokenizer.encode(signals.to(session.fabric.device))
        yield TokenBatch(tuple(code.cpu() for code in codes), labels, part)
