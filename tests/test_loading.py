"""Opening data sets: each one's fault is its own."""

from collections.abc import Sequence
from typing import Any, final

import pytest
from torch import Tensor
from toy_components import NoiseDataset, Nothing

from dvgen import Component
from dvgen.data.loading import survey
from dvgen.errors import ConfigError, ShapeError
from dvgen.experiment import DataChoice
from dvgen.interfaces.data import Dataset
from dvgen.registry import Registry, Supplied


@final
class NoiseOnRequest(Nothing, Dataset):
    """The toy data set, opened as any other."""

    located = False

    def __init__(self, config: Any, *, location: str | None) -> None:
        if location is not None:
            raise ShapeError("no such shape")
        self._noise = NoiseDataset()
        self.shape, self.classes, self.labels = self._noise.shape, self._noise.classes, self._noise.labels
        self.parts = self._noise.parts

    def signals(self, indices: Sequence[int]) -> Tensor:
        return self._noise.signals(indices)

    def digest(self) -> str:
        return self._noise.digest()


def registry_of(*components: tuple[str, str]) -> Registry:
    """Data sets (name, target), one plugin each."""
    return Registry(
        [
            Supplied(Component("dataset", name, target, "a toy"), f"plugin{i}", "toys 1.0")
            for i, (name, target) in enumerate(components)
        ]
    )


REGISTRY = registry_of(
    ("whole", "test_loading:NoiseOnRequest"),
    ("unimportable", "no_such_module:Set"),
    ("foreign", "collections:Counter"),
    ("abstract", "dvgen.interfaces.data:Dataset"),
    ("twice", "test_loading:NoiseOnRequest"),
    ("twice", "test_loading:NoiseOnRequest"),
)


@pytest.mark.parametrize(
    ("name", "location", "fault"),
    [
        ("unimportable", None, "cannot be imported from no_such_module:Set"),
        ("foreign", None, "is not a subclass of"),
        ("abstract", None, "does not define"),
        ("twice", None, "is supplied twice"),
        ("whole", "somewhere", "no such shape"),
    ],
)
def test_a_broken_data_set_is_the_fault_of_its_row_and_not_the_end_of_the_listing(
    name: str, location: str | None, fault: str
) -> None:
    row = survey(REGISTRY, DataChoice(use=name, location=location))
    assert (row["name"], row["location"]) == (name, location)
    assert fault in row["fault"]
    assert isinstance(row["summary"], str)


def test_a_data_set_that_opens_has_no_fault() -> None:
    row = survey(REGISTRY, DataChoice(use="whole"))
    assert (row["fault"], row["summary"], row["shape"]) == (None, "a toy", (3, 8, 8))
    assert sum(row["splits"].values()) == 24


def test_a_name_that_nobody_supplies_is_the_callers_fault() -> None:
    with pytest.raises(ConfigError, match="no dataset named 'hole'"):
        survey(REGISTRY, DataChoice(use="hole"))
