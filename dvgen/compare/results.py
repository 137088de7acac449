"""The results of a comparison as one JSON document: schema 1, every value with its interval, count and key."""

import itertools
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from dvgen.config import unstructure
from dvgen.errors import IncomparableError
from dvgen.evaluation.assessment import Subject, TokenizerAssessment
from dvgen.evaluation.measurement import Measurement, best, difference
from dvgen.evaluation.statistics import mean_interval, seeds_interval
from dvgen.experiment import Experiment, table_of
from dvgen.training.folder import environment

SCHEMA = 1
Measurements = Mapping[str, Measurement]


@frozen
class Group:
    """One tokenizer, assessed, with the baselines and the exact entropy (nats an image, or None) of its codes."""

    experiment: Experiment
    subject: Subject
    assessment: TokenizerAssessment
    baselines: Mapping[str, Measurements]
    entropy: float | None
    folder: Path
    parameters: int
    seconds: float
    steps: int


@frozen
class Repeat:
    """One trained and assessed prior: measurements by name, nats (levels, n) of every test image."""

    folder: Path
    parameters: int
    measurements: Measurements
    nats: NDArray[np.float64]
    seconds: float
    steps: int
    samples_per_second: float

    def to_dict(self) -> dict[str, Any]:
        """Plain tables and numbers; the nats are kept in a file of their own."""
        return {
            "folder": self.folder.name,
            "parameters": self.parameters,
            "train_seconds": self.seconds,
            "steps": self.steps,
            "samples_per_second": self.samples_per_second,
            "measurements": plain(self.measurements),
        }

    @classmethod
    def from_dict(cls, table: Mapping[str, Any], folder: Path, nats: NDArray[np.float64]) -> Self:
        """The inverse of `to_dict`."""
        found = {name: Measurement.from_dict(value) for name, value in table["measurements"].items()}
        return cls(
            folder, table["parameters"], found, nats, table["train_seconds"], table["steps"], table["samples_per_second"]
        )


Rows = Sequence[tuple[Experiment, Sequence[Repeat]]]


def document(groups: Sequence[tuple[Group, Rows]], repeats: int) -> dict[str, Any]:
    """The whole `results.json`."""
    return {
        "schema": SCHEMA,
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "environment": environment(),
        "repeats": repeats,
        "intervals": "95 %, over test images"
        if repeats == 1
        else f"95 %, of likelihoods over test images and {repeats} repeats of stage two, of other values over the repeats",
        "groups": [_entry(group, rows) for group, rows in groups],
    }


def plain(measurements: Measurements) -> dict[str, Any]:
    """Measurements as JSON tables."""
    return {name: value.to_dict() for name, value in measurements.items()}


def _entry(group: Group, rows: Rows) -> dict[str, Any]:
    labels = row_labels([experiment for experiment, _ in rows])
    levels = [level.name for level in group.subject.cache.levels]
    merged = [(label, merge(repeats, levels), repeats) for label, (_, repeats) in zip(labels, rows, strict=True)]
    return {
        "tokenizer": _tokenizer(group),
        "rows": [
            {"prior": label, "experiment": table_of(experiment)} | _row(measurements, repeats)
            for (experiment, _), (label, measurements, repeats) in zip(rows, merged, strict=True)
        ],
        "baselines": [{"name": name, "measurements": plain(found)} for name, found in group.baselines.items()],
        "verdicts": verdicts(merged),
    }


def _tokenizer(group: Group) -> dict[str, Any]:
    experiment, cache = group.experiment, group.subject.cache
    dataset = group.subject.dataset
    return {
        "name": experiment.quantizer_label,
        "encoder": experiment.encoder.use,
        "data": experiment.data.use,
        "location": experiment.data.location,
        "images": {split: cache.size(split) for split in cache.identity.splits},
        "skipped": list(dataset.skipped),
        "folder": group.folder.name,
        "fingerprint": cache.identity.tokenizer,
        "codes": cache.identity.hash,
        "levels": unstructure(cache.levels),
        "codes_per_image": sum(level.length for level in cache.levels),
        "parameters": group.parameters,
        "train_seconds": group.seconds,
        "steps": group.steps,
        "entropy_nats_per_image": group.entropy,
        "conditioning": "labels" if experiment.labels else "none",
        "measurements": plain(group.assessment.measurements),
        "experiment": table_of(experiment),
    }


def row_labels(experiments: Sequence[Experiment]) -> list[str]:
    """What rows are called: the prior, or LEVEL=PRIOR for each of several, and the budget where rows differ in it."""
    priors = [experiment.prior_label for experiment in experiments]
    budgets = [experiment.train.prior.budget for experiment in experiments]
    return priors if len(set(budgets)) == 1 else [f"{prior} {budget}" for prior, budget in zip(priors, budgets, strict=True)]


def _row(measurements: Measurements, repeats: Sequence[Repeat]) -> dict[str, Any]:
    return {
        "parameters": repeats[0].parameters,
        "train_seconds": float(np.mean([repeat.seconds for repeat in repeats])),
        "steps": repeats[0].steps,
        "samples_per_second": float(np.mean([repeat.samples_per_second for repeat in repeats])),
        "measurements": plain(measurements),
        "repeats": [repeat.to_dict() for repeat in repeats],
    }


def merge(repeats: Sequence[Repeat], levels: Sequence[str] = ()) -> dict[str, Measurement]:
    """One measurement a name over all repeats: a likelihood's interval is over images and repeats, any other's over repeats.

    levels: their names, in the order of the nats; those of which there is no likelihood of its own do not matter.
    """
    if len(repeats) == 1:
        return dict(repeats[0].measurements)
    merged = {}
    for name, first in repeats[0].measurements.items():
        values = [repeat.measurements[name].value for repeat in repeats]
        for repeat in repeats:
            difference(first, repeat.measurements[name])  # raises when two repeats were measured differently
        mean, interval = mean_interval(values)
        merged[name] = Measurement(mean, interval, len(repeats), first.key)
    for name in ("nll", "bits_code", "bits_image"):
        merged[name] = _over_repeats(merged[name], repeats[0], name, [repeat.nats.sum(axis=0) for repeat in repeats])
    for i, level in enumerate(levels):
        for name in {f"nll/{level}", f"bits_image/{level}"} & merged.keys():
            merged[name] = _over_repeats(merged[name], repeats[0], name, [repeat.nats[i] for repeat in repeats])
    return merged


def _over_repeats(merged: Measurement, first: Repeat, name: str, nats: Sequence[NDArray[np.float64]]) -> Measurement:
    """A likelihood with its interval over images and repeats, from the nats (n,) of each repeat, in the unit it has."""
    total = float(np.mean(nats))
    scale = merged.value / total if total else 0.0  # a codebook of one code costs nothing, in any unit
    mean, interval = seeds_interval([values * scale for values in nats])
    return Measurement(mean, interval, first.measurements[name].n, merged.key)


def verdicts(rows: Sequence[tuple[str, Measurements, Sequence[Repeat]]]) -> list[dict[str, Any]]:
    """For every pair of rows on the same codes: the difference in nats/code, paired by image (and repeat), and what it says."""
    found: list[dict[str, Any]] = []
    for (one, first, mine), (other, second, its) in itertools.combinations(rows, 2):
        names = [one, other]
        try:
            better = best([first["nll"], second["nll"]])
        except IncomparableError as error:  # such as an exact likelihood and a bound
            found.append(
                {"pair": names, "difference": None, "interval": None, "unit": "nats/code", "verdict": f"not ranked: {error}"}
            )
            continue
        length = mine[0].nats.sum() / mine[0].measurements["nll"].value / mine[0].nats.shape[1]
        pairs = [(a.nats - b.nats).sum(axis=0) / length for a, b in zip(mine, its, strict=True)]
        mean, interval = mean_interval(pairs[0]) if len(pairs) == 1 else seeds_interval(pairs)
        tie = interval is None or interval[0] <= 0 <= interval[1]
        found.append(
            {
                "pair": names,
                "difference": mean,
                "interval": interval,
                "unit": "nats/code",
                "verdict": "tie" if tie else f"{names[better]} is better",
            }
        )
    return found
