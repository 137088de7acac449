"""Sealed folders: files that are either whole or not there, and whose every byte is checked on opening. Imports no torch.

The files and then a manifest (sizes and SHA-256) are written into a hidden folder beside the target, flushed to disk, and
renamed into place; the parent is flushed last. A folder without a manifest, or one that differs from it, is refused.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dvgen.errors import IntegrityError

MANIFEST = "MANIFEST.json"
SCHEMA = 1


def seal(folder: Path, fill: Callable[[Path], None], about: Mapping[str, Any]) -> None:
    """Make `folder` hold what `fill` writes into the (flat) folder it is given, with `about` in its manifest.

    An older folder of that name is replaced. Nothing appears at `folder` unless all of it is on disk.
    """
    aside = folder.parent / f".writing-{folder.name}-{os.getpid()}"
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    try:
        fill(aside)
        files = {path.name: {"bytes": path.stat().st_size, "sha256": sha256(path)} for path in sorted(aside.iterdir())}
        text = json.dumps({"schema": SCHEMA, "about": dict(about), "files": files}, indent=1, sort_keys=True)
        (aside / MANIFEST).write_text(text, encoding="utf-8")
        for path in aside.iterdir():
            flush(path)
        flush(aside)
        if folder.exists():
            old = folder.parent / f".old-{folder.name}-{os.getpid()}"
            folder.rename(old)
            aside.rename(folder)
            shutil.rmtree(old)
        else:
            aside.rename(folder)
        flush(folder.parent)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise


def verify(folder: Path) -> dict[str, Any]:
    """Check every file of a sealed folder and return the manifest's `about`; raises IntegrityError with the fault."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        files, about, schema = manifest["files"], manifest["about"], manifest["schema"]
    except FileNotFoundError:
        raise IntegrityError(f"{folder}: no {MANIFEST}, so it was never finished") from None
    except (ValueError, KeyError, TypeError):
        raise IntegrityError(f"{folder}: {MANIFEST} is damaged") from None
    if schema != SCHEMA:
        raise IntegrityError(f"{folder}: written with schema {schema}, this dvgen reads {SCHEMA}; update dvgen")
    present = {path.name for path in folder.iterdir()} - {MANIFEST}
    if present != set(files):
        odd = sorted(present.symmetric_difference(files))
        raise IntegrityError(f"{folder}: {odd[0]} is {'unexpected' if odd[0] in present else 'missing'}")
    for name, entry in files.items():
        path = folder / name
        if path.is_symlink() or path.stat().st_size != entry["bytes"] or sha256(path) != entry["sha256"]:
            raise IntegrityError(f"{path}: damaged (its bytes are not those that were written)")
    return dict(about)


def write_json(path: Path, value: object) -> None:
    """Replace a JSON file in one act: readers see the old text or the new, never a part."""
    write_text(path, json.dumps(value, indent=1, sort_keys=True) + "\n")


def write_text(path: Path, text: str) -> None:
    """Replace a text file in one act."""
    aside = path.with_name(f".{path.name}-{os.getpid()}")
    aside.write_text(text, encoding="utf-8")
    flush(aside)
    aside.replace(path)


def sha256(path: Path) -> str:
    """SHA-256 (hex) of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def flush(path: Path) -> None:
    """Wait until a file, or the entries of a folder, are on disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
