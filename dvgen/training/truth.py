"""Codes without a tokenizer: drawn from a source whose probabilities are known."""

from collections.abc import Iterator
from pathlib import Path

import torch

from dvgen.data.loading import open_source, source_hash
from dvgen.data.splits import SPLITS
from dvgen.data.token_cache import TokenBatch, TokenCache, TokenIdentity, write_tokens
from dvgen.errors import PluginError
from dvgen.experiment import Experiment
from dvgen.interfaces.data import CodeSource
from dvgen.sealed import MANIFEST
from dvgen.seeding import fold
from dvgen.training.session import Session

AT_ONCE = 1024
"""Draws in memory at a time."""


def open_truth(session: Session, experiment: Experiment) -> CodeSource:
    """The source of codes of an experiment; raises PluginError when it does not say how many draws each split has."""
    source = open_source(session.registry, experiment.data)
    if set(source.sizes) != set(SPLITS) or min(source.sizes.values()) < 1:
        raise PluginError(
            f"code source {experiment.data.use!r}: sizes are {dict(source.sizes)}; its class must give one to each of {SPLITS}"
        )
    return source


def draw_codes(session: Session, experiment: Experiment, source: CodeSource, folder: Path) -> TokenCache:
    """Codes of every split, from the cache at `folder` when it is there and whole, else drawn into it.

    The draws are the same for every run, whatever its seed, as those of a data set are. Raises IntegrityError when a cache
    is damaged or of another source.
    """
    identity = TokenIdentity(
        tokenizer=f"none: {experiment.data.use} draws codes",
        data=source_hash(experiment.data, source),
        levels=source.levels,
        num_classes=1,
        splits=dict(source.sizes),
    )
    if session.fabric.is_global_zero and not (folder / MANIFEST).exists():
        write_tokens(folder, {split: _drawn(session, source, split) for split in SPLITS}, identity)
    session.fabric.barrier()
    return TokenCache.open(folder, identity)


def _drawn(session: Session, source: CodeSource, split: str) -> Iterator[TokenBatch]:
    size = source.sizes[split]
    for part, indices in enumerate(torch.arange(size).split(AT_ONCE)):
        session.stop.check("drawing codes; the same `dvgen compare` goes on")
        codes = source.sample(len(indices), fold(0, "truth", split, part))
        yield TokenBatch(codes, torch.zeros(len(indices), dtype=torch.int64), indices)
