"""Any folder of images."""

import hashlib
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, final

import numpy as np
import torch
from attrs import field, frozen
from attrs.validators import ge, le
from torch import Tensor

from dvgen.blocks.file_tree import Entry, existing_folder, find_files, part_ranges
from dvgen.errors import DataError
from dvgen.interfaces.data import Dataset
from dvgen_images.decoding import TRANSFORM, decode, quiet
from dvgen_images.pixels import to_signals

EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm")
MEMORY = 1 << 30  # bytes of pixels that are kept; a larger set is decoded again on demand
EXPECTED = f"images ({', '.join(EXTENSIONS)}), in it or in its sub-folders"


@final
class Folder(Dataset):
    """The images of a tree of files, (3, size, size); the class is the sub-folder, and top folders train/val/test are parts.

    Every file is decoded once on opening, so that those that cannot be read are known: they stand in `skipped`.
    """

    @frozen(kw_only=True)
    class Config:
        """size: pixels across; an image's shorter side is resized to it and the centre is cut out."""

        size: int = field(default=32, validator=[ge(8), le(2048)])

    def __init__(self, config: Any, *, location: str | None) -> None:
        self._root = existing_folder("folder", location, EXPECTED)
        self._size = config.size
        entries = find_files(self._root, EXTENSIONS)
        if not entries:
            raise DataError(f"folder: no image in {self._root}; expected {EXPECTED}")
        self._pixels, checked = self._read_all(entries)
        self.skipped = tuple(sorted(entry.name for entry, seen in zip(entries, checked, strict=True) if seen.fault))
        if len(self.skipped) == len(entries):
            raise DataError(
                f"folder: none of the {len(entries)} images in {self._root} can be read; "
                f"{entries[0].name}: {checked[0].fault}; expected {EXPECTED}"
            )
        self._entries = [entry for entry, seen in zip(entries, checked, strict=True) if not seen.fault]
        self._hashes = [seen.sha256 for seen in checked if not seen.fault]
        self.shape = (3, self._size, self._size)
        self.classes = tuple(sorted({entry.kind for entry in self._entries}))
        position = {kind: i for i, kind in enumerate(self.classes)}
        self.labels = torch.tensor([position[entry.kind] for entry in self._entries])
        self.parts = part_ranges([entry.part for entry in self._entries])

    def signals(self, indices: Sequence[int]) -> Tensor:
        wanted = torch.as_tensor(indices, dtype=torch.int64)
        if self._pixels is not None:
            return to_signals(self._pixels[wanted])
        pixels = np.empty((len(wanted), *self.shape), dtype=np.uint8)
        names = [self._entries[i].name for i in wanted.tolist()]
        for name, seen in zip(names, _read(self._root, names, self._size, pixels), strict=True):
            if seen.fault:
                raise DataError(f"{self._root / name}: could be read when the set was opened, not now: {seen.fault}")
        return to_signals(torch.from_numpy(pixels))

    def digest(self) -> str:
        hashed = hashlib.sha256(f"folder/{self._size}/{TRANSFORM}".encode())
        for entry, sha256 in zip(self._entries, self._hashes, strict=True):
            hashed.update(f"\n{sha256} {entry.name}".encode("utf-8", "surrogateescape"))
        return hashed.hexdigest()

    def _read_all(self, entries: Sequence[Entry]) -> tuple[Tensor | None, list["_Seen"]]:
        """Decode every file once: the pixels of the readable ones, or None when they are too many to keep."""
        names = [entry.name for entry in entries]
        if len(names) * 3 * self._size**2 > MEMORY:
            return None, _read(self._root, names, self._size, None)
        pixels = np.empty((len(names), 3, self._size, self._size), dtype=np.uint8)
        checked = _read(self._root, names, self._size, pixels)
        readable = np.array([not seen.fault for seen in checked])
        return torch.from_numpy(pixels if readable.all() else pixels[readable]), checked


class _Seen(NamedTuple):
    """What became of a file: the hash of its bytes, or why it cannot be read."""

    sha256: str
    fault: str


def _read(root: Path, names: Sequence[str], size: int, pixels: np.ndarray | None) -> list[_Seen]:
    """Decode files into the rows of `pixels` (dropped when None), with a pool of threads; Pillow decodes outside the GIL."""

    def some(rows: Iterable[int]) -> list[_Seen]:
        return [one(row) for row in rows]

    def one(row: int) -> _Seen:
        path = root / names[row]
        try:
            if not path.is_file():  # a pipe would be waited for, forever
                raise OSError("not a file")
            data = path.read_bytes()
            decoded = decode(data, size)
        except Exception as error:  # a damaged image raises nearly anything
            return _Seen("", f"{type(error).__name__}: {error}")
        if pixels is not None:
            pixels[row] = decoded
        return _Seen(hashlib.sha256(data).hexdigest(), "")

    workers = min(16, os.cpu_count() or 1)
    chunk = max(1, min(256, len(names) // workers))  # a task a file would cost more than a small file
    chunks = [range(start, min(start + chunk, len(names))) for start in range(0, len(names), chunk)]
    with quiet(), ThreadPoolExecutor(workers) as pool:
        return [seen for part in pool.map(some, chunks) for seen in part]
