"""Splits: every signal in exactly one, the same for every run; and the reading of a data set batch by batch."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dvgen import Component
from dvgen.config import structure
from dvgen.data.loading import data_hash, open_dataset, signal_batches
from dvgen.data.splits import SPLITS, split
from dvgen.errors import ConfigError, DataError
from dvgen.experiment import DataChoice
from dvgen.interfaces.data import Dataset
from dvgen.registry import Registry, Supplied
from dvgen_images.shapes import Shapes


class Numbers(Dataset):
    """Signals that are their own index."""

    def __init__(self, parts):
        n = max(stop for _, stop in parts.values())
        self.shape, self.classes, self.parts = (1, 1), ("even", "odd"), parts
        self.labels = torch.arange(n) % 2

    def signals(self, indices):
        return torch.tensor(indices, dtype=torch.float32).reshape(-1, 1, 1)

    def digest(self):
        return "numbers"


def test_official_parts_are_kept():
    found = split(Numbers({"train": (0, 6), "validation": (6, 8), "test": (8, 11)}))
    assert {name: part.tolist() for name, part in found.items()} == {
        "train": [0, 1, 2, 3, 4, 5],
        "validation": [6, 7],
        "test": [8, 9, 10],
    }


@settings(max_examples=25, deadline=None)
@given(n=st.integers(3, 300), test=st.integers(0, 20))
def test_splits_are_disjoint_and_together_everything(n, test):
    parts = {"train": (0, n)} | ({"test": (n, n + test)} if test else {})
    found = split(Numbers(parts))
    assert tuple(found) == SPLITS
    assert torch.cat(list(found.values())).sort().values.tolist() == list(range(n + test))
    assert len(found["validation"]) == max(1, n // 10)
    assert len(found["test"]) == (test or max(1, n // 10))
    assert all(part.dtype == torch.int64 and torch.equal(part, part.sort().values) for part in found.values())


def test_carved_splits_are_capped():
    found = split(Numbers({"train": (0, 200_000)}))
    assert [len(found[name]) for name in SPLITS] == [185_000, 5000, 10_000]


def test_the_split_is_fixed():
    """Written down once: if this changes, no number can be compared with one measured before."""
    found = split(Numbers({"train": (0, 40)}))
    assert (found["validation"].tolist(), found["test"].tolist()) == ([0, 12, 14, 25], [13, 16, 17, 19])


def test_a_carved_split_is_spread_over_the_set():
    """Sets are stored class by class, so a split must not be a run of neighbours: its mean index is that of the whole."""
    found = split(Numbers({"train": (0, 10_000)}))
    for name in ("validation", "test"):
        assert abs(found[name].double().mean() - 5000) < 5 * 10_000 / (12 * 1000) ** 0.5


@pytest.mark.parametrize(
    ("parts", "match"),
    [
        ({"train": (0, 2)}, "train split is empty"),
        ({"train": (0, 9), "test": (9, 9)}, "test split is empty"),
        ({"train": (0, 9), "test": (8, 12)}, "do not divide"),
        ({"train": (0, 9), "test": (10, 12)}, "do not divide"),
        ({"test": (0, 9)}, "do not divide"),
        ({"train": (0, 9), "holdout": (9, 12)}, "do not divide"),
    ],
)
def test_a_bad_division_is_an_error(parts, match):
    with pytest.raises(DataError, match=match):
        split(Numbers(parts))


def test_batches_follow_the_indices():
    dataset = Numbers({"train": (0, 10)})
    indices = torch.tensor([9, 0, 3, 4, 4])
    batches = list(signal_batches(dataset, indices, 2))
    assert [len(labels) for _, labels in batches] == [2, 2, 1]
    assert torch.equal(torch.cat([signals for signals, _ in batches]).flatten(), indices.float())
    assert torch.equal(torch.cat([labels for _, labels in batches]), indices % 2)


def test_the_data_hash_names_everything_training_takes():
    plain = Numbers({"train": (0, 10)})
    other = Numbers({"train": (0, 9), "test": (9, 10)})
    relabelled = Numbers({"train": (0, 10)})
    relabelled.labels = 1 - relabelled.labels
    assert data_hash(plain) == data_hash(Numbers({"train": (0, 10)}))
    assert len({data_hash(plain), data_hash(other), data_hash(relabelled)}) == 3


def test_a_choice_is_opened_with_its_fields_and_its_location():
    component = Component("dataset", "shapes", "dvgen_images.shapes:Shapes", "scenes")
    registry = Registry([Supplied(component, "images", "dvgen")])
    dataset = open_dataset(registry, DataChoice(use="shapes", fields={"shapes": 2, "colours": 1, "positions": 2}))
    assert isinstance(dataset, Shapes)
    assert len(dataset) == 2 * 1 * 3 * 2 * 2
    with pytest.raises(ConfigError, match="no location"):
        open_dataset(registry, DataChoice(use="shapes", location="there"))
    with pytest.raises(ConfigError, match=r"dataset\.shapes"):
        open_dataset(registry, DataChoice(use="shapes", fields={"shapes": 7}))
    assert structure({}, Shapes.Config) == Shapes.Config()
