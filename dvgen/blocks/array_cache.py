"""Rows of one large array in a folder of its own, which is whole or not there, and whose rows are checked as they are read.

A folder holds rows.npy, (n, *shape) with at least one axis beside n, and a record: a few small arrays, the CRC-32 of every
row among them, after a SHA-256 of them all. Rows are read from the file one by one and not mapped into memory, because a
disk that fails below a mapping kills the process, and a cache must never cost a run.

One process writes a folder at a time. It writes aside, under a lock that the system takes back when the process ends, and
renames; so what is aside and not locked is left over. Nothing waits for the disk: what a loss of power spoils is found when
it is read. Imports no torch.
"""

import fcntl
import hashlib
import io
import os
import shutil
import time
import warnings
import weakref
import zlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, Self, final
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from dvgen.blocks.cache_folder import CACHE

ROWS, RECORD = "rows.npy", "record"
SUMS = "crc32"
ASIDE = ".aside-"
SPARE = 0.1  # of the disk is left free: the cache is for speed, and others need room for what cannot be made again
UNUSED = 30 * 24 * 3600  # seconds after which what nobody has opened makes room when something new is written

Record = Mapping[str, NDArray[Any]]


@final
class CachedRows:
    """A whole folder, opened for reading by any number of threads. record: the small arrays it was written with."""

    def __init__(self, folder: Path, record: Record) -> None:
        self.record = record
        self._folder = folder
        self._sums = record[SUMS]
        self._handle = os.open(folder / ROWS, os.O_RDONLY)
        weakref.finalize(self, os.close, self._handle)
        with open(self._handle, "rb", closefd=False) as file:
            if np.lib.format.read_magic(file) != (1, 0):
                raise ValueError(f"{ROWS} is of another version")
            self.shape, _, self.dtype = np.lib.format.read_array_header_1_0(file)
            self._start = file.tell()
        self._bytes = int(np.prod(self.shape[1:])) * self.dtype.itemsize
        length = os.fstat(self._handle).st_size
        if self.shape[0] != len(self._sums) or length != self._start + len(self._sums) * self._bytes:
            raise ValueError(f"{ROWS} has another length than its record says")

    @classmethod
    def open(cls, folder: Path) -> Self | None:
        """What `folder` holds; None when it is not there, cannot be read, or is damaged: then it is removed, with a warning."""
        try:
            data = (folder / RECORD).read_bytes()
        except OSError:
            return None
        try:
            if hashlib.sha256(data[32:]).digest() != data[:32]:
                raise ValueError("the record is not the one that was written")
            with np.load(io.BytesIO(data[32:]), allow_pickle=False) as arrays:
                opened = cls(folder, dict(arrays))
        except Exception as error:  # numpy reads a damaged header as source text, which raises nearly anything
            _remove_damaged(folder, error)
            return None
        with suppress(OSError):
            os.utime(folder)  # when it was last of use
        return opened

    def read(self, rows: NDArray[np.int64], into: NDArray[Any]) -> NDArray[np.bool_]:
        """Read these rows (b,) into a contiguous array (b, *shape), and say which of them (b,) are what was written.

        When one is not, the folder is removed, with a warning; this one can still be read.
        """
        places = (memoryview(one).cast("B") for one in into)
        sound = np.array([self._read_row(*pair) for pair in zip(rows.tolist(), places, strict=True)], dtype=np.bool_)
        if not sound.all() and _is_at(self._handle, self._folder / ROWS):  # and not one that was made since
            _remove_damaged(self._folder, f"row {rows[~sound][0]} is not the one that was written")
        return sound

    def _read_row(self, row: int, into: memoryview) -> bool:
        try:
            got = os.preadv(self._handle, [into], self._start + row * self._bytes)
        except OSError:
            return False
        return got == self._bytes and zlib.crc32(into) == int(self._sums[row])


@final
class RowWriter:
    """Takes rows in any order and from any thread. Without a file, and once the disk has refused, it takes them for nothing.

    fault: why the disk has refused, if it has.
    """

    def __init__(self, folder: Path, aside: Path, file: BinaryIO | None, shape: tuple[int, ...], dtype: Any) -> None:
        self._folder, self._aside, self._file = folder, aside, file
        self.fault: OSError | None = None
        self._sums = np.zeros(shape[0], dtype=np.uint32)
        self._bytes = int(np.prod(shape[1:])) * np.dtype(dtype).itemsize
        if file is not None:
            description = {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, description)
            self._start = file.tell()
            file.truncate(self._start + shape[0] * self._bytes)  # rows that nobody writes are holes
            _check_room(self._aside, shape[0] * self._bytes)

    def write(self, start: int, rows: NDArray[Any]) -> None:
        """Rows (k, *shape) from row `start` on; never raises for a fault of the disk."""
        if self._file is None or self.fault is not None:
            return
        try:
            _check_room(self._aside, rows.nbytes)
            for row, one in enumerate(np.ascontiguousarray(rows), start):
                self._sums[row] = zlib.crc32(one)
                _write_all(self._file.fileno(), memoryview(one).cast("B"), self._start + row * self._bytes)
        except OSError as error:
            self.fault = error

    def finish(self, record: Record) -> None:
        """Put the folder in its place, with these small arrays (and no Python objects) for its record."""
        if self._file is None or self.fault is not None:
            return
        payload = io.BytesIO()
        arrays: dict[str, Any] = {SUMS: self._sums, **record}
        np.savez(payload, **arrays)
        data = payload.getvalue()
        try:
            (self._aside / RECORD).write_bytes(hashlib.sha256(data).digest() + data)
            self._aside.rename(self._folder)
        except OSError as error:
            self.fault = error


@contextmanager
def writing(folder: Path, shape: tuple[int, ...], dtype: Any) -> Iterator[RowWriter]:
    """A writer of rows, shape (n, ...), for `folder`, which appears when the writer has finished and not before.

    It takes rows for nothing when the folder is there, when another process is writing it, or, with a warning, when the
    disk refuses or would be left less than a tenth free. Whatever happens, nothing else remains.
    """
    aside = folder.with_name(f"{ASIDE}{folder.name}")
    with ExitStack() as stack:
        file: BinaryIO | None = None
        try:
            stack.enter_context(_alone(aside))
            if not folder.exists():
                _clear(folder.parent)
                file = (aside / ROWS).open("wb", buffering=0)
                stack.callback(_close, file)
            writer = RowWriter(folder, aside, file, shape, dtype)
        except OSError as error:
            writer = RowWriter(folder, aside, None, shape, dtype)
            writer.fault = None if isinstance(error, BlockingIOError) else error
        yield writer
    if writer.fault is not None:  # said here, since a warning may be made an error, and rows come from threads
        reason = writer.fault.strerror or writer.fault
        warnings.warn(
            f"{folder}: not written ({reason}), and will be made again next time; {CACHE} names its place", stacklevel=3
        )


def _remove_damaged(folder: Path, reason: object) -> None:
    warnings.warn(f"{folder}: damaged ({' '.join(str(reason).split())}); it is removed and made again", stacklevel=3)
    remove(folder)


def remove(folder: Path) -> None:
    """Remove a folder in one act, so that nobody opens a part; what cannot be removed stays."""
    aside = folder.with_name(f"{ASIDE}{folder.name}-{uuid4().hex}")
    with suppress(OSError):
        folder.rename(aside)
        shutil.rmtree(aside, ignore_errors=True)


@contextmanager
def _alone(aside: Path) -> Iterator[None]:
    """Make a folder, or take what a killed process left, and hold its lock; it is gone afterwards, unless it was renamed.

    Raises BlockingIOError when another process holds it.
    """
    aside.mkdir(parents=True, exist_ok=True)
    handle = os.open(aside, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not _is_at(handle, aside):
            raise BlockingIOError("another process has just renamed or removed it")
        try:
            yield
        finally:
            if _is_at(handle, aside):  # after a rename another process may be writing under this name
                shutil.rmtree(aside, ignore_errors=True)
    finally:
        os.close(handle)


def _is_at(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except OSError:
        return False


def _clear(parent: Path) -> None:
    """Remove what processes that were killed have left, and what nobody has opened for a long time."""
    oldest = time.time() - UNUSED
    for folder in parent.iterdir():
        with suppress(OSError):
            if folder.name.startswith(ASIDE):
                with _alone(folder):
                    pass
            elif folder.stat().st_mtime < oldest and {path.name for path in folder.iterdir()} == {ROWS, RECORD}:
                remove(folder)  # and nothing that somebody else keeps here


def _close(file: BinaryIO) -> None:
    with suppress(OSError):  # what a late refusal costs is found when it is read
        file.close()


def _check_room(place: Path, more: int) -> None:
    disk = shutil.disk_usage(place)
    if disk.free - more < SPARE * disk.total:
        raise OSError(f"{more} bytes more would leave less than {SPARE:.0%} of the disk free")


def _write_all(handle: int, data: memoryview, offset: int) -> None:
    while data:  # a disk that fills up takes a part, and refuses the rest
        written = os.pwrite(handle, data, offset)
        data, offset = data[written:], offset + written
