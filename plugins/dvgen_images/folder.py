"""Any folder of images."""

import hashlib
from collections.abc import Sequence
from typing import Any, final

import torch
from attrs import field, frozen
from attrs.validators import ge, le
from torch import Tensor

from dvgen.blocks.file_tree import existing_folder, find_files, part_ranges
from dvgen.errors import DataError
from dvgen.interfaces.data import Dataset
from dvgen_images.decoded_files import DecodedFiles
from dvgen_images.decoding import TRANSFORM
from dvgen_images.pixels import to_signals

EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm")
MEMORY = 1 << 30  # bytes of pixels that are kept; those of a larger set are read from the cache on disk, batch by batch
EXPECTED = f"images ({', '.join(EXTENSIONS)}), in it or in its sub-folders"


@final
class Folder(Dataset):
    """The images of a tree of files, (3, size, size); the class is the sub-folder, and top folders train/val/test are parts.

    Every file is decoded on the first opening, so that those that cannot be read are known: they stand in `skipped`. Pixels
    and hashes are kept under $DVGEN_CACHE, and taken from there as long as no file is changed, added or removed.
    """

    @frozen(kw_only=True)
    class Config:
        """size: pixels across; an image's shorter side is resized to it and the centre is cut out."""

        size: int = field(default=32, validator=[ge(8), le(2048)])

    def __init__(self, config: Any, *, location: str | None) -> None:
        root = existing_folder("folder", location, EXPECTED)
        self._size = config.size
        entries = find_files(root, EXTENSIONS)
        if not entries:
            raise DataError(f"folder: no image in {root}; expected {EXPECTED}")
        self.shape = (3, self._size, self._size)
        fits = len(entries) * 3 * self._size**2 <= MEMORY
        self._files = DecodedFiles(root, [entry.name for entry in entries], self._size, keep=fits)
        self._pixels = None if self._files.kept is None else torch.from_numpy(self._files.kept)
        checked = self._files.seen
        self.skipped = tuple(sorted(entry.name for entry, seen in zip(entries, checked, strict=True) if seen.fault))
        if len(self.skipped) == len(entries):
            raise DataError(
                f"folder: none of the {len(entries)} images in {root} can be read; "
                f"{entries[0].name}: {checked[0].fault}; expected {EXPECTED}"
            )
        self._entries = [entries[row] for row in self._files.rows]
        self.classes = tuple(sorted({entry.kind for entry in self._entries}))
        position = {kind: i for i, kind in enumerate(self.classes)}
        self.labels = torch.tensor([position[entry.kind] for entry in self._entries])
        self.parts = part_ranges([entry.part for entry in self._entries])

    def signals(self, indices: Sequence[int]) -> Tensor:
        wanted = torch.as_tensor(indices, dtype=torch.int64)
        if self._pixels is not None:
            return to_signals(self._pixels[wanted])
        return to_signals(torch.from_numpy(self._files.read(wanted.numpy())))

    def digest(self) -> str:
        hashed = hashlib.sha256(f"folder/{self._size}/{TRANSFORM}".encode())
        for entry, row in zip(self._entries, self._files.rows, strict=True):
            hashed.update(f"\n{self._files.seen[row].sha256} {entry.name}".encode("utf-8", "surrogateescape"))
        return hashed.hexdigest()
