"""Sealed folders: files that are either whole or not there, and whose every byte is checked on opening. Imports no torch.

The files and then a manifest (their sizes and SHA-256, and its own) are written into a hidden folder beside the target,
flushed to disk, and renamed into place; the parent is flushed last. A folder without a manifest, or one that differs from
it, is refused.
"""

import hashlib
import json
import os
import shutil
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dvgen.errors import IntegrityError

MANIFEST = "MANIFEST.json"
SCHEMA = 1


def seal(folder: Path, fill: Callable[[Path], None], about: Mapping[str, Any]) -> None:
    """Make `folder` hold what `fill` writes into the (flat) folder it is given, with `about` in its manifest.

    `about` is what JSON can hold. An older folder of that name is replaced. Nothing appears at `folder` unless all of it
    is on disk, and when anything fails the older folder is still there.
    """
    aside = folder.parent / f".writing-{folder.name}-{os.getpid()}"
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    try:
        fill(aside)
        files = {path.name: {"bytes": path.stat().st_size, "sha256": sha256(path)} for path in sorted(aside.iterdir())}
        (aside / MANIFEST).write_text(_manifest(json.loads(json.dumps(about)), files), encoding="utf-8")
        for path in aside.iterdir():
            flush(path)
        flush(aside)
        _put(aside, folder)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise


def verify(folder: Path) -> dict[str, Any]:
    """Check every file of a sealed folder and return the manifest's `about`; raises IntegrityError with the fault."""
    try:
        text = (folder / MANIFEST).read_bytes().decode()
        manifest = json.loads(text)
        schema, about, files = manifest["schema"], manifest["about"], manifest["files"]
    except (FileNotFoundError, NotADirectoryError):
        raise IntegrityError(f"{folder}: no {MANIFEST}, so it was never finished") from None
    except (ValueError, KeyError, TypeError):
        raise IntegrityError(f"{folder}: {MANIFEST} is damaged") from None
    if schema != SCHEMA:
        raise IntegrityError(f"{folder}: written with schema {schema}, this dvgen reads {SCHEMA}; update dvgen")
    # the same text again, not only the same hash: then no byte of the manifest can change unseen
    if text != _manifest(about, files):
        raise IntegrityError(f"{folder}: {MANIFEST} is damaged")
    present = {path.name for path in folder.iterdir()} - {MANIFEST}
    if present != set(files):
        odd = sorted(present.symmetric_difference(files))
        raise IntegrityError(f"{folder}: {odd[0]} is {'unexpected' if odd[0] in present else 'missing'}")
    for name, entry in files.items():
        path = folder / name
        whole = path.is_file() and not path.is_symlink() and path.stat().st_size == entry["bytes"]
        if not whole or sha256(path) != entry["sha256"]:
            raise IntegrityError(f"{path}: damaged (its bytes are not those that were written)")
    return dict(about)


def _manifest(about: Mapping[str, Any], files: Mapping[str, Any]) -> str:
    """The one text of a manifest; it ends in the hash of the rest of itself."""
    body = {"schema": SCHEMA, "about": about, "files": files}
    whole = body | {"seal": hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()}
    return json.dumps(whole, indent=1, sort_keys=True) + "\n"


def _put(aside: Path, folder: Path) -> None:
    """Rename a finished folder into place. Killed in between, a folder is whole, or absent and whole beside it."""
    old = folder.parent / f".old-{folder.name}-{os.getpid()}"
    if folder.exists():
        shutil.rmtree(old, ignore_errors=True)
        folder.rename(old)
    try:
        aside.rename(folder)
    except BaseException:
        if old.exists():
            old.rename(folder)
        raise
    flush(folder.parent)
    shutil.rmtree(old, ignore_errors=True)


def write_json(path: Path, value: object) -> None:
    """Replace a JSON file in one act: readers see the old text or the new, never a part."""
    write_text(path, json.dumps(value, indent=1, sort_keys=True) + "\n")


def write_text(path: Path, text: str) -> None:
    """Replace a text file in one act; the new text is on disk on return."""
    aside = path.with_name(f".{path.name}-{os.getpid()}-{threading.get_ident()}")
    try:
        aside.write_text(text, encoding="utf-8")
        flush(aside)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
    flush(path.parent)


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
