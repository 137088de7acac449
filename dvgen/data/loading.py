"""Opening a data set, reading it batch by batch, and the hash that names what was read."""

from collections.abc import Iterator

from torch import Tensor

from dvgen.experiment import DataChoice, component_config, digest
from dvgen.interfaces.data import Dataset
from dvgen.registry import Registry


def open_dataset(registry: Registry, choice: DataChoice) -> Dataset:
    """The data set that a choice names. Raises ConfigError for a fault of the choice, DataError when the data are not there."""
    cls = registry.load("dataset", choice.use)
    return cls(component_config(registry, "dataset", choice), location=choice.location)


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
