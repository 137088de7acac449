"""Image files, read and decoded by a pool of threads."""

import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dvgen_images.decoding import decode

Keep = Callable[[int, NDArray[np.uint8]], None]


class Seen(NamedTuple):
    """What became of a file: the hash of its bytes ("" for one that cannot be read), and why it cannot be decoded, or ""."""

    sha256: str
    fault: str


def decode_files(root: Path, names: Sequence[str], size: int, keep: Keep) -> list[Seen]:
    """Decode every file and hand its row and its pixels (3, size, size) to `keep`; Pillow decodes outside the GIL."""
    return _visit(root, names, lambda row, data: keep(row, decode(data, size)))


def hash_files(root: Path, names: Sequence[str]) -> list[str]:
    """SHA-256 (hex) of every file, "" for one that cannot be read."""
    return [seen.sha256 for seen in _visit(root, names, lambda row, data: None)]


def _visit(root: Path, names: Sequence[str], look: Callable[[int, bytes], None]) -> list[Seen]:
    """Read every file and let `look` have its row and bytes, in any thread; what `look` raises is the fault of the file."""

    def some(rows: Iterable[int]) -> list[Seen]:
        return [one(row) for row in rows]

    def one(row: int) -> Seen:
        path = root / names[row]
        sha256 = ""
        try:
            if not path.is_file():  # a pipe would be waited for, forever
                raise OSError("not a file")
            data = path.read_bytes()
            sha256 = hashlib.sha256(data).hexdigest()
            look(row, data)
        except Exception as error:  # a damaged image raises nearly anything
            return Seen(sha256, f"{type(error).__name__}: {error}")
        return Seen(sha256, "")

    workers = min(16, os.cpu_count() or 1)
    chunk = max(1, min(256, len(names) // workers))  # a task a file would cost more than a small file
    chunks = [range(start, min(start + chunk, len(names))) for start in range(0, len(names), chunk)]
    with ThreadPoolExecutor(workers) as pool:
        return [seen for part in pool.map(some, chunks) for seen in part]
