"""Everything that is measured of a tokenizer and of a prior, with the protocol of each number."""

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import numpy as np
import torch
from attrs import evolve, frozen
from numpy.typing import NDArray
from torch import Tensor

from dvgen.code_model import CodeModel
from dvgen.data.loading import data_hash, signal_batches
from dvgen.data.order import permutation
from dvgen.data.splits import SPLITS
from dvgen.data.token_cache import TokenCache
from dvgen.evaluation.baselines import LeftUp, Unigram
from dvgen.evaluation.codebook import CodebookUse
from dvgen.evaluation.fidelity import fidelity_of
from dvgen.evaluation.frechet import feature_table, frechet_distance, frechet_key
from dvgen.evaluation.kernel_distance import kernel_distance, kernel_key
from dvgen.evaluation.measurement import Measurement
from dvgen.evaluation.nll import LikelihoodProtocol, check_floor, code_map_entropy, excess_nats, likelihoods, per_image_nats
from dvgen.evaluation.sampling import Request, Samples, draw_samples
from dvgen.evaluation.sounds import sampling_rate
from dvgen.experiment import Evaluation
from dvgen.interfaces.codes import Codes
from dvgen.interfaces.data import Dataset
from dvgen.interfaces.features import Features
from dvgen.interfaces.prior import Sampling
from dvgen.seeding import fold
from dvgen.tokenizer import Tokenizer

SPLIT = "test"
Floats = NDArray[np.float64]


@frozen
class Subject:
    """What is assessed, and with what: a tokenizer in evaluation mode, its data, its codes, the features of the distance.

    `pause` is called before each batch of work, and may raise to stop.
    """

    tokenizer: Tokenizer
    dataset: Dataset
    splits: Mapping[str, Tensor]
    cache: TokenCache
    features: Features
    settings: Evaluation
    pause: Callable[[], None]

    @property
    def device(self) -> torch.device:
        """Where the tokenizer is."""
        return next(self.tokenizer.parameters()).device

    def signals(self) -> Iterator[Tensor]:
        """Batches of the test split's signals, in one fixed shuffled order, so that any first part is a fair sample."""
        indices = self.splits[SPLIT]
        shuffled = indices[permutation(len(indices), fold(0, "assessment"))]
        for signals, _ in signal_batches(self.dataset, shuffled, self.settings.batch):
            self.pause()
            yield signals


class TokenizerAssessment(NamedTuple):
    """measurements by name; reference: features of the test signals; originals and reconstructed: the first of them."""

    measurements: dict[str, Measurement]
    reference: Tensor
    originals: Tensor
    reconstructed: Tensor


class PriorAssessment(NamedTuple):
    """measurements by name; nats: (levels, n) negative log-probability of every test image; samples: uncurated."""

    measurements: dict[str, Measurement]
    nats: Floats
    samples: Samples


@torch.no_grad()
def assess_tokenizer(subject: Subject) -> TokenizerAssessment:
    """PSNR (SNR of sound), distances of reconstructions, the use of every codebook; over the whole test split."""
    limit = subject.settings.samples
    grid = subject.settings.grid
    fidelity = fidelity_of(subject.dataset)
    decibels: list[Tensor] = []
    seen = 0
    kept: list[tuple[Tensor, Tensor]] = []
    for signals in subject.signals():
        moved = signals.to(subject.device)
        reconstructed = subject.tokenizer.decode(subject.tokenizer.encode(moved)).clamp(-1, 1)
        decibels.append(fidelity.decibels(reconstructed, moved).cpu())
        if seen < max(limit, grid):
            kept.append((signals, reconstructed.cpu()))
        seen += len(signals)
    originals, decoded = (torch.cat(side) for side in zip(*kept, strict=True))
    found = fidelity.mean(decibels, data_hash(subject.dataset), SPLIT)
    reference, features = (_features(subject, side[:limit]) for side in (originals, decoded))
    found |= _distances(subject, reference, features, {"source": "reconstructions"}, "reconstruction_")
    for level, code in zip(subject.cache.levels, subject.cache.codes(SPLIT), strict=True):
        use = CodebookUse.of(level, code).measurements(subject.cache.identity.hash, SPLIT)
        found |= {f"usage/{level.name}": use[0], f"perplexity/{level.name}": use[1]}
    return TokenizerAssessment(found, reference, originals[:grid], decoded[:grid])


@torch.no_grad()
def assess_prior(subject: Subject, model: CodeModel, reference: Tensor, *, labels: bool, seed: int) -> PriorAssessment:
    """Exact held-out likelihood, its excess over the exact entropy where that is known, and the distances of samples.

    reference: features of the test signals. Raises IntegrityError when the likelihood is better than can be.
    """

    def log_probs(codes: Codes, given: Tensor | None) -> tuple[Tensor, ...]:
        subject.pause()
        return model(tuple(code.to(subject.device) for code in codes), None if given is None else given.to(subject.device))

    cache, batch = subject.cache, subject.settings.batch
    known = {split: cache.labels(split) if labels else None for split in SPLITS}
    splits = SPLITS if subject.dataset.exhaustive else (SPLIT,)
    nats = {split: per_image_nats(log_probs, cache.codes(split), known[split], batch) for split in splits}
    exact = zip(model.levels, model.exact_levels, strict=True)
    protocol = LikelihoodProtocol(
        codes=cache.identity.hash,
        split=SPLIT,
        conditioning="labels" if labels else "none",
        bounds=frozenset(level.name for level, is_exact in exact if not is_exact),
    )
    found = likelihoods(nats[SPLIT], cache.levels, protocol)
    if subject.dataset.exhaustive:
        found["excess"] = _excess(subject, nats, protocol)
    request = Request(
        n=subject.settings.samples,
        labels=_drawn_labels(subject) if labels else None,
        sampling=Sampling(),
        seed=seed,
        batch=batch,
    )
    samples = draw_samples(model, subject.tokenizer, request, subject.pause)
    table = _features(subject, samples.signals)
    found |= _distances(subject, reference, table, _sampler(labels))
    return PriorAssessment(found, nats[SPLIT], samples)


def assess_baselines(subject: Subject) -> dict[str, dict[str, Measurement]]:
    """The likelihood of count models fitted on the training codes: unigram, and given the left and upper neighbours."""
    protocol = LikelihoodProtocol(codes=subject.cache.identity.hash, split=SPLIT)
    found = {}
    for name, model in (("unigram", Unigram), ("left+up", LeftUp)):
        rows = [
            model.fit(train, level.num_codes).nats(test)
            for level, train, test in zip(
                subject.cache.levels, subject.cache.codes("train"), subject.cache.codes(SPLIT), strict=True
            )
        ]
        found[name] = likelihoods(np.stack(rows), subject.cache.levels, protocol)
    return found


def code_entropy(subject: Subject, *, labels: bool) -> float | None:
    """Exact entropy of the code map in nats, over all signals; None when the data set is not the whole distribution."""
    if not subject.dataset.exhaustive:
        return None
    cache = subject.cache
    codes = tuple(torch.cat(level) for level in zip(*(cache.codes(split) for split in SPLITS), strict=True))
    return code_map_entropy(codes, torch.cat([cache.labels(split) for split in SPLITS]) if labels else None)


def _excess(subject: Subject, nats: Mapping[str, Floats], protocol: LikelihoodProtocol) -> Measurement:
    """KL(truth || prior) in nats/code: over all signals of an exhaustive set it is exact, so it has no interval."""
    entropy = code_entropy(subject, labels=protocol.conditioning == "labels") or 0.0
    images = np.concatenate([nats[split].sum(axis=0) for split in SPLITS])
    excess = excess_nats(float(images.mean()), entropy)
    check_floor(excess, entropy, "a prior")
    length = sum(level.length for level in subject.cache.levels)
    return Measurement(excess / length, None, len(images), evolve(protocol, split="all").key("nats/code", metric="excess"))


def _drawn_labels(subject: Subject) -> Tensor:
    """Labels for the samples, with the frequencies of the test split."""
    labels, wanted = subject.cache.labels(SPLIT), subject.settings.samples
    shuffled = labels[permutation(len(labels), fold(0, "labels"))]
    return shuffled.repeat(-(-wanted // len(labels)))[:wanted]


def _sampler(labels: bool) -> dict[str, str]:
    """How samples are drawn, for the protocol of their distance."""
    conditioning = "labels, as in the test split" if labels else "none"
    return {"source": "samples", "temperature": "1.0", "top_k": "all", "top_p": "1.0", "conditioning": conditioning}


def _features(subject: Subject, signals: Tensor) -> Tensor:
    return feature_table(subject.features, signals.split(subject.settings.batch))


def _distances(
    subject: Subject, reference: Tensor, table: Tensor, sampler: dict[str, str], prefix: str = ""
) -> dict[str, Measurement]:
    """fd (Frechet) and kd (kernel) by name; nothing when there are too few images for the first to mean anything."""
    sizes = (len(reference), len(table))
    if min(sizes) <= subject.features.dim:
        return {}
    bits = 8 if sampling_rate(subject.dataset) is None else 16
    measured_on = f"{data_hash(subject.dataset)[:16]}/{SPLIT}"
    frechet = frechet_key(subject.features, measured_on, sizes, sampler, bits=bits)
    kernel = kernel_key(subject.features, measured_on, sizes, sampler, bits=bits)
    return {
        f"{prefix}fd": Measurement(frechet_distance(reference, table), None, sizes[1], frechet),
        f"{prefix}kd": Measurement(kernel_distance(reference, table), None, sizes[1], kernel),
    }
