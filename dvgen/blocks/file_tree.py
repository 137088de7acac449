"""A tree of files that is a data set: where it lies, which files there are, and what their places say about class and part."""

import os
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dvgen.errors import ConfigError, DataError

PARTS = {"train": "train", "val": "validation", "validation": "validation", "test": "test"}
ORDER = ("train", "validation", "test")
UNSORTED = "all"


class Entry(NamedTuple):
    """A file: its name (relative to the root, with /), its part and its class."""

    name: str
    part: str
    kind: str


class FileStates(NamedTuple):
    """What the system says of n files without reading them, each (n,) int64.

    sizes in bytes; modified: when the contents were last written, in ns, which programs may set back; changed: when anything
    about the file was last changed here, in ns, which they may not.
    """

    sizes: NDArray[np.int64]
    modified: NDArray[np.int64]
    changed: NDArray[np.int64]


def existing_folder(name: str, location: str | None, expected: str) -> Path:
    """The folder of `--data NAME:DIR`; `expected` says what it should hold.

    Raises ConfigError when no folder was named and DataError when it is not there.
    """
    if location is None:
        raise ConfigError(f"{name} needs a folder: --data {name}:DIR, where DIR holds {expected}")
    root = Path(location).expanduser()
    if not root.is_dir():
        raise DataError(f"{name}: no folder {root}; expected one that holds {expected}")
    return root


def find_files(root: Path, extensions: tuple[str, ...]) -> list[Entry]:
    """The files under `root` with one of these extensions, part by part and sorted by name.

    With a top folder train, the top folders train, val, validation and test are parts; without one, everything is "train".
    The class is the next folder down, or "all" for a file that lies in none.
    Raises DataError when there are files beside the parts: with every top folder taken for a class, those of the test
    part would be trained on.
    """
    names = sorted(_walk(root, extensions))
    divided = any(name.startswith("train/") for name in names)
    if divided:
        _check_parts(root, names)
    entries = [_entry(name, divided) for name in names]
    return sorted(entries, key=lambda entry: (ORDER.index(entry.part), entry.name))


def file_states(root: Path, names: Sequence[str]) -> FileStates:
    """The states of these files; a link to nowhere has -1 for all three."""
    states = [_state(f"{root}{os.sep}{name}") for name in names]
    sizes, modified, changed = np.array(states, dtype=np.int64).reshape(-1, 3).T
    return FileStates(sizes, modified, changed)


def part_ranges(parts: Sequence[str]) -> dict[str, tuple[int, int]]:
    """The half-open ranges of the parts that occur; `parts` names the part of every signal, and stands part by part."""
    return {part: (parts.index(part), parts.index(part) + parts.count(part)) for part in ORDER if part in parts}


def _state(path: str) -> tuple[int, int, int]:
    try:
        state = os.stat(path)
    except OSError:
        return -1, -1, -1
    return state.st_size, state.st_mtime_ns, state.st_ctime_ns


def _check_parts(root: Path, names: list[str]) -> None:
    strays = [name for name in names if name.partition("/")[0] not in PARTS or "/" not in name]
    if strays:
        top, slash, _ = strays[0].partition("/")
        raise DataError(
            f"{root}: the folder 'train' says that top folders are parts, but beside it is {top + slash!r}; expected only "
            "train, test and validation at the top, or none of them; move it away or into a part (a class named train: put "
            "all classes into a folder train)"
        )


def _entry(name: str, divided: bool) -> Entry:
    top, _, below = name.partition("/") if divided else ("train", "/", name)
    kind, slash, _ = below.partition("/")
    return Entry(name, PARTS[top], kind if slash else UNSORTED)


def _walk(root: Path, extensions: tuple[str, ...]) -> list[str]:
    """Names of the files with these extensions, in either case. Hidden files and folders are passed over.

    Each folder is entered once, real ones before links, so that loops end and no file counts twice.
    """
    found: list[str] = []
    entered: set[str] = set()
    pending = deque([""])
    while pending:
        prefix = pending.popleft()
        folder = root / prefix
        real = os.path.realpath(folder)
        if real in entered:
            continue
        entered.add(real)
        with os.scandir(folder) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                if entry.name.startswith("."):
                    continue
                if entry.is_dir():
                    (pending.append if entry.is_symlink() else pending.appendleft)(f"{prefix}{entry.name}/")
                elif entry.name.lower().endswith(extensions):
                    found.append(prefix + entry.name)
    return found
