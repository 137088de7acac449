"""A tree of image files: which there are, and what their places say about class and part."""

import os
from collections import deque
from pathlib import Path
from typing import NamedTuple

EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm")
PARTS = {"train": "train", "val": "validation", "validation": "validation", "test": "test"}
ORDER = ("train", "validation", "test")
UNSORTED = "all"


class Entry(NamedTuple):
    """An image file: its name (relative to the root, with /), its part and its class."""

    name: str
    part: str
    kind: str


def find_images(root: Path) -> list[Entry]:
    """The image files under `root`, part by part and sorted by name.

    Top folders that are all named train, val, validation or test, with train among them, are parts; otherwise everything
    is "train". The class is the next folder down, or "all" for a file that lies in none.
    """
    names = sorted(_walk(root))
    tops = {name.partition("/")[0] if "/" in name else "" for name in names}
    divided = "train" in tops and tops <= set(PARTS)
    entries = [_entry(name, divided) for name in names]
    return sorted(entries, key=lambda entry: (ORDER.index(entry.part), entry.name))


def _entry(name: str, divided: bool) -> Entry:
    top, _, below = name.partition("/") if divided else ("train", "/", name)
    kind, slash, _ = below.partition("/")
    return Entry(name, PARTS[top], kind if slash else UNSORTED)


def _walk(root: Path) -> list[str]:
    """Names of the files that look like images. Hidden files and folders are passed over.

    Each folder is entered once, real ones before links, so that loops end and no image counts twice.
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
                elif entry.name.lower().endswith(EXTENSIONS):
                    found.append(prefix + entry.name)
    return found
