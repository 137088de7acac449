"""Checks of what a prior learns: a small one, trained for a short while on codes whose probability is known."""

import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Generator, Tensor

from dvgen.assembly import build
from dvgen.code_model import CodeModel
from dvgen.config import unstructure
from dvgen.data.token_cache import TokenBatch, TokenCache, TokenIdentity, write_tokens
from dvgen.errors import ConfigError
from dvgen.evaluation.nll import ROUNDING, per_image_nats
from dvgen.evaluation.statistics import mean_interval
from dvgen.experiment import Choice, Experiment, PriorChoice, Train, Training
from dvgen.interfaces.codes import Codes
from dvgen.interfaces.data import CodeSource
from dvgen.interfaces.sampling import Sampling
from dvgen.seeding import fold
from dvgen.training.prior import train_prior
from dvgen.training.session import Session
from dvgen.verify.checks import Check
from dvgen.verify.trained import CODEC, CONTEXT, verify_codec, verify_context

EXCESS = "no code is likelier than it is"
TWO_LEVELS = "top-bottom"
"""The source on which coarser codes must help, where there is one of that name."""

SIZES = {"train": 4096, "validation": 64, "test": 512}
WIDTH = 2.0
"""How much wider than its `tiny()` config a prior is, which is made for proofs and learns little."""
TRAINING = Training(budget="steps:200", batch=32, lr=1e-2, warmup=20, betas=(0.9, 0.95), log_every=200)
MAPS = 64
"""Maps that the range coder writes."""
SAMPLES = 256
BATCH = 64
CONFIDENCE = 0.999
"""Of the intervals: on seeds that are fixed, an honest prior fails at most once in a thousand versions of itself."""
GAP = 0.1
"""Nats a code by which samples may be likelier or less likely than held-out codes, beside the interval: a model that has not
learned all yet is not equally surprised by both. A temperature of 0.7 shows as several tenths."""


class Trained(NamedTuple):
    """A small model after its training, and test codes with their labels and exact log-probability."""

    model: CodeModel
    source: CodeSource
    codes: Codes
    labels: Tensor | None


def verify_learning(session: Session, name: str, source: str) -> tuple[Check, ...]:
    """Checks 6, 7 and 8b of the prior of this name, trained for seconds on a code source.

    Checks 6 and 7 on `source`, check 8b with labels (where it takes some) and, where there is such a source, two levels.
    They do not apply to a prior that cannot model the codes. Raises ConfigError or PluginError for an unknown name.
    """
    two_levels = TWO_LEVELS if TWO_LEVELS in session.registry.names("code-source") else source
    try:
        plain = train_briefly(session, name, source, labels=False)
        checks = verify_codec(plain.model, tuple(code[:MAPS] for code in plain.codes), None), verify_excess(plain)
    except ConfigError as error:
        checks = Check("6", CODEC, None, str(error)), Check("7", EXCESS, None, str(error))
    try:
        told = train_briefly(session, name, two_levels, labels=True)
        return *checks, verify_context(told.model, told.codes, told.labels, must_help=True)
    except ConfigError as error:
        return *checks, Check("8b", CONTEXT, None, str(error))


def train_briefly(session: Session, name: str, source: str, *, labels: bool) -> Trained:
    """A small prior of this name for every level of a source, after TRAINING; with labels, see `label_of`."""
    registry = session.registry
    kind = registry.load("prior", name)
    drawn: CodeSource = build(registry, "code-source", Choice(use=source))
    choice = PriorChoice(use=name, fields=unstructure(kind.scaled(kind.tiny(), WIDTH)))
    experiment = Experiment(labels=labels, prior=(choice,), train=Train(precision=session.precision, prior=TRAINING))
    with tempfile.TemporaryDirectory(prefix="dvgen-") as folder:
        cache = _cache(drawn, f"code source {source!r}", Path(folder) / "codes")
        model = train_prior(session, experiment, cache, Path(folder) / "prior")
        codes, numbers = cache.codes("test"), cache.labels("test")
    return Trained(model, drawn, codes, numbers if labels else None)


def label_of(codes: Codes) -> Tensor:
    """A class label for each map, (n,): the commonest code of its first level, which makes that code likelier everywhere."""
    return codes[0].flatten(1).mode(dim=1).values


def verify_excess(trained: Trained) -> Check:
    """Check 7: the likelihood of test codes is not better than the truth, and that of the model's own samples no other.

    The mean over the maps of log p(truth) - log p(model) is the divergence between the two, which is never negative.
    """
    model, codes, length = trained.model, trained.codes, sum(level.length for level in trained.model.levels)
    nats = per_image_nats(model, codes, None, BATCH).sum(axis=0)
    excess, around = mean_interval((nats + trained.source.log_prob(codes).double().cpu().numpy()) / length, CONFIDENCE)
    generators = [Generator().manual_seed(fold(0, "verify", i)) for i in range(SAMPLES)]
    samples = model.sample(generators, sampling=Sampling())
    own = per_image_nats(model, samples, None, BATCH).sum(axis=0)
    gap = float(own.mean() - nats.mean()) / length
    reach = 3.3 * float(np.sqrt(own.var() / len(own) + nats.var() / len(nats))) / length
    upper = around[1] if around else excess
    told = (
        f"excess over the truth {excess:+.4f} +- {upper - excess:.4f} nats/code, "
        f"own samples {gap:+.4f} +- {reach:.4f} nats/code from held-out codes"
    )
    # the very source in float32 is a rounding error below itself
    return Check("7", EXCESS, upper >= -ROUNDING and abs(gap) <= GAP + reach, told)


def _cache(source: CodeSource, name: str, folder: Path) -> TokenCache:
    num_classes = source.levels[0].num_codes
    identity = TokenIdentity(tokenizer="none", data=name, levels=source.levels, num_classes=num_classes, splits=SIZES)
    write_tokens(folder, {split: [_drawn(source, split)] for split in SIZES}, identity)
    return TokenCache.open(folder, identity)


def _drawn(source: CodeSource, split: str) -> TokenBatch:
    codes = source.sample(SIZES[split], fold(0, "verify", split))
    return TokenBatch(codes, label_of(codes), torch.arange(SIZES[split]))
