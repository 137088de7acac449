"""The results of a comparison as one JSON document: schema 2, every value with its interval, count and key."""

import math
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from attrs import frozen

from dvgen.compare.merging import merge
from dvgen.compare.schema import SCHEMA
from dvgen.compare.verdicts import Contestant, fidelity, verdicts
from dvgen.config import unstructure
from dvgen.evaluation.distances import too_few
from dvgen.evaluation.measurement import Measurement
from dvgen.evaluation.nll import Floats, check_not_below, in_every_unit
from dvgen.evaluation.subject import Subject
from dvgen.evaluation.tokenizer_assessment import TokenizerAssessment
from dvgen.experiment import Experiment, table_of
from dvgen.training.folder import environment
from dvgen.training.meter import Spent
from dvgen.verify.checks import Verification

Measurements = Mapping[str, Measurement]


@frozen
class Group:
    """One tokenizer (or source of codes), assessed, with the baselines and the exact entropy (nats an image, or None).

    notes: what could not be measured, and why. parameters and spent: of the tokenizer, None where there is none.
    """

    experiment: Experiment
    subject: Subject
    assessment: TokenizerAssessment
    baselines: Mapping[str, Measurements]
    entropy: float | None
    folder: Path
    notes: tuple[str, ...]
    parameters: int | None
    spent: Spent | None


@frozen
class Repeat:
    """One trained and assessed prior: measurements by name, nats (levels, n) of every test image, and what it took to train."""

    folder: Path
    parameters: int
    measurements: Measurements
    nats: Floats
    spent: Spent
    samples_per_second: float
    verification: Verification

    def to_dict(self) -> dict[str, Any]:
        """Plain tables and numbers; the nats are kept in a file of their own."""
        return {
            "parameters": self.parameters,
            "train_seconds": self.spent.seconds,
            "steps": self.spent.steps,
            "budget_spent": unstructure(self.spent),
            "samples_per_second": self.samples_per_second,
            "verification": self.verification.to_dict(),
            "measurements": plain(self.measurements),
        }

    @classmethod
    def from_dict(cls, table: Mapping[str, Any], folder: Path, nats: Floats) -> Self:
        """The inverse of `to_dict`."""
        return cls(
            folder=folder,
            parameters=table["parameters"],
            measurements={name: Measurement.from_dict(value) for name, value in table["measurements"].items()},
            nats=nats,
            spent=Spent(**table["budget_spent"]),
            samples_per_second=table["samples_per_second"],
            verification=Verification.from_dict(table["verification"]),
        )


Rows = Sequence[tuple[Experiment, Sequence[Repeat]]]


def document(groups: Sequence[tuple[Group, Rows]], repeats: int, root: Path) -> dict[str, Any]:
    """The whole `results.json` of the folder `root`.

    Raises IntegrityError when repeats together are better than their source allows.
    """
    return {
        "schema": SCHEMA,
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "environment": environment(),
        "command": sys.argv,
        "repeats": repeats,
        "intervals": "95 %, of likelihoods over images, of other values over samples or test images"
        if repeats == 1
        else f"95 %, of test likelihoods over images and {repeats} repeats of stage two, of other values over the repeats",
        "groups": [_entry(group, rows, root) for group, rows in groups],
    }


def plain(measurements: Measurements) -> dict[str, Any]:
    """Measurements as JSON tables."""
    return {name: value.to_dict() for name, value in measurements.items()}


def _entry(group: Group, rows: Rows, root: Path) -> dict[str, Any]:
    contestants = [_contestant(group, experiment, repeats) for experiment, repeats in rows]
    return {
        "tokenizer": (_tokenizer(group) if group.subject.source is None else _source(group))
        | {"folder": _within(root, group.folder)},
        "rows": [
            {"prior": row.name, "budget": row.budget, "experiment": table_of(experiment), "ranked": not row.unranked}
            | _row(row, repeats)
            | {"repeats": [{"folder": _within(root, repeat.folder)} | repeat.to_dict() for repeat in repeats]}
            for row, (experiment, repeats) in zip(contestants, rows, strict=True)
        ],
        "references": _named(group.assessment.references.rows),
        "baselines": _named(group.baselines),
        "notes": [*group.notes, *_too_few(group)],
        "verdicts": verdicts(contestants),
        "fidelity": fidelity(contestants),
    }


def _too_few(group: Group) -> list[str]:
    return [] if group.subject.signals is None else too_few(group.subject.signals.spaces, group.subject.n)


def _within(root: Path, folder: Path) -> str:
    """A folder as it is found from the results."""
    return os.path.relpath(folder, root)


def _named(rows: Mapping[str, Measurements]) -> list[dict[str, Any]]:
    return [{"name": name, "measurements": plain(found)} for name, found in rows.items()]


def _contestant(group: Group, experiment: Experiment, repeats: Sequence[Repeat]) -> Contestant:
    return Contestant(
        name=experiment.prior_label,
        budget=experiment.train.prior.budget,
        measurements=merged_repeats(group, repeats),
        nats=[repeat.nats.sum(axis=0) / group.subject.length for repeat in repeats],
        repeats=[repeat.measurements for repeat in repeats],
        unranked=next((text for repeat in repeats if (text := repeat.verification.why_not)), ""),
    )


def _shared(group: Group) -> dict[str, Any]:
    """What a tokenizer and a source of codes both have."""
    cache = group.subject.cache
    return {
        "images": {split: cache.size(split) for split in cache.identity.splits},
        "fingerprint": cache.identity.tokenizer,
        "codes": cache.identity.hash,
        "levels": unstructure(cache.levels),
        "codes_per_image": group.subject.length,
        "entropy_nats_per_image": group.entropy,
        "conditioning": "labels" if group.experiment.labels else "none",
        "measurements": plain(group.assessment.measurements),
        "experiment": table_of(group.experiment),
    }


def _source(group: Group) -> dict[str, Any]:
    return {"kind": "truth", "name": group.experiment.data.use, "data": group.experiment.data.use} | _shared(group)


def _tokenizer(group: Group) -> dict[str, Any]:
    experiment, signals, spent = group.experiment, group.subject.signals, group.spent
    assert signals is not None
    assert spent is not None
    return {
        "kind": "tokenizer",
        "name": experiment.quantizer_label,
        "encoder": experiment.encoder.use,
        "data": experiment.data.use,
        "location": experiment.data.location,
        "skipped": list(signals.dataset.skipped),
        "parameters": group.parameters,
        "train_seconds": spent.seconds,
        "steps": spent.steps,
        "budget_spent": unstructure(spent),
    } | _shared(group)


def _row(row: Contestant, repeats: Sequence[Repeat]) -> dict[str, Any]:
    spent = [unstructure(repeat.spent) for repeat in repeats]
    means = {axis: float(np.mean([one[axis] for one in spent])) for axis in spent[0]}
    return {
        "parameters": repeats[0].parameters,
        "train_seconds": means["seconds"],
        "steps": repeats[0].spent.steps,
        "budget_spent": means,
        "samples_per_second": float(np.mean([repeat.samples_per_second for repeat in repeats])),
        "verification": next((r for r in repeats if not r.verification.verified), repeats[0]).verification.to_dict(),
        "measurements": plain(row.measurements),
    }


def merged_repeats(group: Group, repeats: Sequence[Repeat]) -> dict[str, Measurement]:
    """`merge` of them; raises IntegrityError where they are better, all together, than their source allows."""
    by_image = [_values_by_image(group, repeat.nats) for repeat in repeats]
    merged = merge([repeat.measurements for repeat in repeats], by_image)
    if group.subject.truth is not None:
        check_not_below(merged["excess"], f"{len(repeats)} repeats of a prior")
    return merged


def _values_by_image(group: Group, nats: Floats) -> dict[str, Floats]:
    """Every likelihood that is a mean over test images, by its name, (n,) each; nats (levels, n)."""
    subject, total = group.subject, nats.sum(axis=0)
    found = in_every_unit(nats, subject.cache.levels, subject.values)
    if subject.values is not None and group.assessment.decoder_nats is not None:
        found["image_bound"] = (total + group.assessment.decoder_nats) / math.log(2) / subject.values
    if subject.truth is not None:
        found["excess"] = (total + subject.truth) / subject.length
    return found
