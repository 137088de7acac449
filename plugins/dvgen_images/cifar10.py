"""CIFAR-10, from its python batches or from a tree of image files; https://www.cs.toronto.edu/~kriz/cifar.html."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from attrs import frozen
from einops import rearrange
from torch import Tensor

from dvgen.blocks.file_tree import existing_folder
from dvgen.errors import DataError
from dvgen.interfaces.data import Dataset
from dvgen_images.batches import META, TEST, TRAIN, read_batch, read_classes
from dvgen_images.folder import Folder
from dvgen_images.pixels import digest_pixels, to_signals

EXPECTED = "data_batch_1 to 5, test_batch and batches.meta (or cifar-10-batches-py with these), or train/CLASS/*.jpg"


@final
class CIFAR10(Dataset):
    """Photographs of ten kinds of things, (3, 32, 32), with the official parts train and test.

    Batches are read once and held as bytes; a tree of images is read as the data set `folder` reads it.
    """

    @frozen(kw_only=True)
    class Config:
        """Nothing to set."""

    def __init__(self, config: Any, *, location: str | None) -> None:
        root = existing_folder("cifar10", location, EXPECTED)
        source = _open(root)
        self.shape, self.classes, self.labels, self.parts = source.shape, source.classes, source.labels, source.parts
        self.skipped = source.skipped
        self._source = source

    def signals(self, indices: Sequence[int]) -> Tensor:
        return self._source.signals(indices)

    def digest(self) -> str:
        return self._source.digest()


def _open(root: Path) -> Dataset:
    for place in (root, root / "cifar-10-batches-py"):
        if any((place / name).is_file() for name in (META, *TRAIN, *TEST)):
            return _Batches(place)
    if (root / "train").is_dir():
        return Folder(Folder.Config(size=32), location=str(root))
    raise DataError(f"cifar10: nothing to read in {root}; expected {EXPECTED}")


@final
class _Batches(Dataset):
    """The set as its python batches hold it."""

    def __init__(self, root: Path) -> None:
        train = [read_batch(root / name) for name in TRAIN]
        batches = train + [read_batch(root / name) for name in TEST]
        pixels = torch.from_numpy(np.concatenate([batch.pixels for batch in batches]))
        self._pixels = rearrange(pixels, "n (c h w) -> n c h w", c=3, h=32)
        self.labels = torch.from_numpy(np.concatenate([batch.labels for batch in batches]))
        self.shape = (3, 32, 32)
        self.classes = read_classes(root / META)
        count = sum(len(batch.labels) for batch in train)
        self.parts = {"train": (0, count), "test": (count, len(self.labels))}

    def signals(self, indices: Sequence[int]) -> Tensor:
        return to_signals(self._pixels[torch.as_tensor(indices, dtype=torch.int64)])

    def digest(self) -> str:
        return digest_pixels("cifar10", self._pixels, self.labels, self.classes)
