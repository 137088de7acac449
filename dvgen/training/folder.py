"""Run folders: who works in one, how far it is, what made it."""

import fcntl
import json
import os
import platform
import socket
import subprocess
import sys
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from dvgen.errors import ConfigError, DataError, IntegrityError, Stopped
from dvgen.sealed import write_json

STATUS, MANIFEST, CONFIG = "run.json", "manifest.json", "config.json"
COMMAND_LOCK, TRAINING_LOCK = "lock", "training.lock"
"""Of the command that works in a folder, and of whoever changes the stage in it: a row of a comparison is such a stage."""


@contextmanager
def locked(folder: Path, chief: bool = True, name: str = COMMAND_LOCK) -> Iterator[None]:
    """Keep every other command out of a folder; the operating system frees the lock of a process that dies.

    Of several ranks of one command only the `chief` takes the lock. Raises IntegrityError when another process holds it,
    DataError when the folder cannot be made or written.
    """
    if not chief:
        yield
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = (folder / name).open("a+")
    except OSError as error:
        raise DataError(f"{folder}: cannot be written: {error.strerror}; choose another folder with --out") from None
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            handle.seek(0)
            raise IntegrityError(
                f"{folder}: in use by process {handle.read().strip() or 'unknown'}; wait for it, or stop it"
            ) from None
        handle.truncate(0)
        handle.write(f"{os.getpid()} on {socket.gethostname()}\n")
        handle.flush()
        yield


@contextmanager
def working(folder: Path, chief: bool = True) -> Iterator[None]:
    """`locked`, with `run.json` telling how it went: running, then finished, stopped or failed."""
    with locked(folder, chief):
        if chief:
            write_status(folder, "running")
        try:
            yield
        except BaseException as error:
            if chief:
                stopped = isinstance(error, Stopped | KeyboardInterrupt)
                write_status(folder, "stopped" if stopped else "failed", error=f"{type(error).__name__}: {error}")
            raise
        if chief:
            write_status(folder, "finished")


def check_out(folder: Path, ours: Collection[str]) -> None:
    """Raise ConfigError when a folder holds anything but `ours`, so that nobody's files are mixed with a run's, or lost."""
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder}: a file; choose another folder with --out")
    present = {path.name for path in folder.glob("*") if not path.name.startswith(".")}
    others = sorted(present - {STATUS, COMMAND_LOCK, TRAINING_LOCK} - set(ours))
    if CONFIG in others:
        raise ConfigError(f"{folder}: a run is already there; go on with --resume {folder}, or choose another --out")
    if others:
        raise ConfigError(f"{folder}: not empty (it holds {others[0]}); choose an empty or a new folder with --out")


def write_status(folder: Path, status: str, **more: Any) -> None:
    """Replace `run.json`: status is running, finished, stopped or failed; the time of writing is its heartbeat."""
    write_json(folder / STATUS, {"schema": 1, "status": status, "heartbeat": time.time(), "pid": os.getpid(), **more})


def write_manifest(folder: Path, seed: int, more: Mapping[str, Any]) -> None:
    """Write `manifest.json`: versions, state of the source, command, hardware, and what the caller adds."""
    write_json(folder / MANIFEST, {"schema": 1, "seed": seed, "command": sys.argv, **environment(), **more})


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object of a run folder; raises IntegrityError when it is missing or damaged."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise IntegrityError(f"{path}: missing, so this is not a whole run folder") from None
    except ValueError:
        raise IntegrityError(f"{path}: damaged, not JSON") from None
    if not isinstance(value, dict):
        raise IntegrityError(f"{path}: damaged, not a JSON object")
    return value


def environment() -> dict[str, Any]:
    """Versions, hardware and the state of the source that results depend on."""
    names = ("dvgen", "torch", "torchvision", "lightning-fabric", "torchmetrics", "numpy")
    return {
        "versions": {name: version(name) for name in names},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "threads": torch.get_num_threads(),
        "cpu_count": os.cpu_count(),
        "cuda": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "git": _git(),
    }


def _git() -> dict[str, Any] | None:
    """The commit dvgen runs from and whether it has changes; None when it is installed without its repository."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    try:
        commit = _ask_git(root, "rev-parse", "HEAD")
        return {"commit": commit, "changed": bool(_ask_git(root, "status", "--porcelain", "--untracked-files=no"))}
    except (OSError, subprocess.SubprocessError):
        return None


def _ask_git(root: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=True, timeout=10)  # noqa: S603, S607
    return done.stdout.strip()
