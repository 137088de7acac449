"""The python batches of CIFAR-10, which are pickles, read without running anything that a pickle may ask for."""

import pickle
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dvgen.errors import DataError

TRAIN = tuple(f"data_batch_{i}" for i in range(1, 6))
TEST = ("test_batch",)
META = "batches.meta"


class Batch(NamedTuple):
    """Pixels uint8 (n, 3072), red, green and blue planes in turn, and labels int64 (n,)."""

    pixels: np.ndarray
    labels: np.ndarray


def read_classes(path: Path) -> tuple[str, ...]:
    """The names of the ten classes, from batches.meta."""
    names = [_text(name) for name in _field(path, _load(path), "label_names", list)]
    if len(names) != 10:
        raise DataError(f"{path}: {len(names)} class names, expected 10; fetch it again")
    return tuple(names)


def read_batch(path: Path) -> Batch:
    """One batch. Raises DataError for anything but an array of bytes (n, 3072) and n labels from 0 to 9."""
    table = _load(path)
    pixels = _field(path, table, "data", _Array).array(path)
    labels = _field(path, table, "labels", list)
    if pixels.ndim != 2 or pixels.shape[1] != 3072 or len(labels) != len(pixels) or not labels:
        raise DataError(f"{path}: data of {pixels.shape} and {len(labels)} labels; expected (n, 3072) and n; fetch it again")
    if not all(type(label) is int and 0 <= label <= 9 for label in labels):
        raise DataError(f"{path}: a label is not an integer from 0 to 9; fetch it again")
    return Batch(pixels, np.array(labels, dtype=np.int64))


class _Array:
    """Stands in for a numpy array while unpickling: keeps what the pickle says about it, for us to judge."""

    state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def array(self, path: Path) -> np.ndarray:
        """The uint8 array that the pickle describes, in C order."""
        try:
            _, shape, dtype, fortran, raw = self.state
            if dtype.code != "u1" or fortran:
                raise ValueError(f"an array of {dtype.code!r}, expected bytes in C order")
            return np.frombuffer(_bytes(raw), dtype=np.uint8).reshape(shape)
        except (ValueError, TypeError, AttributeError) as error:
            raise DataError(f"{path}: its data is not an array of bytes ({error}); fetch it again") from None


class _Dtype:
    """Stands in for a numpy dtype: the letters of its type."""

    def __init__(self, code: Any, *_: Any) -> None:
        self.code = _text(code)

    def __setstate__(self, state: Any) -> None:
        """Byte order and the like say nothing about single bytes."""


def _reconstruct(*_: Any) -> _Array:
    return _Array()


def _encode(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"text in {encoding!r}")
    return text.encode("latin1")


_ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _encode,
}


class _Unpickler(pickle._Unpickler):
    """Knows the five names that the files of CIFAR-10 use, and gives stand-ins for them; refuses every other name.

    It derives from the unpickler written in Python, because a single wrong byte can make the one in C ask for 64 GB.
    """

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no CIFAR-10 file does; nothing was run") from None


def _load(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            table = _Unpickler(file, encoding="latin1").load()
        return {_text(key): value for key, value in table.items()}
    except FileNotFoundError:
        raise DataError(f"cifar10: no {path.name} in {path.parent}; the set is whole or not used") from None
    except Exception as error:  # a damaged pickle raises nearly anything
        raise DataError(f"{path}: refused: {error}; fetch it again from a source you trust") from None


def _field(path: Path, table: dict[str, Any], name: str, kind: type) -> Any:
    if not isinstance(table.get(name), kind):
        raise DataError(f"{path}: no {name!r} of the expected type; expected a python batch of CIFAR-10")
    return table[name]


def _bytes(value: Any) -> bytes:
    return value.encode("latin1") if isinstance(value, str) else bytes(memoryview(value))


def _text(value: Any) -> str:
    return value.decode("latin1") if isinstance(value, bytes) else str(value)
