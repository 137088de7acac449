"""The pixels of a list of image files, decoded once: kept in memory, on disk, or, where neither has room, decoded again."""

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import final

import numpy as np
from numpy.typing import NDArray

from dvgen.errors import DataError
from dvgen_images.decoding import silence
from dvgen_images.files import Seen, decode_files
from dvgen_images.pixel_cache import PixelCache

FEW = 64  # files that are not worth a folder on disk: small ones are decoded within milliseconds


@final
class DecodedFiles:
    """What became of each of n files, `seen`, and the pixels of the readable ones, whose numbers are `rows`.

    kept: uint8 (readable, 3, size, size) if they are to be kept in memory, otherwise None.
    """

    def __init__(self, root: Path, names: Sequence[str], size: int, *, keep: bool) -> None:
        silence()
        self._root, self._names, self._size = root, names, size
        self._cache = PixelCache(root, names, size) if len(names) >= FEW else None
        found = self._cache.find() if self._cache is not None else None
        decoded = np.zeros((len(names), 3, size, size), dtype=np.uint8) if keep and found is None else None
        self.seen = found if found is not None else self._decode_all(decoded)
        self.rows = np.flatnonzero([not seen.fault for seen in self.seen])
        self.kept: NDArray[np.uint8] | None = None
        if decoded is not None:
            self.kept = decoded if len(self.rows) == len(decoded) else decoded[self.rows]
        elif keep:
            self.kept = self.read(np.arange(len(self.rows)))

    def read(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Pixels (b, 3, size, size) of readable files (b,), counted from 0, from the disk; what is not there is decoded.

        Raises DataError when such a file is no longer what it was.
        """
        rows = self.rows[indices]
        pixels = np.empty((len(rows), 3, self._size, self._size), dtype=np.uint8)
        there = np.zeros(len(rows), dtype=np.bool_) if self._cache is None else self._cache.read(rows, pixels)
        self._decode_some(rows, np.flatnonzero(~there), pixels)
        return pixels

    def _decode_some(self, rows: NDArray[np.int64], missing: NDArray[np.int64], pixels: NDArray[np.uint8]) -> None:
        """Decode the files of rows[missing] into pixels[missing]."""

        def keep(i: int, decoded: NDArray[np.uint8]) -> None:
            pixels[missing[i]] = decoded

        wanted = rows[missing].tolist()
        for row, now in zip(
            wanted, decode_files(self._root, [self._names[row] for row in wanted], self._size, keep), strict=True
        ):
            if now != self.seen[row]:
                fault = now.fault or "its contents have changed"
                raise DataError(f"{self._root / self._names[row]}: could be read when the set was opened, not now: {fault}")

    def _decode_all(self, decoded: NDArray[np.uint8] | None) -> list[Seen]:
        """Decode every file into its row of `decoded`, if there is one, and onto the disk."""
        with nullcontext() if self._cache is None else self._cache.writing() as writer:

            def keep(row: int, pixels: NDArray[np.uint8]) -> None:
                if decoded is not None:
                    decoded[row] = pixels
                elif writer is not None:
                    writer.write(row, pixels[np.newaxis])

            seen = decode_files(self._root, self._names, self._size, keep)
            if self._cache is not None and writer is not None:
                record = self._cache.record(seen)
                if not all(one.fault for one in seen):
                    if decoded is not None:
                        writer.write(0, decoded)
                    writer.finish(record)
        return seen
