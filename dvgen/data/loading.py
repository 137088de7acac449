"""Opening a data set, reading it batch by batch, and the hash that names what was read."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import Tensor

from dvgen.assembly import build
from dvgen.config import unstructure
from dvgen.data.splits import split
from dvgen.errors import DvgenError, PluginError
from dvgen.experiment import DataChoice, digest
from dvgen.interfaces.data import CodeSource, Dataset
from dvgen.registry import Registry

ROOT = "DVGEN_DATA"
"""The environment variable that names the folder in which data sets are looked for when no location is given."""


def open_dataset(registry: Registry, choice: DataChoice) -> Dataset:
    """The data set that a choice names. Raises ConfigError for a fault of the choice, DataError when the data are not there."""
    cls = registry.load("dataset", choice.use)
    location = choice.location
    if location is None and cls.located:
        location = str(Path(os.environ.get(ROOT, "data")) / choice.use)
    return build(registry, "dataset", choice, location=location)  # type: ignore[no-any-return]


def open_source(registry: Registry, choice: DataChoice) -> CodeSource:
    """The source of codes that a choice names; raises ConfigError for a fault of the choice."""
    return build(registry, "code-source", choice)  # type: ignore[no-any-return]


def survey(registry: Registry, choice: DataChoice) -> dict[str, Any]:
    """Whether a data set can be opened: its splits, shape, classes and skipped files, or the fault that stands against it.

    Raises ConfigError for a name that no plugin supplies.
    """
    row: dict[str, Any] = {"name": choice.use, "location": choice.location, "fault": None}
    try:
        row["summary"] = registry.find("dataset", choice.use).component.summary
    except PluginError as error:  # supplied twice
        return row | {"summary": "", "fault": str(error)}
    try:
        dataset = open_dataset(registry, choice)
        row["splits"] = {name: len(indices) for name, indices in split(dataset).items()}
    except DvgenError as error:
        return row | {"fault": str(error)}
    return row | {"shape": dataset.shape, "classes": dataset.classes, "skipped": dataset.skipped}


def signal_batches(dataset: Dataset, indices: Tensor, batch: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Signals (b, channels, *size) and labels (b,) of `indices` (n,) int64, in their order; the last batch may be smaller."""
    for part in indices.split(batch):
        yield dataset.signals(part.tolist()), dataset.labels[part]


def data_hash(dataset: Dataset) -> str:
    """SHA-256 (hex) of everything that training takes from a data set: its contents, shape, classes, labels and parts."""
    return digest(
        {
            "digest": dataset.digest(),
            "shape": dataset.shape,
            "classes": dataset.classes,
            "labels": dataset.labels.tolist(),
            "parts": dataset.parts,
        }
    )


def source_hash(choice: DataChoice, source: CodeSource) -> str:
    """SHA-256 (hex) of everything that decides the draws of a source of codes; every default of the choice is written out."""
    about = {"levels": unstructure(source.levels), "sizes": dict(source.sizes), "version": source.version}
    return digest({"source": choice.use, "fields": dict(choice.fields)} | about)
