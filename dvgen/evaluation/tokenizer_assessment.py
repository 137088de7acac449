"""Everything that is measured of a tokenizer, over the whole test split."""

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from dvgen.data.loading import data_hash
from dvgen.evaluation.codebook import CodebookUse
from dvgen.evaluation.fidelity import fidelity_of
from dvgen.evaluation.image_bound import decoder_nats, fit_scales
from dvgen.evaluation.measurement import Key, Measurement
from dvgen.evaluation.nll import Floats
from dvgen.evaluation.references import Measurements, References, references, sample_distances, tables
from dvgen.evaluation.statistics import mean_interval
from dvgen.evaluation.subject import TEST, TRAIN, Signals, Subject, decoded


class TokenizerAssessment(NamedTuple):
    """measurements by name; references: what samples are compared with; originals and reconstructed: the first of them.

    decoder_nats: -log p(image | codes) of every test image, (n,), where the bound was asked for.
    """

    measurements: Measurements
    references: References
    originals: Tensor | None
    reconstructed: Tensor | None
    decoder_nats: Floats | None


@torch.no_grad()
def assess_codes(subject: Subject, *, labels: bool) -> TokenizerAssessment:
    """The use of every codebook; with signals also PSNR and its kin (SNR of sound), and distances of reconstructions."""
    found = _codebook_use(subject)
    rows = references(subject, labels=labels)
    if subject.signals is None:
        return TokenizerAssessment(found, rows, None, None, None)
    measured, originals, decoded_test = _reconstruct(subject, subject.signals)
    found |= measured
    distance = sample_distances(subject, rows.test, tables(subject, decoded_test[: subject.n]), {"source": "reconstructions"})
    found |= {f"reconstruction_{name}": value for name, value in distance.items() if name.startswith(("fd/", "kd/"))}
    bound = _bound(subject, subject.signals, rows) if subject.settings.bound else None
    if bound is not None:
        found["image_bound_decoder"] = image_bits(subject.signals, bound, "decoder's part of image bound", {})
    grid = subject.settings.grid
    return TokenizerAssessment(found, rows, originals[:grid], decoded_test[:grid], bound)


def image_bits(signals: Signals, nats: Floats, metric: str, about: Mapping[str, str]) -> Measurement:
    """A bound of the likelihood of test images, or a part of it, nats (n,), in bits per value of an image."""
    mean, interval = mean_interval(nats / (math.log(2) * math.prod(signals.dataset.shape)))
    decoder = {"reference": signals.reference, "decoder": "discretised logistic, scales of channels fitted on train"}
    return Measurement(mean, interval, len(nats), Key(metric, "bits/dim", decoder | {"likelihood": "bound"} | dict(about)))


def _codebook_use(subject: Subject) -> Measurements:
    found: Measurements = {}
    for level, code in zip(subject.cache.levels, subject.cache.codes(TEST), strict=True):
        use = CodebookUse.of(level, code).measurements(subject.cache.identity.hash, TEST)
        found |= {f"usage/{level.name}": use[0], f"perplexity/{level.name}": use[1]}
    return found


def _reconstruct(subject: Subject, signals: Signals) -> tuple[Measurements, Tensor, Tensor]:
    """Fidelity over the whole split; the first originals and their reconstructions, as many as are shown or compared."""
    fidelity = fidelity_of(signals.dataset)
    kept: list[tuple[Tensor, Tensor]] = []
    values: dict[str, list[Tensor]] = {}
    seen, wanted = 0, max(subject.n, subject.settings.grid)
    for batch in subject.batches(subject.positions(TEST)):
        original = signals.of(TEST, batch)
        reconstructed = signals.tokenizer.decode(signals.tokenizer.encode(original.to(subject.device))).clamp(-1, 1).cpu()
        for name, value in fidelity.measures(reconstructed, original).items():
            values.setdefault(name, []).append(value)
        if seen < wanted:
            kept.append((original, reconstructed))
        seen += len(batch)
    whole = {name: torch.cat(parts) for name, parts in values.items()}
    originals, decoded_test = (torch.cat(side) for side in zip(*kept, strict=True))
    return fidelity.measurements(whole, data_hash(signals.dataset), TEST), originals, decoded_test


def _bound(subject: Subject, signals: Signals, rows: References) -> Floats | None:
    """-log p(image | codes) of every test image under a discretised logistic decoder whose scales fit training residuals."""
    if signals.bits != 8 or rows.train_signals is None:
        return None
    scales = fit_scales(rows.train_signals, decoded(subject, subject.codes(TRAIN)))
    nats = [
        decoder_nats(signals.of(TEST, batch), decoded(subject, subject.cache.codes(TEST, batch)), scales)
        for batch in subject.batches(torch.arange(subject.cache.size(TEST)))
    ]
    return torch.cat(nats).numpy()
