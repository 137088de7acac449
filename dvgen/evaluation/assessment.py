"""Everything that is measured of a prior: likelihood of held-out codes, and how its samples differ from them."""

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from attrs import evolve
from torch import Tensor

from dvgen.code_model import CodeModel
from dvgen.data.order import permutation
from dvgen.data.splits import SPLITS
from dvgen.evaluation.baselines import ladder, lzma_bits
from dvgen.evaluation.measurement import Key, Measurement
from dvgen.evaluation.nll import (
    Floats,
    LikelihoodProtocol,
    check_floor,
    check_not_below,
    code_map_entropy,
    excess_nats,
    excess_over,
    likelihoods,
)
from dvgen.evaluation.prior_likelihood import Likelihood, other_splits, self_gap
from dvgen.evaluation.references import (
    ORACLE,
    Measurements,
    accuracy_on_test,
    closeness_to_train,
    code_distances,
    counted_codes,
    sample_distances,
    tables,
    tells_classes,
)
from dvgen.evaluation.sampling import Request, draw_codes
from dvgen.evaluation.subject import TEST, Subject, decoded
from dvgen.evaluation.tokenizer_assessment import TokenizerAssessment, image_bits
from dvgen.interfaces.codes import Codes
from dvgen.interfaces.sampling import Sampling
from dvgen.seeding import fold


class Drawn(NamedTuple):
    """codes: n of every level. signals: (n, *shape) in [-1, 1], None without a tokenizer. seconds: spent drawing codes."""

    codes: Codes
    signals: Tensor | None
    seconds: float


class PriorAssessment(NamedTuple):
    """measurements by name; nats: (levels, n) negative log-probability of every test image; samples: uncurated.

    per_position: the mean of it at every place, (*grid) a level. features: of the samples, by space.
    """

    measurements: Measurements
    nats: Floats
    per_position: tuple[Floats, ...]
    samples: Drawn
    features: Mapping[str, Tensor]


@torch.no_grad()
def assess_prior(
    subject: Subject, model: CodeModel, tokenizer: TokenizerAssessment, *, labels: bool, seed: int
) -> PriorAssessment:
    """Likelihood of held-out codes and its excess over what is possible, where that is known; and the distances of samples.

    tokenizer: what was found of the tokenizer, or of the source, of these codes. Raises IntegrityError when the likelihood
    is better than can be.
    """
    likelihood = Likelihood(subject, model, labels=labels)
    totals: list[Tensor] = []
    nats = likelihood.of(TEST, totals)
    found = likelihoods(nats, subject.cache.levels, likelihood.protocol, values=subject.values)
    found |= _excess(subject, likelihood)
    found |= other_splits(likelihood)
    if tokenizer.decoder_nats is not None and subject.signals is not None:
        # -log p(image) <= -log p(codes) - log p(image | codes)
        about = {"conditioning": likelihood.protocol.conditioning}
        found["image_bound"] = image_bits(subject.signals, nats.sum(axis=0) + tokenizer.decoder_nats, "image bound", about)
    wanted = _drawn_labels(subject) if labels else None
    request = Request(n=subject.n, labels=wanted, sampling=Sampling(), seed=seed, batch=subject.settings.batch)
    codes, seconds = draw_codes(model, request, subject.pause)
    samples = Drawn(codes, None if subject.signals is None else decoded(subject, codes), seconds)
    about = _sampler(labelled=labels)
    found["self_nll_gap"] = self_gap(likelihood, samples.codes, wanted, about)
    measured, features = _samples(subject, samples, tokenizer, about, labels=wanted)
    places = tuple((total / nats.shape[1]).numpy() for total in totals)
    return PriorAssessment(found | measured, nats, places, samples, features)


def assess_baselines(subject: Subject) -> dict[str, Measurements]:
    """The likelihood of models that only count, from uniform to four neighbours, and of a general compressor."""
    cache = subject.cache
    protocol = LikelihoodProtocol(codes=cache.identity.hash, split=TEST)
    found = {
        name: likelihoods(nats, cache.levels, protocol, values=subject.values)
        for name, nats in ladder(cache.levels, counted_codes(subject), cache.codes(TEST), subject.pause).items()
    }
    bits, length = lzma_bits(cache.levels, cache.codes(TEST)), subject.length
    units = {"nll": (bits * math.log(2) / length, "nats/code"), "bits_code": (bits / length, "bits/code")}
    units["bits_image"] = (bits, "bits/image")
    about = {"codes": cache.identity.hash, "split": TEST, "likelihood": "file size of the whole split"}
    found["lzma"] = {
        name: Measurement(value, None, cache.size(TEST), Key(unit, unit, about)) for name, (value, unit) in units.items()
    }
    return found


def code_entropy(subject: Subject, *, labels: bool) -> float | None:
    """Exact entropy of the code map in nats, of a source that knows it or over all signals; None where it is not known."""
    if subject.source is not None:
        return subject.source.entropy
    if not subject.exhaustive:
        return None
    cache = subject.cache
    codes = tuple(torch.cat(level) for level in zip(*(cache.codes(split) for split in SPLITS), strict=True))
    return code_map_entropy(codes, torch.cat([cache.labels(split) for split in SPLITS]) if labels else None)


def _excess(subject: Subject, likelihood: Likelihood) -> Measurements:
    """How far a prior is above what is possible: in nats/code, paired by image with the truth, or over all images there are."""
    if subject.truth is not None:
        excess = excess_over(likelihood.of(TEST).sum(axis=0), subject.truth, subject.length, likelihood.protocol)
        check_not_below(excess, "a prior")
        return {"excess": excess}
    if not subject.exhaustive:
        return {}
    entropy = code_entropy(subject, labels=likelihood.labels) or 0.0
    images = np.concatenate([likelihood.of(split).sum(axis=0) for split in SPLITS])
    # KL(truth || prior): over all signals of an exhaustive set it is exact, so it has no interval
    above = excess_nats(float(images.mean()), entropy)
    check_floor(above, entropy, "a prior")
    key = evolve(likelihood.protocol, split="all").key("nats/code", metric="excess")
    return {"excess": Measurement(above / subject.length, None, len(images), key)}


def _samples(
    subject: Subject, samples: Drawn, tokenizer: TokenizerAssessment, about: dict[str, str], *, labels: Tensor | None
) -> tuple[Measurements, Mapping[str, Tensor]]:
    """How samples differ from held-out codes, and from the signals behind them; and their features."""
    found = code_distances(subject, samples.codes, about)
    if subject.signals is None or samples.signals is None:
        return found, {}
    features = tables(subject, samples.signals)
    known = tokenizer.references
    found |= sample_distances(subject, known.test, features, about)
    found |= closeness_to_train(subject, known.train, known.test, features, about)
    for name in subject.signals.spaces:
        if f"fd/{name}" in found and f"fd/{name}" in known.rows[ORACLE]:
            found[f"prior_gap/{name}"] = _prior_gap(found[f"fd/{name}"], known.rows[ORACLE][f"fd/{name}"])
    if labels is not None and tells_classes(subject.signals):
        found["cas"] = accuracy_on_test(subject, samples.signals, labels, about)
    return found, features


def _prior_gap(fd: Measurement, oracle: Measurement) -> Measurement:
    """What of a distance is the prior's: less that of decoded held-out codes."""
    key = Key(f"{fd.key.metric} - {ORACLE}", fd.key.unit, fd.key.protocol)
    return Measurement(fd.value - oracle.value, None, fd.n, key)


def _drawn_labels(subject: Subject) -> Tensor:
    """Labels for the samples, with the frequencies of the test split."""
    labels = subject.cache.labels(TEST)
    shuffled = labels[permutation(len(labels), fold(0, "labels"))]
    return shuffled[: subject.n]


def _sampler(*, labelled: bool) -> dict[str, str]:
    """How samples are drawn, for the protocol of their distance."""
    conditioning = "labels, as in the test split" if labelled else "none"
    return {"source": "samples", "temperature": "1.0", "top_k": "all", "top_p": "1.0", "conditioning": conditioning}
