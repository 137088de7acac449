"""Other people's code, from checkouts: `--peer NAME=PATH`, as often as there are peers. None of it is copied, or changed.

    git clone https://github.com/rosinality/vq-vae-2-pytorch       --peer rosinality=vq-vae-2-pytorch
    git clone https://github.com/CompVis/taming-transformers       --peer taming=taming-transformers

What they import and do not need for what is measured (lightning, transformers' filters, progress bars, downloads of weights)
is replaced while their modules are imported, and only then.
"""

import argparse
import importlib
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

from torch import nn


class LightningModule(nn.Module):
    """As much of Lightning's as a training step asks for."""

    global_step = 0

    def log(self, *arguments: Any, **named: Any) -> None:
        """Lightning's logger is not what is measured."""

    log_dict = log


class NoPerceptualLoss(nn.Module):
    """In the place of LPIPS, which would download weights; it is never called where its weight is 0."""


def _rosinality() -> dict[str, ModuleType]:
    return {"tqdm": _module("tqdm", tqdm=iter)}


def _taming() -> dict[str, ModuleType]:
    return {
        "tqdm": _module("tqdm", tqdm=iter),
        "requests": _module("requests"),
        "transformers": _module("transformers", top_k_top_p_filtering=None),
        "pytorch_lightning": _module("pytorch_lightning", LightningModule=LightningModule),
        "main": _module("main", instantiate_from_config=lambda made: made),
        "taming.modules.losses.lpips": _module("taming.modules.losses.lpips", LPIPS=NoPerceptualLoss),
    }


def _module(name: str, **contents: Any) -> ModuleType:
    module = ModuleType(name)
    module.__spec__ = ModuleSpec(name, None)
    vars(module).update(contents)
    return module


NEEDED = {
    "rosinality": ("pixelsnail.py", "vqvae.py", "sample.py"),
    "taming": ("taming/modules/transformer/mingpt.py", "taming/models/vqgan.py"),
}
REPLACED = {"rosinality": _rosinality, "taming": _taming}


class Peers:
    """The checkouts that were named. A peer that was not is left out of the tables, with a word."""

    def __init__(self, folders: dict[str, Path]) -> None:
        self.folders = folders

    def __contains__(self, name: str) -> bool:
        return name in self.folders

    def module(self, peer: str, name: str) -> ModuleType:
        """A module of a peer, by the name it has for itself, e.g. "taming.modules.transformer.mingpt"."""
        importlib.import_module("torchvision")  # before, lest it finds the replacements, for it asks what is installed
        with _importing(self.folders[peer], REPLACED[peer]()):
            try:
                return importlib.import_module(name)
            except ImportError as error:
                _refuse(f"--peer {peer}={self.folders[peer]}: {name} cannot be imported: {error}")

    def versions(self) -> dict[str, str]:
        """Where each lies, and its commit if it is a checkout of git."""
        return {name: f"{folder.name} at {_commit(folder)}" for name, folder in self.folders.items()}

    def missing(self, *names: str) -> list[str]:
        """What to tell of those that were not named."""
        return [f"without {name}: no --peer {name}=PATH was given" for name in names if name not in self.folders]


def add_option(parser: argparse.ArgumentParser, names: Sequence[str] = tuple(NEEDED)) -> None:
    """--peer NAME=PATH, repeatable."""
    told = f"a checkout to compare with, repeatable; NAME is {' or '.join(names)}"
    parser.add_argument("--peer", action="append", default=[], metavar="NAME=PATH", help=told)


def opened(given: Sequence[str], names: Sequence[str] = tuple(NEEDED)) -> Peers:
    """The checkouts that --peer names; one line and exit code 2 for an unknown name or another folder."""
    folders: dict[str, Path] = {}
    for text in given:
        name, _, path = text.partition("=")
        if name not in names or not path:
            _refuse(f"--peer {text}: expected NAME=PATH with NAME one of {', '.join(names)}")
        folder = Path(path).expanduser().resolve()
        if lacking := [file for file in NEEDED[name] if not (folder / file).is_file()]:
            _refuse(f"--peer {text}: {folder / lacking[0]} does not exist; PATH must be a checkout of {name}'s repository")
        folders[name] = folder
    return Peers(folders)


def _refuse(text: str) -> NoReturn:
    print(text, file=sys.stderr)
    raise SystemExit(2)


@contextmanager
def _importing(folder: Path, replaced: dict[str, ModuleType]) -> Iterator[None]:
    """Put a checkout first on the path, with replacements; afterwards the interpreter knows neither, nor the peer's modules.

    The peers' names (`distributed`, `main`, `sample`) are too common to leave them about, and a replaced `transformers` would
    deceive whoever imports it later.
    """
    before = dict(sys.modules)
    own = {path.name.removesuffix(".py") for path in folder.iterdir()}
    for name in [name for name in sys.modules if name.partition(".")[0] in own]:
        del sys.modules[name]
    sys.modules |= replaced
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        for name in [name for name in sys.modules if name.partition(".")[0] in own or name in replaced]:
            del sys.modules[name]
            if name in before:
                sys.modules[name] = before[name]
        sys.modules |= {name: module for name, module in before.items() if name not in sys.modules}


def _commit(folder: Path) -> str:
    command = ["git", "-C", str(folder), "rev-parse", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)  # noqa: S603
    except OSError:
        return "an unknown commit"
    return done.stdout.strip()[:12] or "an unknown commit"
