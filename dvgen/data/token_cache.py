"""Codes extracted once by a tokenizer, in memory-mapped files of a sealed folder.

A split has one .npy file a level, (n, *grid), one of class labels and one of the indices of the signals in their data set.
The manifest says which tokenizer made the codes and of which data, so that codes of another are never used by mistake.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import attrs
import numpy as np
import torch
from attrs import field, frozen
from attrs.validators import ge, min_len
from numpy.lib.format import open_memmap
from torch import Tensor

from dvgen import sealed
from dvgen.config import structure, unstructure
from dvgen.errors import ConfigError, IntegrityError, ShapeError
from dvgen.experiment import digest
from dvgen.interfaces.codes import Codes, Level, check_codes


@frozen(kw_only=True)
class TokenIdentity:
    """What makes codes what they are.

    tokenizer: its fingerprint. data: the hash of the data set. levels: those of the tokenizer. num_classes: of the labels.
    splits: how many signals each has.
    """

    tokenizer: str
    data: str
    levels: tuple[Level, ...] = field(validator=min_len(1))
    num_classes: int = field(validator=ge(1))
    splits: Mapping[str, int] = field(validator=min_len(1))

    @property
    def hash(self) -> str:
        """SHA-256 (hex) of all of this: what a likelihood of these codes carries in its protocol."""
        return digest(self)


class TokenBatch(NamedTuple):
    """Codes of b signals, (b, *grid) int64 a level and none masked; class labels (b,); indices in the data set (b,)."""

    codes: Codes
    labels: Tensor
    indices: Tensor


def write_tokens(folder: Path, tables: Mapping[str, Iterable[TokenBatch]], identity: TokenIdentity) -> None:
    """Write the batches of every split, in their order, and seal the folder; one batch at a time is in memory.

    Raises ShapeError when the codes are not those of `identity`: other splits, another count, another shape, out of range.
    """
    if set(tables) != set(identity.splits):
        raise ShapeError(f"tokens of splits {sorted(tables)}, expected {sorted(identity.splits)}")

    def fill(aside: Path) -> None:
        for split, batches in tables.items():
            _write_split(aside, split, batches, identity)

    sealed.seal(folder, fill, unstructure(identity))


@frozen(eq=False)
class TokenCache:
    """A sealed folder of codes, opened for reading. Files are mapped, so a set larger than memory is read in batches."""

    identity: TokenIdentity
    _arrays: Mapping[str, np.ndarray]

    @classmethod
    def open(cls, folder: Path, identity: TokenIdentity | None = None) -> Self:
        """Check every byte, and that the codes are those of `identity` (None: whatever is there; see `.identity`).

        Raises IntegrityError when the folder is damaged or unfinished, or of another identity, naming what differs.
        """
        about = sealed.verify(folder)
        try:
            found = structure(about, TokenIdentity)
        except ConfigError as error:
            raise IntegrityError(f"{folder}: not a folder of tokens: {error}") from None
        if identity is not None:
            _compare(folder, found, identity)
        layouts = [_layout(split, size, found) for split, size in found.splits.items()]
        return cls(found, {name: _map(folder / name, *layout[name]) for layout in layouts for name in layout})

    @property
    def levels(self) -> tuple[Level, ...]:
        """The levels of the codes."""
        return self.identity.levels

    @property
    def num_classes(self) -> int:
        """How many classes the labels may name."""
        return self.identity.num_classes

    def size(self, split: str) -> int:
        """Signals in a split."""
        return self.identity.splits[split]

    def codes(self, split: str, indices: Tensor | Sequence[int] | None = None) -> Codes:
        """The codes of these positions of a split (None: of all), int64 (b, *grid) a level."""
        return tuple(self._rows(_codes_file(split, i), indices) for i in range(len(self.levels)))

    def labels(self, split: str, indices: Tensor | Sequence[int] | None = None) -> Tensor:
        """The class labels of these positions of a split (None: of all), int64 (b,)."""
        return self._rows(_labels_file(split), indices)

    def signal_indices(self, split: str, indices: Tensor | Sequence[int] | None = None) -> Tensor:
        """Where in the data set the signals of these positions of a split (None: of all) are, int64 (b,)."""
        return self._rows(_indices_file(split), indices)

    def _rows(self, name: str, indices: Tensor | Sequence[int] | None) -> Tensor:
        array = self._arrays[name]
        rows = array if indices is None else array[np.asarray(indices, dtype=np.int64)]
        return torch.from_numpy(rows.astype(np.int64))


def _codes_file(split: str, level: int) -> str:
    return f"{split}-codes-{level}.npy"


def _labels_file(split: str) -> str:
    return f"{split}-labels.npy"


def _indices_file(split: str) -> str:
    return f"{split}-indices.npy"


def _layout(split: str, size: int, identity: TokenIdentity) -> dict[str, tuple[tuple[int, ...], type]]:
    """Shape and type of every file of a split: the levels in order, labels, indices."""
    codes = {_codes_file(split, i): ((size, *level.grid), _smallest(level)) for i, level in enumerate(identity.levels)}
    return codes | {_labels_file(split): ((size,), np.int64), _indices_file(split): ((size,), np.int64)}


def _smallest(level: Level) -> type:
    """The type that the codes of a level are stored in."""
    if level.num_codes <= 1 << 16:
        return np.uint16
    return np.uint32 if level.num_codes <= 1 << 32 else np.int64


def _map(path: Path, shape: tuple[int, ...], kind: type) -> np.ndarray:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise IntegrityError(f"{path}: not an array ({error}); extract the codes again") from None
    if (array.shape, array.dtype) != (shape, kind):
        raise IntegrityError(f"{path}: {array.dtype} {array.shape}, expected {np.dtype(kind)} {shape}; extract the codes again")
    return array


def _write_split(folder: Path, split: str, batches: Iterable[TokenBatch], identity: TokenIdentity) -> None:
    size = identity.splits[split]
    layout = _layout(split, size, identity)
    arrays = [open_memmap(folder / name, mode="w+", dtype=kind, shape=shape) for name, (shape, kind) in layout.items()]
    start = 0
    for batch in batches:
        check_codes(batch.codes, identity.levels)
        stop = start + len(batch.labels)
        columns = (*batch.codes, batch.labels, batch.indices)
        if stop > size or any(len(column) != stop - start for column in columns):
            raise ShapeError(f"split {split!r}: a batch of {[len(c) for c in columns]} rows after {start} of {size}")
        if any(int(column.min()) < 0 for column in columns if len(column)):
            raise ShapeError(f"split {split!r}: a masked code or a negative label cannot be cached")
        for array, column in zip(arrays, columns, strict=True):
            array[start:stop] = column.cpu().numpy()
        start = stop
    if start != size:
        raise ShapeError(f"split {split!r}: got {start} signals, expected {size}")
    for array in arrays:
        array.flush()


def _compare(folder: Path, found: TokenIdentity, expected: TokenIdentity) -> None:
    for name in (f.name for f in attrs.fields(TokenIdentity)):
        has, wanted = _plain(getattr(found, name)), _plain(getattr(expected, name))
        if has != wanted:
            raise IntegrityError(f"{folder}: codes of another {name}: they have {has}, expected {wanted}; extract them again")


def _plain(value: Any) -> Any:
    return value if isinstance(value, str) else unstructure(value)
