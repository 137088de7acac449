"""The pixels of image files, kept on disk from one opening of a set to the next."""

import hashlib
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import final

import numpy as np
from numpy.typing import NDArray

from dvgen.blocks.array_cache import CachedRows, Record, RowWriter, remove, writing
from dvgen.blocks.cache_folder import cache_folder
from dvgen.blocks.file_tree import FileStates, file_states
from dvgen_images.decoding import TRANSFORM, versions
from dvgen_images.files import Seen, hash_files

LAYOUT = 1  # raised when the arrays of the record change
TICK = 2_000_000_000  # ns; the coarsest clock of a file system in use
UNSETTLED = -2  # no time of a file


@final
class PixelCache:
    """Pixels uint8 (n, 3, size, size) of the files of a set, under the cache folder; a row each, also for unreadable ones.

    It is named by what decides the pixels, as far as that can be known without reading: how files are decoded, their names,
    sizes, and times of writing, but not where they lie, so copies of a set share one. Programs may set the time of writing,
    so a file that was changed in any way since, or lies elsewhere, is read and must have the hash of the one decoded.
    """

    def __init__(self, root: Path, names: Sequence[str], size: int) -> None:
        self._root, self._names = root, names
        self._shape = (len(names), 3, size, size)
        self._looked = time.time_ns()
        self._states = file_states(root, names)
        self._folder = cache_folder() / "images" / _key(names, size, self._states)
        self._record: Record = {}
        self._rows: CachedRows | None = None

    def find(self) -> list[Seen] | None:
        """What became of every file when it was decoded, or None when that is not known or no longer true."""
        opened = CachedRows.open(self._folder)
        if opened is None:
            return None
        readable, hashes = opened.record["readable"], opened.record["sha256"].astype("U64")
        doubtful = np.flatnonzero(opened.record["changed"] != self._states.changed)
        if hash_files(self._root, [self._names[row] for row in doubtful.tolist()]) != hashes[doubtful].tolist():
            remove(self._folder)
            return None
        self._rows = opened
        return [Seen(*row) for row in zip(hashes.tolist(), np.where(readable, "", "not decoded").tolist(), strict=True)]

    def writing(self) -> AbstractContextManager[RowWriter]:
        """A writer of the rows; what it is to finish with is `record(seen)`."""
        return writing(self._folder, self._shape, np.uint8)

    def record(self, seen: Sequence[Seen]) -> Record:
        """What became of the files, in a form that can be written; rows of any other cache are not read from here on."""
        # a file may be written again within the tick of its clock, and then has the time it had
        settled = self._states.changed < self._looked - TICK
        self._record = {
            "sha256": np.array([one.sha256 for one in seen], dtype="S64"),
            "readable": np.array([not one.fault for one in seen]),
            "changed": np.where(settled, self._states.changed, UNSETTLED),
        }
        return self._record

    def read(self, rows: NDArray[np.int64], into: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """Read pixels of files (b,) into an array (b, 3, size, size), and say which of them (b,) were there and whole."""
        if self._rows is None:  # it may be written by now, by this process or by another
            self._rows = self._written()
        return np.zeros(len(rows), dtype=np.bool_) if self._rows is None else self._rows.read(rows, into)

    def _written(self) -> CachedRows | None:
        opened = CachedRows.open(self._folder)
        if opened is None or not np.array_equal(opened.record["sha256"], self._record["sha256"]):
            return None
        return opened


def _key(names: Sequence[str], size: int, states: FileStates) -> str:
    hashed = hashlib.sha256(f"{LAYOUT}/{size}/{TRANSFORM}/{versions()}".encode())
    for name, length, modified in zip(names, states.sizes.tolist(), states.modified.tolist(), strict=True):
        hashed.update(f"\0{length} {modified} {name}".encode("utf-8", "surrogateescape"))
    return hashed.hexdigest()[:32]
